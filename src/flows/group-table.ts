/**
 * Counts flows by what they have in common, without an object for each group: a table of hundreds of thousands of flows
 * has hundreds of thousands of destinations. Open addressing in one array, a group's fields beside each other: what a flow
 * costs is the memory that it makes the processor fetch.
 */
import { ipText } from "../address/ip.ts";
import type { EntryScan } from "../linux/conntrack/scan.ts";
import type { FlowHash } from "./flow-hash.ts";

const LEAST_CAPACITY = 1024;
/** Fuller than this, looking for a free place takes too long. */
const MOST_FULL = 0.6;
/** Words of a group, and what they are. Eight: it lies in one line of a cache. */
const WORDS = 8;
const LOW = 0;
const HIGH = 1;
const FIRST = 2;
const SECOND = 3;
const WORD = 4;
/** 0 where there is no group. */
const FLOWS = 5;
const MARKED = 6;
const FLAG = 7;

/** One group, as its first flow made it. */
export interface FlowGroup {
  readonly first: string;
  readonly second: string;
  /** As given. */
  readonly word: number;
  readonly flows: number;
  readonly marked: number;
}

export class GroupTable {
  #size = 0;
  #capacity: number;
  #groups: Int32Array;
  /** Addresses of IPv6 groups, by their hash. */
  readonly #texts = new Map<string, readonly [string, string]>();

  /** @param expected so many groups at most, where that is known: then it need not grow */
  constructor(expected = 0) {
    this.#capacity = LEAST_CAPACITY;
    while (this.#capacity * MOST_FULL <= expected) this.#capacity *= 2;
    this.#groups = new Int32Array(this.#capacity * WORDS);
  }

  get size(): number {
    return this.#size;
  }

  /**
   * Counts a flow.
   * @param hash of what the group has in common
   * @param first where an address of the group begins in the scan's wire, and another; -1 for none
   * @param word 32 bits to keep with the group
   * @param marked whether the flow is one of those that are counted besides
   * @returns the group's slot, which `flag` takes until the next call
   */
  add(scan: EntryScan, hash: FlowHash, first: number, second: number, word: number, marked: boolean): number {
    if (this.#size >= MOST_FULL * this.#capacity) this.#grow();
    const groups = this.#groups;
    const slot = place(groups, hash.low, hash.high);
    if (groups[slot + FLOWS] === 0) this.#begin(scan, hash, slot, first, second, word);
    groups[slot + FLOWS]!++;
    if (marked) groups[slot + MARKED]!++;
    return slot;
  }

  flag(slot: number): void {
    this.#groups[slot + FLAG] = 1;
  }

  /** The groups with most flows, the most first, and how many flows and groups are left beside them. */
  largest(top: number, flagged = false) {
    const all = this.#groups;
    const best: number[] = [];
    let [groups, flows, least] = [0, 0, 0];
    for (let slot = 0; slot < all.length; slot += WORDS) {
      const count = all[slot + FLOWS]!;
      if (count === 0 || (flagged && all[slot + FLAG] === 0)) continue;
      groups++;
      flows += count;
      if (best.length === top && count <= least) continue;
      let at = best.length;
      while (at > 0 && all[best[at - 1]! + FLOWS]! < count) at--;
      best.splice(at, 0, slot);
      if (best.length > top) best.pop();
      least = all[(best.at(-1) ?? slot) + FLOWS]!;
    }
    const named = best.map((slot) => this.#group(slot));
    const rest = flows - named.reduce((sum, one) => sum + one.flows, 0);
    return { named, rest: { groups: groups - named.length, flows: rest } };
  }

  #begin(
    scan: EntryScan,
    { low, high }: FlowHash,
    slot: number,
    first: number,
    second: number,
    word: number,
  ): void {
    const groups = this.#groups;
    groups[slot + LOW] = low;
    groups[slot + HIGH] = high;
    groups[slot + WORD] = word;
    this.#size++;
    const { wire, family } = scan;
    if (family === 4) {
      groups[slot + FIRST] = first < 0 ? 0 : wire.view.getInt32(first, false);
      groups[slot + SECOND] = second < 0 ? 0 : wire.view.getInt32(second, false);
      return;
    }
    const text = (at: number): string => (at < 0 ? "" : ipText(wire.bytes, at, at + 16));
    this.#texts.set(`${low} ${high}`, [text(first), text(second)]);
  }

  #group(slot: number): FlowGroup {
    const groups = this.#groups;
    const [first, second] = this.#texts.get(`${groups[slot + LOW]} ${groups[slot + HIGH]}`) ?? [
      ipv4Text(groups[slot + FIRST]!),
      ipv4Text(groups[slot + SECOND]!),
    ];
    return {
      first,
      second,
      word: groups[slot + WORD]! >>> 0,
      flows: groups[slot + FLOWS]!,
      marked: groups[slot + MARKED]!,
    };
  }

  #grow(): void {
    const before = this.#groups;
    this.#capacity *= 2;
    this.#groups = new Int32Array(this.#capacity * WORDS);
    for (let from = 0; from < before.length; from += WORDS) {
      if (before[from + FLOWS] === 0) continue;
      const to = place(this.#groups, before[from + LOW]!, before[from + HIGH]!);
      for (let at = 0; at < WORDS; at++) this.#groups[to + at] = before[from + at]!;
    }
  }
}

/** Where a group stands, or is to stand. The number of groups is a power of two. */
function place(groups: Int32Array, low: number, high: number): number {
  const mask = groups.length - 1;
  // The low bits of a FlowHash are as good as any.
  let slot = Math.imul(low, WORDS) & mask;
  while (groups[slot + FLOWS] !== 0 && (groups[slot + LOW] !== low || groups[slot + HIGH] !== high))
    slot = (slot + WORDS) & mask;
  return slot;
}

export function ipv4Text(number: number): string {
  return `${number >>> 24}.${(number >>> 16) & 255}.${(number >>> 8) & 255}.${number & 255}`;
}
