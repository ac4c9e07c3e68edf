/** Small programs for tests: the plugin as it was built, and others on the same engine. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findCompiler, type EngineOptions } from "../../scripts/engine/compile.ts";
import { buildProgram } from "../../scripts/engine/plugin.ts";
import { pluginProgram } from "../cni/plugin.ts";

/** As `npm run build` made it. */
export function smallPlugin(): string {
  return `${pluginProgram()}-cni`;
}

let directory: string | undefined;
let programs = 0;

export function scratch(): string {
  if (directory !== undefined) return directory;
  const made = mkdtempSync(join(tmpdir(), "wayout-small-"));
  process.on("exit", () => rmSync(made, { recursive: true, force: true }));
  return (directory = made);
}

/** Builds a program from a module in JavaScript that sets `__wayout.main`. */
export async function program(module: string, shimFlags: EngineOptions["shimFlags"] = []): Promise<string> {
  const output = join(scratch(), `program-${++programs}`);
  await buildProgram(output, module, { compiler: findCompiler(), shimFlags });
  return output;
}
