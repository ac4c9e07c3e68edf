/**
 * What nobody can know beforehand: whether a limit is used up, what a random number will be, what an expression of a
 * newer kernel does. A prediction that meets such a question takes the likely answer first and is then repeated with
 * the others: when all end the same, the question did not matter; when they differ, the prediction says so.
 */

import type { Decision } from "./decision.ts";
import { present } from "../../present.ts";

/** Why a value cannot be foreseen. */
export interface Unforeseen {
  /** `numgen mod 3`, `the time of day`. */
  readonly why: string;
  /** A number by chance: how many different ones there are, all equally likely. */
  readonly choices?: number;
}

/**
 * What a question is about, where a packet that gets through does not answer it for all others: what a packet carries or
 * how long it is, the time of day, how many came before.
 */
export type DoubtSubject = "content" | "time" | "rate";

/** A question that was met, and the answer that was assumed. */
export interface Doubt {
  /** `a rate limit (10/minute) in table ip filter chain INPUT handle 7`. */
  readonly about: string;
  readonly assumed: boolean;
  /** Whether one answer is what usually holds (a limit is not reached). Without it, nothing can be said. */
  readonly likely: boolean;
  /** Where chance decides (which of a Service's endpoints): the share of packets for which the assumed answer holds. */
  readonly share?: number;
  readonly of?: DoubtSubject;
  /** The rule that asks. */
  readonly at?: Decision;
}

/** Runs that one prediction may take: 2^n grows, and after this many the answer is "cannot tell" anyway. */
const MOST_RUNS = 24;

export class Oracle {
  readonly doubts: Doubt[] = [];
  /** Whether all but those that chance decides were answered as usual. */
  isUsual = true;
  readonly #known = new Map<string, boolean>();

  constructor(private readonly script: readonly boolean[] = []) {}

  /**
   * The answer to a question with two answers. The same question gets the same answer within one run.
   * @param likely what usually holds; absent when neither does
   * @param share of all packets for which the answer is yes, where chance decides
   */
  ask(about: string, likely?: boolean, share?: number, of?: DoubtSubject, at?: Decision): boolean {
    const before = this.#known.get(about);
    if (before !== undefined) return before;
    const usual = likely ?? false;
    const assumed = this.script[this.doubts.length] ?? usual;
    if (share === undefined && assumed !== usual) this.isUsual = false;
    this.doubts.push(
      present({
        about,
        assumed,
        likely: likely !== undefined,
        share: share === undefined ? undefined : assumed ? share : 1 - share,
        of,
        at,
      }),
    );
    this.#known.set(about, assumed);
    return assumed;
  }
}

/** What comes out when a question is answered the other way. */
export interface Alternative<T> {
  readonly result: T;
  /** The question, with the answer that leads here. */
  readonly by: Doubt;
}

/** What comes out for a share of all packets. */
export interface Branch<T> {
  readonly result: T;
  readonly share: number;
  /** What chance was asked for it, the last one last. */
  readonly by: readonly Doubt[];
}

/** The likely result, and what else could have come out. */
export interface Explored<T> {
  readonly result: T;
  /** Questions whose answers change the result. */
  readonly doubts: readonly Doubt[];
  /** Different results, each another one, in the order in which they were met. */
  readonly alternatives: readonly Alternative<T>[];
  /** What says the same as the result, by other answers: it may differ in what nobody is told. */
  readonly alike: readonly T[];
  /** Where chance decides: every way there is, as far as they were followed. */
  readonly branches: readonly Branch<T>[];
  /** False when a doubt that matters has no likely answer: the result is then no more than one possibility. */
  readonly certain: boolean;
}

/**
 * Runs a prediction for every combination of answers, as far as it is worth.
 * @param same whether two results say the same
 */
export function explore<T>(run: (oracle: Oracle) => T, same: (a: T, b: T) => boolean): Explored<T> {
  const first = new Oracle();
  const result = run(first);
  const matters = new Map<string, Doubt>();
  const alternatives: Alternative<T>[] = [];
  const alike: T[] = [];
  const branches = branchOf(first, result);
  const pending: boolean[][] = flips(first.doubts, 0);
  let runs = 1;
  for (; pending.length > 0 && runs < MOST_RUNS; runs++) {
    const script = pending.shift()!;
    const oracle = new Oracle(script);
    const other = run(oracle);
    branches.push(...branchOf(oracle, other));
    pending.push(...flips(oracle.doubts, script.length));
    if (same(result, other)) {
      alike.push(other);
      continue;
    }
    const turned = oracle.doubts[script.length - 1];
    if (turned === undefined) continue;
    matters.set(turned.about, otherAnswer(turned));
    if (!alternatives.some((known) => same(known.result, other))) {
      alternatives.push({ result: other, by: turned });
    }
  }
  const doubts = [...matters.values()];
  const certain = pending.length === 0 && doubts.every((doubt) => doubt.likely);
  return { result, doubts, alternatives, alike, branches, certain };
}

function branchOf<T>({ doubts, isUsual }: Oracle, result: T): Branch<T>[] {
  const by = doubts.filter((doubt) => doubt.share !== undefined);
  if (!isUsual || by.length === 0) return [];
  return [{ result, by, share: by.reduce((product, { share = 1 }) => product * share, 1) }];
}

/** The same question, answered the other way. */
export function otherAnswer(doubt: Doubt): Doubt {
  const { share } = doubt;
  return {
    ...doubt,
    assumed: !doubt.assumed,
    ...present({ share: share === undefined ? undefined : 1 - share }),
  };
}

/** Scripts that repeat a run up to one of its questions, and answer that one the other way. */
function flips(doubts: readonly Doubt[], from: number): boolean[][] {
  const scripts: boolean[][] = [];
  for (let index = from; index < doubts.length; index++) {
    scripts.push([...doubts.slice(0, index).map((doubt) => doubt.assumed), !doubts[index]!.assumed]);
  }
  return scripts;
}
