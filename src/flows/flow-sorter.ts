import type { EntryScan, TupleScan } from "../kernel/conntrack/scan.ts";
import { protocolName, stateName } from "../kernel/conntrack/status.ts";
import { flowState } from "./flow.ts";

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

/** Lines of text are kept in pieces of this size. */
const PIECE_BYTES = 1024 * 1024;

interface Line {
  readonly key: number | string;
  readonly piece: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/**
 * Sorts lines that were printed for flows. It keeps the printed bytes and one key for each, so that hundreds of
 * thousands of flows fit into little memory.
 */
export class FlowSorter {
  readonly #key: (scan: EntryScan) => number | string;
  readonly #lines: Line[] = [];
  #piece = new Uint8Array(PIECE_BYTES);
  #used = 0;

  constructor(
    key: SortKey,
    readonly reverse = false,
  ) {
    this.#key = KEYS[key];
  }

  get size(): number {
    return this.#lines.length;
  }

  /** Keeps a line, with its newline, of the flow that the scan points at. */
  add(scan: EntryScan, line: Uint8Array): void {
    if (this.#used + line.length > this.#piece.length) {
      this.#piece = new Uint8Array(Math.max(PIECE_BYTES, line.length));
      this.#used = 0;
    }
    this.#piece.set(line, this.#used);
    const start = this.#used;
    this.#used += line.length;
    this.#lines.push({ key: this.#key(scan), piece: this.#piece, start, end: this.#used });
  }

  /** The lines in order, the first `limit` of them. */
  *lines(limit: number = Number.POSITIVE_INFINITY): Generator<Uint8Array> {
    const sign = this.reverse ? -1 : 1;
    this.#lines.sort((a, b) => sign * compare(a.key, b.key));
    for (let i = 0; i < Math.min(limit, this.#lines.length); i++) {
      const { piece, start, end } = this.#lines[i]!;
      yield piece.subarray(start, end);
    }
  }
}

function compare(a: number | string, b: number | string): number {
  if (typeof a === "number" && typeof b === "number") return b - a;
  return a < b ? -1 : a > b ? 1 : 0;
}

const KEYS: Readonly<Record<SortKey, (scan: EntryScan) => number | string>> = {
  timeout: (scan) => scan.timeoutSeconds,
  age: (scan) => -scan.startedAtMs,
  bytes: (scan) => scan.originalBytes + scan.replyBytes,
  packets: (scan) => scan.originalPackets + scan.replyPackets,
  mark: (scan) => scan.mark,
  source: (scan) => endKey(scan, scan.original, "source"),
  destination: (scan) => endKey(scan, scan.original, "destination"),
  outside: (scan) => endKey(scan, scan.reply, "destination"),
  protocol: (scan) => protocolName(scan.original.protocol),
  state: (scan) => {
    const { protocol } = scan.original;
    const name = scan.state < 0 ? undefined : stateName(protocol, scan.state);
    return flowState({ protocol, status: scan.status, ...(name === undefined ? {} : { state: name }) });
  },
};

/** A string that sorts as the family, the address's number and the port do. */
function endKey(scan: EntryScan, tuple: TupleScan, end: "source" | "destination"): string {
  const at = tuple[end];
  const port = tuple[`${end}Port`] + 1;
  const length = scan.family === 4 ? 4 : 16;
  const { bytes } = scan.wire;
  let key = String.fromCharCode(scan.family);
  for (let i = 0; i < length; i++) key += String.fromCharCode(bytes[at + i]!);
  return key + String.fromCharCode(port >> 8, port & 255);
}
