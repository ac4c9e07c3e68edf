/** Rounds of random lanes until so many packets were compared; a lane that differs is made as short as it can be. */
import { Random } from "../../doctor/random-ruleset.ts";
import type { Translation } from "../../../src/nat/intent.ts";
import { Comparison, MOST_LANES, MOST_STEPS, type Difference } from "./compare.ts";
import { randomLane, type Lane } from "./steps.ts";
import { stayOnOneProcessor } from "./wire.ts";
import { UPLINKS, type WorldOptions } from "./worlds.ts";

const ROUNDS_OF_A_WORLD = 20;
/** Kinds of differences that are made short and told. */
const MOST_TOLD = 8;
const TRANSLATIONS: readonly Translation[] = [
  { fullyRandom: false },
  { fullyRandom: false },
  { fullyRandom: true },
  { fullyRandom: false, ports: { first: 20_000, last: 29_999 } },
];

export interface FuzzResult {
  readonly seed: number;
  readonly compared: number;
  readonly lanes: number;
  readonly listed: ReadonlyMap<string, number>;
  readonly difference: string | undefined;
}

export function optionsOf(seed: number): WorldOptions {
  const random = new Random(seed);
  return {
    uplink: random.pick(UPLINKS),
    translation: random.pick(TRANSLATIONS),
    tracked: random.chance(0.25),
  };
}

/** Worlds from this seed on, each with rounds of lanes of their own seeds. */
export function fuzz(seed: number, packets: number): FuzzResult {
  using _processor = stayOnOneProcessor();
  const listed = new Map<string, number>();
  let [compared, lanes] = [0, 0];
  for (let at = seed; compared < packets; at++) {
    const options = optionsOf(at);
    using comparison = new Comparison(options);
    for (let round = 0; round < ROUNDS_OF_A_WORLD && compared < packets; round++) {
      const all = Array.from({ length: MOST_LANES }, (_, index) =>
        randomLane(Math.imul(at, 1_000_003) + round * MOST_LANES + index, MOST_STEPS),
      );
      const result = comparison.run(all);
      compared += result.compared;
      lanes += all.length;
      for (const [what, count] of result.listed) listed.set(what, (listed.get(what) ?? 0) + count);
      if (result.differences.length === 0) continue;
      const kinds = Map.groupBy(
        result.differences.toSorted((a, b) => a.at - b.at),
        kindOf,
      );
      const texts = [...kinds.values()]
        .slice(0, MOST_TOLD)
        .map((some) => `${some.length} lanes: ${textOf(options, shortest(comparison, some[0]!))}`);
      const difference = [`seed ${at}, round ${round}, ${kinds.size} kinds`, ...texts].join("\n");
      return { seed: at, compared, lanes, listed, difference };
    }
  }
  return { seed, compared, lanes, listed, difference: undefined };
}

/** Differences of a kind mostly have one cause. */
function kindOf({ lane, at, what }: Difference): string {
  const { kind, exchange, manner } = lane.steps[at]!;
  return `${what} ${kind} ${exchange.protocol} ${Object.keys(manner).join(" ")}`;
}

/** Leaves steps out for as long as there is a difference without them; all attempts of a turn go side by side. */
function shortest(comparison: Comparison, difference: Difference): Difference {
  let best = difference;
  for (;;) {
    const { lane, at } = best;
    const steps = lane.steps.slice(0, at + 1);
    const shorter: Lane[] = [
      { ...lane, steps: steps.slice(-1) },
      { ...lane, steps: steps.slice(Math.ceil(steps.length / 2)) },
      ...steps.slice(0, -1).map((_, index) => ({ ...lane, steps: steps.toSpliced(index, 1) })),
    ].filter((one) => one.steps.length < steps.length);
    if (shorter.length === 0) return best;
    const found = comparison.run(shorter.slice(0, MOST_LANES)).differences;
    const [next] = found.toSorted((a, b) => a.at - b.at);
    if (next === undefined) return best;
    best = next;
  }
}

function textOf(options: WorldOptions, { lane, at, what, nftables, ebpf }: Difference): string {
  return [
    `${what} at step ${at} of IPv${lane.family} in ${JSON.stringify(options)}:`,
    ...lane.steps.slice(0, at + 1).map((step) => `  ${JSON.stringify(step)}`),
    "nftables:",
    ...nftables.map((line) => `  ${line}`),
    "ebpf:",
    ...ebpf.map((line) => `  ${line}`),
  ].join("\n");
}

export function figures({ seed, compared, lanes, listed, difference }: FuzzResult): string {
  const told = [...listed].map(([what, count]) => `${count} ${what}`).join("; ");
  return [
    `from seed ${seed}: ${compared} packets compared in ${lanes} lanes; written down as different: ${told || "none"}`,
    ...(difference === undefined ? [] : [difference]),
  ].join("\n");
}
