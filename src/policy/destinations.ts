/**
 * Destinations that are translated and destinations that are not, in one list each: the longest prefix around an address
 * decides, so that one address inside an excluded network can be translated all the same. Pure.
 */
import { cidrsOfRange, cidrText, parseCidr, type Cidr } from "../address/cidr.ts";
import { ascending } from "../address/ip.ts";

interface Marked extends Cidr {
  readonly kept: boolean;
}

/**
 * The prefixes that see the real source, as few as cover exactly the addresses that decide so.
 * @param kept destinations that are not to be translated
 * @param translated exceptions within them
 * @returns `kept` as it is when there are no exceptions within it
 */
export function untranslatedOf(kept: readonly string[], translated: readonly string[]): string[] {
  if (translated.length === 0) return [...kept];
  const marked: Marked[] = [
    ...kept.map((text) => ({ ...parseCidr(text), kept: true })),
    ...translated.map((text) => ({ ...parseCidr(text), kept: false })),
  ];
  return ([4, 6] as const).flatMap((family) =>
    keptRanges(marked.filter((one) => one.family === family)).flatMap(({ first, last }) =>
      cidrsOfRange(family, first, last).map((cidr) => cidrText(cidr)),
    ),
  );
}

interface Range {
  first: bigint;
  last: bigint;
}

/** Prefixes nest or are apart: a walk along their borders knows at each moment which is the innermost. */
function keptRanges(prefixes: readonly Marked[]): Range[] {
  // The same prefix in both lists: to translate it is the exception, and so what was meant.
  const sorted = [...prefixes].sort(
    (a, b) =>
      ascending(a.first, b.first) || a.prefixLength - b.prefixLength || Number(b.kept) - Number(a.kept),
  );
  const ranges: Range[] = [];
  const around: Marked[] = [];
  let at = 0n;
  const upTo = (end: bigint): void => {
    if (around.at(-1)?.kept === true && end >= at) add(ranges, { first: at, last: end });
    if (end >= at) at = end + 1n;
  };
  for (const prefix of sorted) {
    while (around.length > 0 && around.at(-1)!.last < prefix.first) {
      upTo(around.at(-1)!.last);
      around.pop();
    }
    upTo(prefix.first - 1n);
    at = prefix.first;
    around.push(prefix);
  }
  while (around.length > 0) {
    upTo(around.at(-1)!.last);
    around.pop();
  }
  return ranges;
}

function add(ranges: Range[], range: Range): void {
  const last = ranges.at(-1);
  if (last !== undefined && last.last + 1n === range.first) last.last = range.last;
  else ranges.push(range);
}
