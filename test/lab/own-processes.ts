import { join } from "node:path";
import { LAB_PROCESSES } from "../../src/lab/processes.ts";
import { run } from "../support/witness.ts";

const MAIN = join(import.meta.dir, "..", "..", "src", "main.ts");
const NAMES = Object.values(LAB_PROCESSES).join("|");

/**
 * Whether a process of the lab that was started of this program still runs, once those that die have died.
 * @param program this checkout, or what was built of it
 */
export function someoneRuns(program = MAIN): boolean {
  const looks = ["sh", "-c", `ps -eo args | grep -v grep | grep -Eq "${program} (${NAMES}) "`];
  for (let i = 0; i < 100; i++) {
    if (run(undefined, looks).exitCode !== 0) return false;
    Bun.sleepSync(50);
  }
  return true;
}
