/** `doctor --fix` on a terminal: shows each change, asks, tells how it went. */
import { createInterface } from "node:readline/promises";
import type { FixAudience } from "../examination/fixes.ts";
import { tell, tellAside } from "./output.ts";
import { style } from "./style.ts";

/** @param yes whether to make every change without asking. Without a person at the terminal nothing is changed. */
export function askAndTell(yes: boolean, json: boolean): FixAudience {
  return {
    confirm: ({ fix }) => {
      if (!json) tell((line) => `${style.hint("→")} ${style.command(line)}\n`, fix.command);
      return yes || (process.stdin.isTTY && ask());
    },
    made: (_, failure) => tellAside(madeText, failure),
  };
}

function madeText(failure: string | undefined): string {
  return failure === undefined ? `  ${style.good("✓")} done\n` : `  ${style.bad("✗")} ${failure}\n`;
}

async function ask(): Promise<boolean> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test(await lines.question("  do it? [y/N] "));
  } finally {
    lines.close();
  }
}
