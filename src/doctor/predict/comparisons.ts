/** Expressions that work on registers: cmp, range, bitwise, byteorder, lookup. */
import type { ExpressionKinded } from "../../linux/nftables/expressions.ts";
import type { Table } from "../../linux/nftables/ruleset.ts";
import { registerWord } from "../../linux/nftables/registers.ts";
import { BREAK, CONTINUE, type Machine, type Step, type StepResult } from "./machine.ts";
import type { DoubtSubject } from "./oracle.ts";
import { compareBytes } from "./sets.ts";
import type { Unforeseen } from "./oracle.ts";

function fromHex(text: string | undefined): Uint8Array {
  return Buffer.from(text ?? "", "hex");
}

const HOLDS: Readonly<Record<string, (difference: number) => boolean>> = {
  "==": (difference) => difference === 0,
  "!=": (difference) => difference !== 0,
  "<": (difference) => difference < 0,
  "<=": (difference) => difference <= 0,
  ">": (difference) => difference > 0,
  ">=": (difference) => difference >= 0,
};

/** What fits in one register is compared as a number: most rules begin with such a comparison. */
const REGISTER_BYTES = 4;

export function compileCmp(expression: ExpressionKinded<"cmp">): Step {
  const word = registerWord(expression.sreg);
  const length = expression.data.length / 2;
  if (expression.op === "==" && length > 0 && length <= REGISTER_BYTES) {
    return compileEqual(word, expression.data);
  }
  const data = fromHex(expression.data);
  const holds = HOLDS[expression.op];
  if (holds === undefined) return (machine) => decide(machine, `comparison ${expression.op}`);
  return (machine) => {
    const why = machine.whyUnknown(word, length);
    if (why !== undefined) return decide(machine, why);
    const result = holds(compareBytes(machine.load(word, length), data));
    return now(machine, word, result, (text) => `${expression.op} ${text(data)}`);
  };
}

function compileEqual(word: number, data: string): Step {
  const length = data.length / 2;
  const wanted = Number.parseInt(data, 16);
  return (machine) => {
    const why = machine.unknown[word];
    if (why !== undefined) return decide(machine, why);
    const result = machine.loadBigEndian(word, length) === wanted;
    return now(machine, word, result, (text) => `== ${text(fromHex(data))}`);
  };
}

/** The result for this packet; a question where others of its flow, or later ones, have another value. */
function now(
  machine: Machine,
  word: number,
  result: boolean,
  compared: (text: (bytes: Uint8Array) => string) => string,
): StepResult {
  const differing = machine.differing[word];
  if (differing === undefined) return result ? CONTINUE : BREAK;
  const { about, of, text } = differing;
  return machine.ask(`${about} ${compared(text)}`, result, undefined, of) ? CONTINUE : BREAK;
}

/** Both ways are possible; a number by chance goes now one of them and now the other. */
export function decide(
  machine: Machine,
  what: string | Unforeseen,
  likely?: boolean,
  of?: DoubtSubject,
): StepResult {
  const { why, choices }: Unforeseen = typeof what === "string" ? { why: what } : what;
  return machine.ask(why, likely, choices === undefined ? undefined : 0.5, of) ? CONTINUE : BREAK;
}

export function compileRange(expression: ExpressionKinded<"range">): Step {
  const word = registerWord(expression.sreg);
  const from = fromHex(expression.from);
  const to = fromHex(expression.to);
  const inside = expression.op === "==";
  return (machine) => {
    const why = machine.whyUnknown(word, from.length);
    if (why !== undefined) return decide(machine, why);
    const value = machine.load(word, from.length);
    const within = compareBytes(value, from) >= 0 && compareBytes(value, to) <= 0;
    return now(
      machine,
      word,
      within === inside,
      (text) => `${inside ? "from" : "not from"} ${text(from)} to ${text(to)}`,
    );
  };
}

export function compileBitwise(expression: ExpressionKinded<"bitwise">): Step {
  const from = registerWord(expression.sreg);
  const to = registerWord(expression.dreg);
  const { length, op = "mask-xor" } = expression;
  const mask = fromHex(expression.mask);
  const xor = fromHex(expression.xor);
  const operand = fromHex(expression.data);
  const second = expression.sreg2 === undefined ? undefined : registerWord(expression.sreg2);
  return (machine) => {
    const why =
      machine.whyUnknown(from, length) ??
      (second === undefined ? undefined : machine.whyUnknown(second, length));
    // A masked register whose unknown bytes are masked away would be known; rules that do so are not worth the care.
    if (why !== undefined) {
      machine.storeUnknown(to, length, why);
      return CONTINUE;
    }
    const value = Uint8Array.from(machine.load(from, length));
    const other = second === undefined ? operand : Uint8Array.from(machine.load(second, length));
    const result = bitwise(op, value, mask, xor, other);
    if (result === undefined) machine.storeUnknown(to, length, `bitwise ${op}`);
    else machine.store(to, result);
    return CONTINUE;
  };
}

