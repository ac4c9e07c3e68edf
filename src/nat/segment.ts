/**
 * Sources of all owners, cut into pieces that do not overlap: what an interval set can hold. Prefixes nest or are
 * apart, so every address belongs to the most specific prefix around it.
 */
import type { Cidr } from "../address/cidr.ts";
import { ascending, type IpFamily } from "../address/ip.ts";
import { cidrsOf, type NatIntent, type NatSource } from "./intent.ts";

/** An inclusive range of addresses as numbers. */
export interface AddressNumbers {
  readonly first: bigint;
  readonly last: bigint;
}

/** A source with its owner, as it competes with others. */
export interface OwnedSource {
  readonly owner: string;
  readonly source: NatSource;
  readonly cidr: Cidr;
}

/** Addresses for which this source decides. */
export interface Segment extends AddressNumbers {
  readonly owned: OwnedSource;
  /** Every source with these addresses, `owned` last: what the owner of any of them leaves untranslated is left so. */
  readonly around: readonly OwnedSource[];
}

/** Every source of a family, the one that decides first: longer prefixes first, then by owner. */
export function byPrecedence(intents: readonly NatIntent[], family: IpFamily): OwnedSource[] {
  const found: OwnedSource[] = [];
  for (const intent of intents) {
    const { owner, sources } = intent;
    for (const [index, cidr] of cidrsOf(intent).sources.entries()) {
      if (cidr.family === family) found.push({ owner, source: sources[index]!, cidr });
    }
  }
  return found.sort(
    (a, b) =>
      b.cidr.prefixLength - a.cidr.prefixLength ||
      ascending(a.cidr.first, b.cidr.first) ||
      ascending(a.owner, b.owner),
  );
}

/** Stands for an interface where the node itself sends: by none did its packets come. */
export const FROM_NODE = "";

/** Whether a source is asked about packets that came by an interface; without one: by any that no source names. */
export function counts({ inInterfaces, fromNode }: NatSource, inInterface: string | undefined): boolean {
  if (fromNode === true) return inInterface === FROM_NODE;
  return inInterfaces === undefined || (inInterface !== undefined && inInterfaces.includes(inInterface));
}

/**
 * The pieces, in address order. A source whose every address is decided by others has none.
 * @param isAsked which sources take part; absent: all
 */
export function segmentsOf(
  intents: readonly NatIntent[],
  family: IpFamily,
  isAsked: (source: NatSource) => boolean = () => true,
): Segment[] {
  // Outer prefixes before the ones inside them; of equal ones the winner comes last and so covers the others.
  const nested = byPrecedence(intents, family)
    .filter(({ source }) => isAsked(source))
    .toReversed()
    .sort((a, b) => ascending(a.cidr.first, b.cidr.first) || a.cidr.prefixLength - b.cidr.prefixLength);
  const segments: Segment[] = [];
  const open: OwnedSource[] = [];
  let next = 0n;
  const closeUntil = (limit: bigint | undefined): void => {
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      if (limit !== undefined && top.cidr.last >= limit) break;
      if (next <= top.cidr.last) segments.push(segment(open, next, top.cidr.last));
      if (next <= top.cidr.last) next = top.cidr.last + 1n;
      open.pop();
    }
  };
  for (const owned of nested) {
    const { first } = owned.cidr;
    closeUntil(first);
    const around = open.at(-1);
    if (around !== undefined && next < first) segments.push(segment(open, next, first - 1n));
    open.push(owned);
    next = first;
  }
  closeUntil(undefined);
  return segments;
}

/** @param open the sources around these addresses, the most specific last */
function segment(open: readonly OwnedSource[], first: bigint, last: bigint): Segment {
  return { first, last, owned: open.at(-1)!, around: [...open] };
}

/**
 * Joins segments that follow each other and for which `keyOf` says the same, so that sets hold no more elements than
 * they must. With `gaps: "join"` also over addresses between them that are in no segment: for sets that are only asked
 * about sources, where such an address makes no difference.
 */
export function joinSegments<S extends Segment>(
  segments: readonly S[],
  keyOf: (segment: S) => string,
  gaps: "keep" | "join" = "keep",
): S[] {
  const joined: S[] = [];
  let lastKey: string | undefined;
  for (const segment of segments) {
    const key = keyOf(segment);
    const before = joined.at(-1);
    if (before !== undefined && key === lastKey && (gaps === "join" || before.last + 1n === segment.first)) {
      joined[joined.length - 1] = { ...before, last: segment.last };
    } else joined.push(segment);
    lastKey = key;
  }
  return joined;
}

/** The fewest ranges that cover the same addresses, in order. */
export function coverOf(ranges: readonly AddressNumbers[]): AddressNumbers[] {
  const cover: AddressNumbers[] = [];
  for (const range of [...ranges].sort((a, b) => ascending(a.first, b.first))) {
    const before = cover.at(-1);
    if (before !== undefined && range.first <= before.last + 1n) {
      if (range.last > before.last) cover[cover.length - 1] = { first: before.first, last: range.last };
    } else cover.push(range);
  }
  return cover;
}
