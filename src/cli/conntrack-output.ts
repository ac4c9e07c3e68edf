/** The forms in which `wayout conntrack list` writes flows to stdout, without holding more of them than it must. */
import type { EntryScan } from "../linux/conntrack/scan.ts";
import type { FlowLineContext } from "../flows/flow-line.ts";
import { FlowPrinter } from "../flows/flow-printer.ts";
import { flowRecord } from "../flows/flow-record.ts";
import { FlowSorter, type SortKey } from "../flows/flow-sorter.ts";
import { visibleJson } from "../text/json.ts";
import { writeOut } from "./byte-sink.ts";

/** Output is gathered to this size before it goes out. */
const CHUNK_BYTES = 256 * 1024;

/**
 * Flows of a sorted list that are written as JSON between two garbage collections: 10 MB of garbage. Left alone, the
 * collector waits until there is as much garbage as there is in use, and a sorted list holds the whole table.
 */
const FLOWS_A_COLLECTION = 4096;
/** UTF-8 bytes that a character of a string takes at most. */
const MOST_BYTES = 3;

const DEL = 0x7f;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

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
  /** How many flows to write, and how many to leave out before them. */
  readonly limit: number;
  readonly offset: number;
  /** How many flows to expect. */
  readonly expected: number;
}

export function flowOutput(options: OutputOptions, context: FlowLineContext): FlowOutput {
  const { form, sort, limit, offset } = options;
  const output = form === "text" ? textOutput(context) : jsonOutput(form, context);
  if (sort !== undefined) return sortedOutput(output, sort, options);
  if (limit === Number.POSITIVE_INFINITY && offset === 0) return output;
  let place = 0;
  return {
    add: (scan) => {
      if (place >= offset && place < offset + limit) output.add(scan);
      place++;
    },
    end: () => output.end(),
  };
}

function sortedOutput(output: FlowOutput, sort: SortKey, options: OutputOptions): FlowOutput {
  const { form, reverse, limit, offset, expected } = options;
  const sorter = new FlowSorter(sort, reverse, expected);
  let written = 0;
  const write = (scan: EntryScan): void => {
    output.add(scan);
    if (form !== "text" && ++written % FLOWS_A_COLLECTION === 0) Bun.gc(true);
  };
  return {
    add: (scan) => sorter.add(scan),
    end: () => {
      sorter.visit(write, limit, offset);
      output.end();
    },
  };
}

function textOutput(context: FlowLineContext): FlowOutput {
  const printer = new FlowPrinter(context, writeOut);
  return { add: (scan) => printer.print(scan), end: () => printer.flush() };
}

function jsonOutput(form: "array" | "lines", { pods }: FlowLineContext): FlowOutput {
  const pieces = form === "array" ? new Pieces("[\n", ",\n", "\n]\n") : new Pieces("", "", "");
  const behind = form === "lines" ? "\n" : "";
  return {
    add: (scan) => pieces.add(`${JSON.stringify(flowRecord(scan.entry(), pods))}${behind}`),
    end: () => pieces.end(),
  };
}

/**
 * Pieces of JSON, with something before, between and behind them, gathered into large writes. What cannot be seen in them
 * is looked for once a write: a table has hundreds of thousands of flows, and hardly one whose pod has such a name.
 */
class Pieces {
  readonly #bytes = new Uint8Array(CHUNK_BYTES);
  #used = 0;
  /** Characters in them: as many as bytes when all are ASCII. */
  #characters = 0;
  #first = true;

  constructor(
    readonly before: string,
    readonly between: string,
    readonly after: string,
  ) {
    this.#put(before);
  }

  add(piece: string): void {
    if (!this.#first) this.#put(this.between);
    this.#first = false;
    this.#put(piece);
  }

  end(): void {
    this.#put(this.after);
    this.#flush();
  }

  /** Encodes into the chunk itself: bytes of its own for each piece would wait for the garbage collector. */
  #put(text: string): void {
    const room = MOST_BYTES * text.length;
    if (this.#used + room > this.#bytes.length) this.#flush();
    if (room > this.#bytes.length) return writeOut(encoder.encode(visibleJson(text)));
    this.#characters += text.length;
    this.#used += encoder.encodeInto(text, this.#bytes.subarray(this.#used)).written;
  }

  #flush(): void {
    const bytes = this.#bytes.subarray(0, this.#used);
    const isPlain = this.#characters === this.#used && !bytes.includes(DEL);
    if (this.#used > 0) writeOut(isPlain ? bytes : encoder.encode(visibleJson(decoder.decode(bytes))));
    this.#used = this.#characters = 0;
  }
}
