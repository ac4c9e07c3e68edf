/**
 * Predictions against the kernel with random rulesets: `npm run fuzz:predict -- [RULESETS]`, a hundred packets each.
 * Stops at the first disagreement, with its seed; `WAYOUT_FUZZ_SEED=N` begins there. Prints figures at the end.
 */
import { join } from "node:path";

const ROUND = 50;
const PACKETS = 100;
const test = join(import.meta.dir, "test.ts");
const wanted = Number(process.argv[2] ?? 10_000);
const first = Number(process.env["WAYOUT_FUZZ_SEED"] ?? Math.floor(Math.random() * 1_000_000_000));
const sums = { rulesets: 0, compared: 0, delivered: 0, unsure: 0 };

async function round(seed: number, rulesets: number): Promise<boolean> {
  const child = Bun.spawn([process.execPath, test, "test/doctor/predict-kernel.test.ts"], {
    env: {
      ...process.env,
      WAYOUT_FUZZ_SEED: String(seed),
      WAYOUT_FUZZ_CASES: String(rulesets),
      WAYOUT_FUZZ_PACKETS: String(PACKETS),
    },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, errors] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  const figures = /(\d+) rulesets, (\d+) packets compared, (\d+) delivered, (\d+) said to be unsure/.exec(
    out + errors,
  );
  for (const [at, name] of (["rulesets", "compared", "delivered", "unsure"] as const).entries()) {
    sums[name] += Number(figures?.[at + 1] ?? 0);
  }
  if ((await child.exited) === 0) return true;
  console.log(out + errors);
  return false;
}

let agrees = true;
for (let seed = first; agrees && sums.rulesets < wanted; seed += ROUND * 10) {
  agrees = await round(seed, Math.min(ROUND, wanted - sums.rulesets));
  console.log(
    `seeds from ${first}: ${sums.rulesets} rulesets, ${sums.compared} packets compared, ${sums.delivered} delivered, ${sums.unsure} said to be unsure`,
  );
}
if (!agrees) console.log("the prediction and the kernel disagree: see above");
process.exit(agrees ? 0 : 1);