function bitwise(
  op: string,
  value: Uint8Array,
  mask: Uint8Array,
  xor: Uint8Array,
  other: Uint8Array,
): Uint8Array | undefined {
  switch (op) {
    case "mask-xor":
      return value.map((byte, at) => (byte & (mask[at] ?? 0)) ^ (xor[at] ?? 0));
    case "and":
      return value.map((byte, at) => byte & (other[at] ?? 0));
    case "or":
      return value.map((byte, at) => byte | (other[at] ?? 0));
    case "xor":
      return value.map((byte, at) => byte ^ (other[at] ?? 0));
    case "lshift":
    case "rshift":
      return shift(value, op, new DataView(other.buffer, other.byteOffset).getUint32(0, true));
    default:
      return undefined;
  }
}

/** nft_bitwise_eval_lshift: the register is an array of host-order 32-bit words, the first the most significant. */
function shift(value: Uint8Array, op: "lshift" | "rshift", by: number): Uint8Array {
  const words = Math.ceil(value.length / 4);
  const padded = new Uint8Array(words * 4);
  padded.set(value);
  const view = new DataView(padded.buffer);
  let number = 0n;
  for (let at = 0; at < words; at++) number = (number << 32n) | BigInt(view.getUint32(at * 4, true));
  const width = BigInt(words * 32);
  number = op === "lshift" ? (number << BigInt(by)) & ((1n << width) - 1n) : number >> BigInt(by);
  for (let at = words - 1; at >= 0; at--, number >>= 32n)
    view.setUint32(at * 4, Number(number & 0xffff_ffffn), true);
  return padded.subarray(0, value.length);
}

/** ntoh and hton are the same on a little-endian machine, the only kind that wayout is built for. */
function swapped(bytes: Uint8Array, size: number): Uint8Array {
  const value = Uint8Array.from(bytes);
  for (let at = 0; at + size <= value.length; at += size) value.subarray(at, at + size).reverse();
  return value;
}

export function compileByteorder(expression: ExpressionKinded<"byteorder">): Step {
  const from = registerWord(expression.sreg);
  const to = registerWord(expression.dreg);
  const { length, size } = expression;
  return (machine) => {
    const why = machine.whyUnknown(from, length);
    if (why !== undefined) {
      machine.storeUnknown(to, length, why);
      return CONTINUE;
    }
    const differing = machine.differing[from];
    machine.store(to, swapped(machine.load(from, length), size));
    // What differs between packets does so in the other order as well.
    if (differing !== undefined)
      machine.differs(to, { ...differing, text: (bytes) => differing.text(swapped(bytes, size)) });
    return CONTINUE;
  };
}

export function compileLookup(expression: ExpressionKinded<"lookup">, table: Table): Step {
  const word = registerWord(expression.sreg);
  const inverted = expression.flags?.includes("inv") === true;
  const into =
    expression.dreg === undefined || expression.dreg === 0 ? undefined : registerWord(expression.dreg);
  return (machine) => {
    const index = machine.view.set(table, expression.set);
    if (index === undefined) return decide(machine, `set @${expression.set}, which the snapshot lacks`);
    const why = machine.whyUnknown(word, index.keyLength);
    if (why !== undefined) {
      if (expression.dreg === undefined) return decide(machine, why);
      return anyElement(machine, expression, index.set.elements, into, why);
    }
    const found = index.find(machine.load(word, index.keyLength));
    if ((found !== undefined) === inverted) return BREAK;
    if (found === undefined || expression.dreg === undefined) return CONTINUE;
    return take(machine, found.data, into);
  };
}

type ElementData = NonNullable<Table["sets"][number]["elements"][number]["data"]>;

function take(machine: Machine, data: ElementData | undefined, into: number | undefined): StepResult {
  if (data === undefined) return CONTINUE;
  if ("value" in data) {
    if (into !== undefined) machine.store(into, fromHex(data.value));
    return CONTINUE;
  }
  return data.chain === undefined ? { verdict: data.verdict } : { verdict: data.verdict, chain: data.chain };
}

/**
 * A map that is asked with a key nobody can foresee (a random number): one of its elements, or none where it does not
 * hold every number there is.
 */
function anyElement(
  machine: Machine,
  expression: ExpressionKinded<"lookup">,
  elements: Table["sets"][number]["elements"],
  into: number | undefined,
  { why, choices }: Unforeseen,
): StepResult {
  // The kernel lists them in the order of its hash, which is another one each time.
  const sorted = elements.toSorted((a, b) => ((a.key ?? "") < (b.key ?? "") ? -1 : 1));
  for (const [at, element] of sorted.entries()) {
    if (at + 1 === choices) return take(machine, element.data, into);
    const asked = `${why} picks element ${at + 1} of map @${expression.set}`;
    const isTaken =
      choices === undefined
        ? machine.ask(asked, at === 0 ? true : undefined)
        : machine.ask(asked, at === 0, 1 / (choices - at));
    if (isTaken) return take(machine, element.data, into);
  }
  return BREAK;
}
