/**
 * What becomes of a run whose output cannot be written. What was begun is brought to its end in any case: nothing is left
 * half done because a disk is full.
 */
import { tellAside } from "./output.ts";
import { style } from "./style.ts";

const MACHINE_CANNOT = 3;

/** To be called before anything is written. */
export function mindLostOutput(): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // The reader has gone (`| head`), and nobody is left to tell.
    if (error.code === "EPIPE") return;
    tellAside((said) => `${style.bad("✗")} writing to standard output: ${said}\n`, error.message);
    // Last of all, whatever the command itself says: who asked did not get the answer.
    process.once("exit", () => (process.exitCode = MACHINE_CANNOT));
  });
  process.stderr.on("error", () => {});
}
