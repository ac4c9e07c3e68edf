/** Claims that stay where they are: their keys mean nothing, and one more shall not move ten thousand. Pure. */
import type { ElementSpec } from "../../../linux/nftables/commands.ts";
import { swapHex } from "../../../linux/nftables/datatypes.ts";
import type { SetElement } from "../../../linux/nftables/ruleset.ts";
import type { FoundTable } from "./drift.ts";
import { CLAIMS } from "./names.ts";
import type { WantedSet, WantedTable } from "./ruleset.ts";

/** The wanted table, with every claim under the key that it has now, and the new ones under keys that are free. */
export function withKeptClaims(wanted: WantedTable, found: FoundTable | undefined): WantedTable {
  const there = found?.sets.find(({ name }) => name === CLAIMS.set)?.elements ?? [];
  if (there.length === 0) return wanted;
  return {
    ...wanted,
    sets: wanted.sets.map((set) => (set.spec.set === CLAIMS.set ? keeping(set, there) : set)),
  };
}

function keeping({ spec, elements }: WantedSet, there: readonly SetElement[]): WantedSet {
  const keys = new Map(
    there.flatMap(({ key, comment }) => (key === undefined ? [] : [[comment, markOf(key)] as const])),
  );
  const taken = new Set<number>();
  const kept = elements.map(({ comment }) => {
    const key = keys.get(comment);
    if (key === undefined) return undefined;
    taken.add(key);
    // Nothing keeps two from being the same; their keys are not.
    keys.delete(comment);
    return key;
  });
  let free = 1;
  const next = (): number => {
    while (taken.has(free)) free++;
    return free++;
  };
  return {
    spec,
    elements: elements.map((element, index): ElementSpec => {
      const key = kept[index] ?? next();
      return key === element.key ? element : { ...element, key };
    }),
  };
}

/** @param key a mark, which stands in this machine's order */
function markOf(key: string): number {
  return Number(`0x${swapHex(key)}`);
}
