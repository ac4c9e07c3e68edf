/**
 * Counts flows by what they have in common, without an object for each group: a table of hundreds of thousands of flows
 * has hundreds of thousands of destinations. Open addressing over typed arrays; keys come from FlowHash.
 */
import { ipText } from "../address/ip.ts";
import type { EntryScan } from "../linux/conntrack/scan.ts";

const FIRST_CAPACITY = 1024;
/** Fuller than this, looking for a free place takes too long. */
const MOST_FULL = 0.6;

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
  #keys = new Float64Array(FIRST_CAPACITY);
  #slots = columns(FIRST_CAPACITY);
  /** Addresses of IPv6 groups, by key. */
  readonly #texts = new Map<number, readonly [string, string]>();

  get size(): number {
    return this.#size;
  }

  /**
   * Counts a flow.
   * @param key FlowHash.value; 0 counts as 1
   * @param first where an address of the group begins in the scan's wire, and another; -1 for none
   * @param word 32 bits to keep with the group
   * @param marked whether the flow is one of those that are counted besides
   * @returns the group's slot, which `flag` takes until the next call
   */
  add(scan: EntryScan, key: number, first: number, second: number, word: number, marked: boolean): number {
    if (this.#size >= MOST_FULL * this.#keys.length) this.#grow();
    const own = key === 0 ? 1 : key;
    const slot = place(this.#keys, own);
    const { flows, markedFlows } = this.#slots;
    if (this.#keys[slot] === 0) this.#begin(scan, own, slot, first, second, word);
    flows[slot]!++;
    if (marked) markedFlows[slot]!++;
    return slot;
  }

  flag(slot: number): void {
    this.#slots.flags[slot] = 1;
  }

  /** The groups with most flows, the most first, and how many flows and groups are left beside them. */
  largest(top: number, flagged = false) {
    const { flows, flags } = this.#slots;
    const best: number[] = [];
    let [groups, all, least] = [0, 0, 0];
    for (let slot = 0; slot < flows.length; slot++) {
      const count = flows[slot]!;
      if (count === 0 || (flagged && flags[slot] === 0)) continue;
      groups++;
      all += count;
      if (best.length === top && count <= least) continue;
      let at = best.length;
      while (at > 0 && flows[best[at - 1]!]! < count) at--;
      best.splice(at, 0, slot);
      if (best.length > top) best.pop();
      least = flows[best.at(-1) ?? slot]!;
    }
    const named = best.map((slot) => this.#group(slot));
    const rest = all - named.reduce((sum, one) => sum + one.flows, 0);
    return { named, rest: { groups: groups - named.length, flows: rest } };
  }

  #begin(scan: EntryScan, key: number, slot: number, first: number, second: number, word: number): void {
    const { firsts, seconds, words } = this.#slots;
    this.#keys[slot] = key;
    this.#size++;
    words[slot] = word;
    const { wire, family } = scan;
    if (family === 4) {
      firsts[slot] = first < 0 ? 0 : wire.view.getUint32(first, false);
      seconds[slot] = second < 0 ? 0 : wire.view.getUint32(second, false);
      return;
    }
    const text = (at: number): string => (at < 0 ? "" : ipText(wire.bytes, at, at + 16));
    this.#texts.set(key, [text(first), text(second)]);
  }

  #group(slot: number): FlowGroup {
    const { firsts, seconds, words, flows, markedFlows } = this.#slots;
    const [first, second] = this.#texts.get(this.#keys[slot]!) ?? [
      ipv4Text(firsts[slot]!),
      ipv4Text(seconds[slot]!),
    ];
    return { first, second, word: words[slot]!, flows: flows[slot]!, marked: markedFlows[slot]! };
  }

  #grow(): void {
    const keys = new Float64Array(2 * this.#keys.length);
    const slots = columns(keys.length);
    for (const [from, key] of this.#keys.entries()) {
      if (key === 0) continue;
      const to = place(keys, key);
      keys[to] = key;
      for (const name of COLUMNS) slots[name][to] = this.#slots[name][from]!;
    }
    this.#keys = keys;
    this.#slots = slots;
  }
}

const COLUMNS = ["firsts", "seconds", "words", "flows", "markedFlows", "flags"] as const;

function columns(length: number) {
  return {
    firsts: new Uint32Array(length),
    seconds: new Uint32Array(length),
    words: new Uint32Array(length),
    flows: new Uint32Array(length),
    markedFlows: new Uint32Array(length),
    flags: new Uint8Array(length),
  };
}

/** Where a key stands, or is to stand. The length is a power of two. */
function place(keys: Float64Array, key: number): number {
  const mask = keys.length - 1;
  // The low bits of a FlowHash are as good as any.
  let slot = (key % 0x1_0000_0000) & mask;
  while (keys[slot] !== 0 && keys[slot] !== key) slot = (slot + 1) & mask;
  return slot;
}

export function ipv4Text(number: number): string {
  return `${number >>> 24}.${(number >>> 16) & 255}.${(number >>> 8) & 255}.${number & 255}`;
}
