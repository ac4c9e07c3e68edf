/** Ranges of addresses to give away, as host-local's configuration writes them. Pure. */
import { cidrContains, cidrText, type Cidr } from "../address/cidr.ts";
import { ipBits, ipFamily, ipFromNumber, ipNumber, type IpFamily } from "../address/ip.ts";
import { asCidr, FieldError, Fields } from "./fields.ts";

/** Addresses `first` to `last` of a subnet, both given away; the gateway, when it lies between them, is not. */
export interface AllocationRange {
  readonly subnet: Cidr;
  readonly first: bigint;
  readonly last: bigint;
  /** Canonical text. */
  readonly gateway: string;
}

/** A pod gets one address of each set; the ranges of a set are used one after the other. One family, no overlaps. */
export type RangeSet = readonly AllocationRange[];

/**
 * Reads `{subnet, rangeStart, rangeEnd, gateway}`. Without `gateway` it is the subnet's first host address, without
 * bounds every host address is given away.
 * @throws FieldError
 */
export function readRange(fields: Fields): AllocationRange {
  const subnetText = fields.raw("subnet");
  if (subnetText === undefined) throw new FieldError(fields.pathOf("subnet"), "is missing");
  // Host bits are cut off without a word: the reference implementation's users have them in their files.
  const subnet = asCidr(subnetText, fields.pathOf("subnet"), "keep");
  if (subnet.prefixLength > ipBits(subnet.family) - 2) {
    throw new FieldError(fields.pathOf("subnet"), `${cidrText(subnet)} has too few addresses to assign one`);
  }
  const gateway = gatewayOf(fields, subnet);
  const startText = inSubnet(fields, "rangeStart", subnet);
  const endText = inSubnet(fields, "rangeEnd", subnet);
  const first = startText === undefined ? subnet.first + 1n : ipNumber(startText);
  const last =
    endText === undefined ? (subnet.family === 4 ? subnet.last - 1n : subnet.last) : ipNumber(endText);
  if (first > last) {
    throw new FieldError(fields.pathOf("rangeEnd"), `${endText} lies before rangeStart ${startText}`);
  }
  return { subnet, first, last, gateway };
}

/** It may lie outside of the subnet: fe80::1 is the router of many IPv6 networks. */
function gatewayOf(fields: Fields, { family, first }: Cidr): string {
  const gateway = fields.ip("gateway");
  if (gateway === undefined) return ipFromNumber(family, first + 1n);
  if (ipFamily(gateway) === family) return gateway;
  throw new FieldError(fields.pathOf("gateway"), `${gateway} is of another address family than the subnet`);
}

function inSubnet(fields: Fields, key: string, subnet: Cidr): string | undefined {
  const address = fields.ip(key);
  if (address === undefined || cidrContains(subnet, address)) return address;
  throw new FieldError(fields.pathOf(key), `${address} is not in ${cidrText(subnet)}`);
}

/** @throws FieldError for an empty set, two families in it, or ranges that overlap */
export function readRangeSet(value: unknown, path: string): RangeSet {
  if (!Array.isArray(value) || value.length === 0) throw new FieldError(path, "must be a list of ranges");
  const ranges = value.map((item, index) => readRange(Fields.of(item, `${path}[${index}]`)));
  for (const [index, range] of ranges.entries()) {
    if (range.subnet.family !== ranges[0]!.subnet.family) {
      throw new FieldError(`${path}[${index}]`, "is of another address family than the ranges before it");
    }
    const twin = ranges.slice(0, index).find((other) => rangesOverlap(range, other));
    if (twin !== undefined) {
      throw new FieldError(`${path}[${index}]`, `(${rangeText(range)}) overlaps ${rangeText(twin)}`);
    }
  }
  return ranges;
}

/** @throws FieldError naming two sets that share an address */
export function checkDisjoint(sets: readonly RangeSet[], path: string): void {
  for (const [index, set] of sets.entries()) {
    for (const [earlier, other] of sets.slice(0, index).entries()) {
      if (set.some((range) => other.some((twin) => rangesOverlap(range, twin)))) {
        throw new FieldError(`${path}[${index}]`, `(${rangeSetText(set)}) overlaps ${path}[${earlier}]`);
      }
    }
  }
}

function rangesOverlap(a: AllocationRange, b: AllocationRange): boolean {
  return a.subnet.family === b.subnet.family && a.first <= b.last && b.first <= a.last;
}

export function familyOfSet(set: RangeSet): IpFamily {
  return set[0]!.subnet.family;
}

/** The range of the set that gives this address away; undefined when none does. */
export function rangeOf(set: RangeSet, address: string): AllocationRange | undefined {
  if (ipFamily(address) !== familyOfSet(set)) return undefined;
  const number = ipNumber(address);
  for (const range of set) if (number >= range.first && number <= range.last) return range;
  return undefined;
}

/** "10.1.0.1-10.1.0.254". */
export function rangeText(range: AllocationRange): string {
  const { family } = range.subnet;
  return `${ipFromNumber(family, range.first)}-${ipFromNumber(family, range.last)}`;
}

export function rangeSetText(set: RangeSet): string {
  return set.map(rangeText).join(", ");
}

/** How many addresses the set can give away. */
export function capacityOf(set: RangeSet): bigint {
  return set.reduce((sum, range) => {
    const gateway = ipNumber(range.gateway);
    const reserved = gateway >= range.first && gateway <= range.last ? 1n : 0n;
    return sum + range.last - range.first + 1n - reserved;
  }, 0n);
}

/**
 * Every address of the set once, beginning behind `after` and going round; from the first when `after` is absent or
 * not in the set. Gateways are left out.
 */
export function addressesAfter(set: RangeSet, after: string | undefined): Iterable<RangedAddress> {
  return new AddressWalk(set, after);
}

export interface RangedAddress {
  readonly address: string;
  readonly range: AllocationRange;
}

/** An iterator written out: of a generator, an ADD that takes one step would pay for the machinery, too. */
class AddressWalk implements IterableIterator<RangedAddress> {
  readonly #startIndex: number;
  readonly #start: bigint;
  #turn = 0;
  #next: bigint;

  constructor(
    private readonly set: RangeSet,
    after: string | undefined,
  ) {
    const current = after === undefined ? undefined : rangeOf(set, after);
    this.#startIndex = current === undefined ? 0 : set.indexOf(current);
    this.#start = current === undefined ? set[0]!.first : ipNumber(after!) + 1n;
    this.#next = this.#start;
  }

  [Symbol.iterator](): this {
    return this;
  }

  next(): IteratorResult<RangedAddress> {
    const { set } = this;
    // The range we begin in is visited twice: its end first, its beginning at last.
    for (; this.#turn <= set.length; this.#turn++, this.#next = this.#range.first) {
      const range = this.#range;
      const last = this.#turn === set.length ? this.#start - 1n : range.last;
      while (this.#next <= last) {
        const address = ipFromNumber(range.subnet.family, this.#next++);
        if (address !== range.gateway) return { done: false, value: { address, range } };
      }
    }
    return { done: true, value: undefined };
  }

  get #range(): AllocationRange {
    return this.set[(this.#startIndex + this.#turn) % this.set.length]!;
  }
}
