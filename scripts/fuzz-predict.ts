/**
 * Predictions against the kernel with random rulesets, on and on until one differs or somebody presses Ctrl-C. Prints
 * the seed of every round; `WAYOUT_FUZZ_SEED=N npm run fuzz:predict` begins with that one.
 */
import { join } from "node:path";

const ROUND = 200;
const test = join(import.meta.dir, "test.ts");
let seed = Number(process.env["WAYOUT_FUZZ_SEED"] ?? Math.floor(Math.random() * 1_000_000_000));
for (;;) {
  console.log(`seeds from ${seed}`);
  const child = Bun.spawn([process.execPath, test, "test/doctor/predict-kernel.test.ts"], {
    env: { ...process.env, WAYOUT_FUZZ_SEED: String(seed), WAYOUT_FUZZ_CASES: String(ROUND) },
    stdout: "inherit",
    stderr: "inherit",
  });
  if ((await child.exited) !== 0) process.exit(1);
  seed += ROUND * 10;
}
