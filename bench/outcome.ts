/** What came out of a benchmark: plain values, printed by bench/run.ts and given by bench/run-inside.ts as JSON. */
import type { Benchmark, Measurement, Samples, Target } from "./benchmark.ts";

/** A side, summed up. */
export interface Summary {
  readonly name: string;
  readonly samples: number;
  readonly p50: number;
  readonly p95: number;
}

export interface Outcome {
  readonly name: string;
  readonly what: string;
  readonly unit?: string;
  readonly ours?: Summary;
  readonly reference?: Summary;
  /** p50 of ours over p50 of the reference. */
  readonly ratio?: number;
  readonly target?: Target;
  readonly facts?: Readonly<Record<string, string | number>>;
  /** Why it was not run. */
  readonly skipped?: string;
  /** How it failed. */
  readonly problem?: string;
}

export type Verdict = "met" | "missed" | "measured" | "skipped" | "failed";

export function verdictOf(outcome: Outcome): Verdict {
  if (outcome.problem !== undefined) return "failed";
  if (outcome.skipped !== undefined) return "skipped";
  if (outcome.target === undefined || outcome.ratio === undefined) return "measured";
  return outcome.ratio <= outcome.target.ratio ? "met" : "missed";
}

export function outcomeOf(benchmark: Benchmark, measurement: Measurement): Outcome {
  const { unit, facts } = measurement;
  const ours = summaryOf(measurement.ours);
  const reference = measurement.reference === undefined ? undefined : summaryOf(measurement.reference);
  if (benchmark.target !== undefined && benchmark.target.of !== reference?.name) {
    throw new Error(`its target speaks of "${benchmark.target.of}", but "${reference?.name}" was measured`);
  }
  return {
    name: benchmark.name,
    what: benchmark.what,
    unit,
    ours,
    ...(reference === undefined ? {} : { reference, ratio: ours.p50 / reference.p50 }),
    ...(benchmark.target === undefined ? {} : { target: benchmark.target }),
    ...(facts === undefined ? {} : { facts }),
  };
}

function summaryOf(samples: Samples): Summary {
  const sorted = samples.values.toSorted((a, b) => a - b);
  if (sorted.length === 0) throw new Error(`"${samples.name}" has no samples`);
  // Nearest rank: a value that was really measured.
  const rank = (share: number): number => sorted[Math.ceil(share * sorted.length) - 1]!;
  return { name: samples.name, samples: sorted.length, p50: rank(0.5), p95: rank(0.95) };
}
