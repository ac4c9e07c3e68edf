/** Look-ups in nf_tables sets and maps: exact keys, intervals, concatenations of intervals, the catch-all. */
import type { NftSet, SetElement } from "../../linux/nftables/ruleset.ts";

interface Interval {
  readonly from: Uint8Array;
  readonly to: Uint8Array;
  readonly element: SetElement;
}

/** Compares as the kernel does: bytes, most significant first. */
export function compareBytes(a: Uint8Array, b: Uint8Array, start = 0, end = a.length): number {
  for (let at = start; at < end; at++) {
    const difference = (a[at] ?? 0) - (b[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

export class SetIndex {
  readonly #exact = new Map<string, SetElement>();
  readonly #intervals: Interval[] = [];
  readonly #catchAll: SetElement | undefined;
  /** Where each part of a concatenation begins and ends; one part for a plain key. */
  readonly #parts: readonly (readonly [number, number])[];

  constructor(readonly set: NftSet) {
    this.#parts = partsOf(set);
    let catchAll: SetElement | undefined;
    for (const element of set.elements) {
      if (element.key === undefined) catchAll = element;
      else if (element.keyEnd === undefined) this.#exact.set(element.key, element);
      else {
        this.#intervals.push({
          from: Buffer.from(element.key, "hex"),
          to: Buffer.from(element.keyEnd, "hex"),
          element,
        });
      }
    }
    if (this.#parts.length === 1) this.#intervals.sort((a, b) => compareBytes(a.from, b.from));
    this.#catchAll = catchAll;
  }

  get keyLength(): number {
    return this.set.keyLength;
  }

  /** The element that a key finds, or the catch-all. */
  find(key: Uint8Array): SetElement | undefined {
    const exact = this.#exact.get(Buffer.from(key.buffer, key.byteOffset, key.length).toString("hex"));
    if (exact !== undefined) return exact;
    return (this.#parts.length === 1 ? this.#plain(key) : this.#concatenated(key)) ?? this.#catchAll;
  }

  /** Intervals of a plain key do not overlap: the last one that begins before the key is the only candidate. */
  #plain(key: Uint8Array): SetElement | undefined {
    let low = 0;
    let high = this.#intervals.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compareBytes(this.#intervals[middle]!.from, key, 0, key.length) <= 0) low = middle + 1;
      else high = middle;
    }
    const candidate = this.#intervals[low - 1];
    if (candidate === undefined) return undefined;
    return compareBytes(candidate.to, key, 0, key.length) >= 0 ? candidate.element : undefined;
  }

  #concatenated(key: Uint8Array): SetElement | undefined {
    return this.#intervals.find(({ from, to }) =>
      this.#parts.every(
        ([start, end]) => compareBytes(from, key, start, end) <= 0 && compareBytes(to, key, start, end) >= 0,
      ),
    )?.element;
  }
}

function partsOf(set: NftSet): readonly (readonly [number, number])[] {
  if (set.fieldLengths === undefined || set.fieldLengths.length < 2) return [[0, set.keyLength]];
  const parts: [number, number][] = [];
  let at = 0;
  for (const length of set.fieldLengths) {
    parts.push([at, at + length]);
    at += (length + 3) & ~3;
  }
  return parts;
}
