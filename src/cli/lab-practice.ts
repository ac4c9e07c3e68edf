import { Command } from "commander";
import { FAULTS } from "../lab/faults.ts";
import { breakLab, mendLab } from "../lab/practice.ts";
import { delegated } from "./lab-realm.ts";
import { printJson, style, table } from "./style.ts";

interface Options {
  readonly list?: boolean;
  readonly json?: boolean;
}

const BREAK_HELP = `
Find out what is wrong with: wayout doctor ns-blue. Take it back with: wayout lab mend.`;

/** `wayout lab break` */
export function breakCommand(): Command {
  return new Command("break")
    .description("make one real fault in the lab, to practise on")
    .argument("[fault]", "its name; a surprise when none is given")
    .option("--list", "every fault there is")
    .option("--json", "one JSON value")
    .addHelpText("after", BREAK_HELP)
    .action(async (name: string | undefined, options: Options) => {
      if (options.list === true) return showFaults(options.json === true);
      if (delegated(["lab", "break", ...process.argv.slice(4)], "need")) return;
      const fault = await breakLab(name ?? surprise());
      if (options.json === true) printJson({ fault: fault.name, title: fault.title });
      else process.stdout.write(brokenText(name === undefined ? undefined : fault.title));
    });
}

function brokenText(title: string | undefined): string {
  const what = title === undefined ? "Something is broken now." : `Broken: ${title}`;
  return `${style.warn("!")} ${what}\n  ${style.command("wayout doctor ns-blue")}  ${style.quiet("find out")}\n  ${style.command("wayout lab mend")}        ${style.quiet("take it back")}\n`;
}

function surprise(): string {
  const possible = FAULTS.filter(({ needs }) => needs === undefined || Bun.which(needs) !== null);
  return possible[Math.floor(Math.random() * possible.length)]!.name;
}

function showFaults(json: boolean): void {
  if (json) {
    printJson(
      FAULTS.map(({ name, title, finding, family }) => ({ name, title, finding, family: family ?? 4 })),
    );
    return;
  }
  const rows = FAULTS.map(({ name, title }) => [`  ${style.strong(name)}`, title]);
  process.stdout.write(`${table(rows)}\n`);
}

/** `wayout lab mend` */
export function mendCommand(): Command {
  return new Command("mend")
    .description("take faults back: the one named, or all")
    .argument("[fault]", "its name")
    .option("--json", "one JSON value")
    .action(async (name: string | undefined, options: Options) => {
      if (delegated(["lab", "mend", ...process.argv.slice(4)], "need")) return;
      const mended = await mendLab(name);
      if (options.json === true) printJson({ mended });
      else if (mended.length === 0) process.stdout.write("Nothing was broken.\n");
      else process.stdout.write(`${style.good("✓")} Mended: ${mended.join(", ")}\n`);
    });
}
