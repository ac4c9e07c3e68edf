/**
 * What a benchmark is. Each bench/<topic>.ts exports `benchmarks`, an array of these; bench/run.ts finds them. A topic
 * runs in a process and in namespaces of its own, so it may leave behind what it made there.
 *
 * Speed is a ratio, never a time: our side against a peer or the kernel's floor, both measured in this run by turns, so
 * that a slow or busy machine slows both.
 */

/** One thing measured. */
export interface Benchmark {
  /** `topic/case`, e.g. `pod-link/add`. `npm run bench -- pod-link` runs what contains that text. */
  readonly name: string;
  /** One line: what is done once per sample. */
  readonly what: string;
  /** What must hold: p50 of our side at most `ratio` times the p50 of the side called `of`. */
  readonly target?: Target;
  /** Programs, or `root` / `real-root` (not in a user namespace); without one of them the benchmark is skipped. */
  readonly needs?: readonly string[];
  run(context: BenchmarkContext): Measurement | Promise<Measurement>;
}

/** What is promised of the ratio. */
export interface Target {
  readonly ratio: number;
  readonly of: string;
  /** How it reads before `of`, where "≤ 0.35×" would not say it: "≥ 3 times the throughput of". */
  readonly words?: string;
}

/** Samples of both sides. */
export interface Measurement {
  readonly unit: "ms" | "µs" | "MB";
  readonly ours: Samples;
  /** The peer or floor; absent when there is nothing to compare with. */
  readonly reference?: Samples;
  /** Anything else worth printing, e.g. `{ pods: 200 }`. */
  readonly facts?: Readonly<Record<string, string | number>>;
}

export interface Samples {
  readonly name: string;
  readonly values: readonly number[];
}

/** One side of a comparison. */
export interface Side {
  /** "wayout", "kernel floor", "nft list ruleset". */
  readonly name: string;
  /** Before each sample, not measured. */
  prepare?(round: number): void | Promise<void>;
  /** What is measured. A side that takes the time itself returns it in milliseconds. */
  run(round: number): number | void | Promise<number | void>;
  /** After each sample, not measured. */
  undo?(round: number): void | Promise<void>;
}

/** Given to each benchmark. */
export interface BenchmarkContext {
  /**
   * Measures both sides by turns, the first to go alternating: `warmUp` rounds (default 1) that do not count, then
   * `rounds`. `round` runs from 0 through both.
   */
  compare(
    sides: { readonly ours: Side; readonly reference?: Side },
    options: { readonly rounds: number; readonly warmUp?: number },
  ): Promise<Measurement>;
  /** A reference that is a promise instead of a peer: "under 5 s" is `budget("5 s", 5000)` with the target's ratio 1. */
  budget(name: string, milliseconds: number): Samples;
  /** A directory for this topic's files, removed afterwards. */
  readonly directory: string;
}
