/** The inner half of bench/run.ts: runs the benchmarks of one topic in fresh namespaces and writes their outcomes. */
import { rmSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makePlacesPrivate } from "../scripts/isolation.ts";
import { messageOf } from "../src/error.ts";
import type { Benchmark, BenchmarkContext, Measurement, Side } from "./benchmark.ts";
import { outcomeOf, type Outcome } from "./outcome.ts";

const [topic, report, ...words] = process.argv.slice(2) as [string, string, ...string[]];
// Asked before the mounts below, which only root of this namespace may make: /proc/self/uid_map tells the machine's.
const isRealRoot = /^\s*0\s+0\s+4294967295/.test(await Bun.file("/proc/self/uid_map").text());
makePlacesPrivate();
const directory = mkdtempSync(join(tmpdir(), "wayout-bench-"));
const context: BenchmarkContext = {
  compare,
  budget: (name, milliseconds) => ({ name, values: [milliseconds] }),
  directory,
};
const { benchmarks } = (await import(topic)) as { benchmarks: readonly Benchmark[] };
const outcomes: Outcome[] = [];
try {
  for (const benchmark of benchmarks) {
    if (words.length > 0 && !words.some((word) => benchmark.name.includes(word))) continue;
    process.stderr.write(`· ${benchmark.name}: ${benchmark.what}\n`);
    outcomes.push(await runOne(benchmark));
    writeFileSync(report, JSON.stringify(outcomes));
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
// A topic may have left sockets, workers or child processes behind: their namespaces end with us.
process.exit(0);

async function runOne(benchmark: Benchmark): Promise<Outcome> {
  const { name, what } = benchmark;
  const missing = (benchmark.needs ?? []).filter((need) => {
    if (need === "root") return false;
    return need === "real-root" ? !isRealRoot : Bun.which(need) === null;
  });
  if (missing.length > 0) return { name, what, skipped: `needs ${missing.join(", ")}` };
  try {
    return outcomeOf(benchmark, await benchmark.run(context));
  } catch (error) {
    return { name, what, problem: messageOf(error) };
  }
}

async function compare(
  sides: { readonly ours: Side; readonly reference?: Side },
  options: { readonly rounds: number; readonly warmUp?: number },
): Promise<Measurement> {
  const warmUp = options.warmUp ?? 1;
  const values = { ours: [] as number[], reference: [] as number[] };
  for (let round = 0; round < warmUp + options.rounds; round++) {
    const order = round % 2 === 0 ? (["ours", "reference"] as const) : (["reference", "ours"] as const);
    for (const which of order) {
      const side = sides[which];
      if (side === undefined) continue;
      const sample = await measure(side, round);
      if (round >= warmUp) values[which].push(sample);
    }
  }
  const { ours, reference } = sides;
  return {
    unit: "ms",
    ours: { name: ours.name, values: values.ours },
    ...(reference === undefined ? {} : { reference: { name: reference.name, values: values.reference } }),
  };
}

async function measure(side: Side, round: number): Promise<number> {
  await side.prepare?.(round);
  const start = performance.now();
  // Awaiting what is no promise would cost a turn of the event loop and be measured with it.
  const running = side.run(round);
  const returned = running instanceof Promise ? await running : running;
  const elapsed = performance.now() - start;
  await side.undo?.(round);
  return typeof returned === "number" ? returned : elapsed;
}
