import { EntryScan, type TupleScan } from "../linux/conntrack/scan.ts";
import { stateName } from "../linux/conntrack/status.ts";
import { protocolName } from "../linux/ip-protocol.ts";
import { Wire } from "../linux/netlink/wire.ts";
import { flowState } from "./flow.ts";
import { present } from "../present.ts";

/** What a list can be sorted by. Numbers sort from large to small, the rest from A to Z. */
export const SORT_KEYS = [
  "timeout",
  "age",
  "bytes",
  "packets",
  "mark",
  "source",
  "destination",
  "outside",
  "protocol",
  "state",
] as const;
export type SortKey = (typeof SORT_KEYS)[number];

/** Messages are kept in pieces of this size. */
const PIECE_BYTES = 4 * 1024 * 1024;

/** Where a sort key's numbers go, so that none is boxed. An address takes three: 128 bits and a port. */
type KeyNumbers = [first: number, second: number, third: number];

/**
 * Sorts flows by keeping the kernel's message and a few numbers of each, in typed arrays, so that hundreds of thousands
 * of them fit into little memory: what is to be written of a flow, JSON above all, is several times as long as what
 * the kernel says of it, and is made only when its turn has come.
 */
export class FlowSorter {
  readonly #read: (scan: EntryScan, into: KeyNumbers) => void;
  readonly #width: number;
  readonly #key: KeyNumbers = [0, 0, 0];
  #count = 0;
  #keys = new Float64Array(0);
  /** Piece, start and end of each message. */
  #places = new Uint32Array(0);
  readonly #pieces: Wire[] = [];
  #used = 0;

  /** @param capacity how many flows to expect; more are taken too */
  constructor(
    key: SortKey,
    readonly reverse = false,
    capacity = 1024,
  ) {
    this.#read = READERS[key];
    this.#width = WIDE_KEYS.has(key) ? 3 : 1;
    this.#grow(Math.max(1, capacity));
  }

  get size(): number {
    return this.#count;
  }

  /** Keeps the flow that the scan points at. */
  add(scan: EntryScan): void {
    if (3 * this.#count === this.#places.length) this.#grow(2 * this.#count);
    const length = scan.end - scan.start;
    const { bytes } = this.#pieceFor(length);
    for (let i = 0; i < length; i++) bytes[this.#used + i] = scan.wire.bytes[scan.start + i]!;
    this.#places[3 * this.#count] = this.#pieces.length - 1;
    this.#places[3 * this.#count + 1] = this.#used;
    this.#places[3 * this.#count + 2] = this.#used + length;
    this.#used += length;
    this.#read(scan, this.#key);
    for (let i = 0; i < this.#width; i++) this.#keys[this.#width * this.#count + i] = this.#key[i]!;
    this.#count++;
  }

  /** The flows in order, the first `limit` of them after `offset`. The visitor gets the same scan each time. */
  visit(visitor: (scan: EntryScan) => void, limit: number = Number.POSITIVE_INFINITY, offset = 0): void {
    const order = new Uint32Array(this.#count);
    for (let index = 0; index < this.#count; index++) order[index] = index;
    order.sort(this.#compare);
    const scan = new EntryScan();
    for (let i = offset; i < this.#count && i < offset + limit; i++) {
      const place = 3 * order[i]!;
      scan.point(this.#pieces[this.#places[place]!]!, this.#places[place + 1]!, this.#places[place + 2]!);
      visitor(scan);
    }
  }

  /** The last piece, or a new one when it has not so much room. */
  #pieceFor(length: number): Wire {
    const last = this.#pieces.at(-1);
    if (last !== undefined && last.bytes.length - this.#used >= length) return last;
    const piece = new Wire(new Uint8Array(Math.max(PIECE_BYTES, length)));
    this.#pieces.push(piece);
    this.#used = 0;
    return piece;
  }

  readonly #compare = (a: number, b: number): number => {
    for (let i = 0; i < this.#width; i++) {
      const difference = this.#keys[this.#width * a + i]! - this.#keys[this.#width * b + i]!;
      if (difference !== 0) return this.reverse ? -difference : difference;
    }
    // Equal flows stay in the order in which they came.
    return a - b;
  };

  #grow(capacity: number): void {
    const keys = new Float64Array(this.#width * capacity);
    keys.set(this.#keys);
    this.#keys = keys;
    const places = new Uint32Array(3 * capacity);
    places.set(this.#places);
    this.#places = places;
  }
}

/** Keys that need all three numbers. */
const WIDE_KEYS: ReadonlySet<SortKey> = new Set(["source", "destination", "outside", "protocol", "state"]);

/** Numbers sort from large to small, hence their minus. */
const READERS: Readonly<Record<SortKey, (scan: EntryScan, into: KeyNumbers) => void>> = {
  timeout: (scan, into) => (into[0] = -scan.timeoutSeconds),
  age: (scan, into) => (into[0] = scan.startedAtMs),
  bytes: (scan, into) => (into[0] = -(scan.originalBytes + scan.replyBytes)),
  packets: (scan, into) => (into[0] = -(scan.originalPackets + scan.replyPackets)),
  mark: (scan, into) => (into[0] = -scan.mark),
  source: (scan, into) => readEnd(scan, scan.original, "source", into),
  destination: (scan, into) => readEnd(scan, scan.original, "destination", into),
  outside: (scan, into) => readEnd(scan, scan.reply, "destination", into),
  protocol: (scan, into) => readText(protocolName(scan.original.protocol), into),
  state: (scan, into) => {
    const { protocol } = scan.original;
    const name = scan.state < 0 ? undefined : stateName(protocol, scan.state);
    const flow = present({ protocol, status: scan.status, state: name });
    readText(flowState(flow), into);
  },
};

/** Characters of seven bits in each of the 53 bits that a number holds. */
const TEXT_CHARACTERS = 7;

/** The first 21 ASCII characters as numbers that sort as they do: more than any protocol or state has. */
function readText(text: string, into: KeyNumbers): void {
  for (let part = 0; part < into.length; part++) {
    let number = 0;
    for (let i = part * TEXT_CHARACTERS; i < (part + 1) * TEXT_CHARACTERS; i++) {
      number = number * 128 + (i < text.length ? text.charCodeAt(i) : 0);
    }
    into[part] = number;
  }
}

/** Family and address, and then the port, as numbers of 51, 48 and 48 bits. */
function readEnd(scan: EntryScan, tuple: TupleScan, end: "source" | "destination", into: KeyNumbers): void {
  const { view } = scan.wire;
  const at = tuple[end];
  const port = tuple[`${end}Port`] + 1;
  if (scan.family === 4) {
    into[0] = view.getUint32(at, false);
    into[1] = port;
    into[2] = 0;
    return;
  }
  const bits48 = (from: number): number =>
    view.getUint16(from, false) * 2 ** 32 + view.getUint32(from + 2, false);
  // Behind all of IPv4.
  into[0] = 2 ** 50 + bits48(at);
  into[1] = bits48(at + 6);
  into[2] = view.getUint32(at + 12, false) * 0x2_0000 + port;
}
