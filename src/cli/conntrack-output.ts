/** The forms in which `wayout conntrack list` writes flows to stdout, without holding more of them than it must. */
import type { EntryScan } from "../kernel/conntrack/scan.ts";
import type { FlowLineContext } from "../flows/flow-line.ts";
import { FlowPrinter } from "../flows/flow-printer.ts";
import { flowRecord } from "../flows/flow-record.ts";
import { FlowSorter, type SortKey } from "../flows/flow-sorter.ts";
import { writeOut } from "./byte-sink.ts";

/** Output is gathered to this size before it goes out. */
const CHUNK_BYTES = 256 * 1024;

const encoder = new TextEncoder();

/** Where flows go on their way to stdout. */
export interface FlowOutput {
  add(scan: EntryScan): void;
  end(): void;
}

export interface OutputOptions {
  /** Text lines, one JSON array, or JSON objects a line each. */
  readonly form: "text" | "array" | "lines";
  readonly sort?: SortKey;
  readonly reverse?: boolean;
  /** How many flows to write. */
  readonly limit: number;
  /** How many flows to expect. */
  readonly expected: number;
}

export function flowOutput(options: OutputOptions, context: FlowLineContext): FlowOutput {
  const output = unlimited(options, context);
  // Of a sorted list the first are known only at its end.
  if (options.sort !== undefined || options.limit === Number.POSITIVE_INFINITY) return output;
  let left = options.limit;
  return {
    add: (scan) => {
      if (left-- > 0) output.add(scan);
    },
    end: () => output.end(),
  };
}

function unlimited(options: OutputOptions, context: FlowLineContext): FlowOutput {
  const { form, sort, reverse, expected, limit } = options;
  const printer = new FlowPrinter(context, writeOut);
  if (sort === undefined) {
    if (form === "text") return { add: (scan) => printer.print(scan), end: () => printer.flush() };
    const pieces = piecesOf(form);
    return { add: (scan) => pieces.add(jsonLine(scan, form, context)), end: () => pieces.end() };
  }
  const sorter = new FlowSorter(sort, reverse, expected);
  return {
    add: (scan) => {
      if (form === "text") {
        const length = printer.printAlone(scan);
        sorter.add(scan, printer.bytes, length);
      } else sorter.add(scan, jsonLine(scan, form, context));
    },
    end: () => {
      const pieces = piecesOf(form);
      for (const line of sorter.lines(limit)) pieces.add(line);
      pieces.end();
    },
  };
}

function jsonLine(scan: EntryScan, form: "array" | "lines", { pods }: FlowLineContext): Uint8Array {
  const text = JSON.stringify(flowRecord(scan.entry(), pods));
  return encoder.encode(form === "lines" ? `${text}\n` : text);
}

function piecesOf(form: OutputOptions["form"]): Pieces {
  return form === "array" ? new Pieces("[\n", ",\n", "\n]\n") : new Pieces("", "", "");
}

/** Pieces of output, with something before, between and behind them, gathered into large writes. */
class Pieces {
  readonly #bytes = new Uint8Array(CHUNK_BYTES);
  #used = 0;
  #first = true;

  constructor(
    readonly before: string,
    readonly between: string,
    readonly after: string,
  ) {
    this.#put(encoder.encode(before));
  }

  add(piece: Uint8Array): void {
    if (!this.#first) this.#put(encoder.encode(this.between));
    this.#first = false;
    this.#put(piece);
  }

  end(): void {
    this.#put(encoder.encode(this.after));
    this.#flush();
  }

  #put(piece: Uint8Array): void {
    if (this.#used + piece.length > this.#bytes.length) this.#flush();
    if (piece.length > this.#bytes.length) return writeOut(piece);
    this.#bytes.set(piece, this.#used);
    this.#used += piece.length;
  }

  #flush(): void {
    if (this.#used > 0) writeOut(this.#bytes.subarray(0, this.#used));
    this.#used = 0;
  }
}
