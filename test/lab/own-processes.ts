import { join } from "node:path";
import { LAB_PROCESSES } from "../../src/lab/processes.ts";
import { run } from "../support/witness.ts";

const MAIN = join(import.meta.dir, "..", "..", "src", "main.ts");
const NAMES = Object.values(LAB_PROCESSES).join("|");
const LOOKS = ["sh", "-c", `ps -eo args | grep -v grep | grep -Eq "${MAIN} (${NAMES}) "`];

/** Whether a process of the lab that this checkout started still runs, once those that die have died. */
export function someoneRuns(): boolean {
  for (let i = 0; i < 100; i++) {
    if (run(undefined, LOOKS).exitCode !== 0) return false;
    Bun.sleepSync(50);
  }
  return true;
}
