/**
 * Predictions against the kernel with random rulesets: `npm run fuzz:predict -- [RULESETS]`, a hundred packets each.
 * Stops at the first disagreement, with its seed; `WAYOUT_FUZZ_SEED=N` begins there. Prints figures at the end. On a busy
 * machine `nft` may run into its limit: that round says nothing, is begun again, and counted.
 */
import { join } from "node:path";

const ROUND = 50;
const PACKETS = 100;
const test = join(import.meta.dir, "test.ts");
const wanted = Number(process.argv[2] ?? 10_000);
const first = Number(process.env["WAYOUT_FUZZ_SEED"] ?? Math.floor(Math.random() * 1_000_000_000));
const sums = { rulesets: 0, compared: 0, delivered: 0, unsure: 0 };
const MOST_UNFINISHED = 50;
let unfinished = 0;

type Outcome = "agrees" | "disagrees" | "unfinished" | "failed";

async function round(seed: number, rulesets: number): Promise<Outcome> {
  const child = Bun.spawn(
    [process.execPath, test, "test/doctor/predict-kernel.test.ts", "-t", "random rulesets"],
    {
      env: {
        ...process.env,
        WAYOUT_FUZZ_SEED: String(seed),
        WAYOUT_FUZZ_CASES: String(rulesets),
        WAYOUT_FUZZ_PACKETS: String(PACKETS),
      },
      stdout: "pipe",
      stderr: "pipe",
    },
  );
  const [out, errors] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  const figures = /(\d+) rulesets, (\d+) packets compared, (\d+) delivered, (\d+) said to be unsure/.exec(
    out + errors,
  );
  const exitCode = await child.exited;
  if (exitCode !== 0 && figures === null && (out + errors).includes("ran into its limit"))
    return "unfinished";
  for (const [at, name] of (["rulesets", "compared", "delivered", "unsure"] as const).entries()) {
    sums[name] += Number(figures?.[at + 1] ?? 0);
  }
  if (exitCode === 0) return "agrees";
  console.log(out + errors);
  return /^seed \d+: /m.test(out) ? "disagrees" : "failed";
}

let seed = first;
let last: Outcome = "agrees";
while (
  (last === "agrees" || last === "unfinished") &&
  sums.rulesets < wanted &&
  unfinished < MOST_UNFINISHED
) {
  last = await round(seed, Math.min(ROUND, wanted - sums.rulesets));
  if (last === "unfinished") unfinished++;
  else seed += ROUND * 10;
  console.log(
    `seeds from ${first}: ${sums.rulesets} rulesets, ${sums.compared} packets compared, ${sums.delivered} delivered, ${sums.unsure} said to be unsure, ${unfinished} rounds begun again`,
  );
}
if (last === "disagrees") console.log("the prediction and the kernel disagree: see above");
if (last === "failed") console.log("a round failed, and not by a disagreement: see above");
if (unfinished >= MOST_UNFINISHED)
  console.log("too many rounds did not come to their end: the machine is too busy");
process.exit(last === "agrees" ? 0 : 1);
