/**
 * How an expression stands in a message: its name, and attributes that depend on it. A description, made once for each
 * expression, gives the type of its value, the decoder and the encoder.
 */
import { NLA_TYPE_MASK } from "../netlink/attributes.ts";
import {
  attributeLength,
  AttributeSet,
  tagged,
  type AttributesOf,
  type AttributeTable,
} from "../netlink/attributes.ts";
import { string, type Codec } from "../netlink/codec.ts";
import { align4, DecodeError, EncodeError, type Wire } from "../netlink/wire.ts";
import { hexText } from "./values.ts";
import { bytesOfHex, encodeUtf8 } from "../../platform/bytes.ts";

type Valued<T extends AttributeTable> = AttributesOf<AttributeSet<T>>;
type Simplify<T> = { [K in keyof T]: T[K] };

/** An attribute that the description does not know, kept as it came. */
export interface UnknownField {
  readonly number: number;
  readonly bytes: string;
}

/** An attribute set of which some attributes always stand: their absence is a DecodeError. */
export interface Description<
  T extends AttributeTable = AttributeTable,
  R extends keyof T & string = keyof T & string,
> {
  readonly attributes: AttributeSet<T>;
  readonly required: readonly R[];
}

/** The plain value of a description. */
export type ValueOf<D> =
  D extends Description<infer T, infer R>
    ? Simplify<
        { readonly [K in R]: NonNullable<Valued<T>[K]> } & {
          readonly [K in Exclude<keyof T, R>]?: NonNullable<Valued<T>[K]>;
        } & { readonly unknown?: readonly UnknownField[] }
      >
    : never;

export function described<const T extends AttributeTable, const R extends keyof T & string = never>(
  table: T,
  required: readonly R[] = [],
): Description<T, R> {
  return { attributes: new AttributeSet(() => table), required };
}

// oxlint-disable-next-line typescript/no-explicit-any -- descriptions of different tables; ValueOf recovers each
export type Descriptions = Readonly<Record<string, Description<any, any>>>;

/** An expression that these descriptions do not know. */
export interface OtherExpression {
  readonly kind: "other";
  /** The kernel's name of the expression. */
  readonly name: string;
  /** NFTA_EXPR_DATA as it came, hexadecimal. */
  readonly data: string;
}

export type ExpressionOf<D extends Descriptions> =
  | { [K in keyof D & string]: Simplify<{ readonly kind: K } & ValueOf<D[K]>> }[keyof D & string]
  | OtherExpression;

/**
 * Codec for one expression (nested: nft_expr_attributes) of those described.
 * The value is the attributes' value with `kind` beside them.
 */
export function expressionCodec<const D extends Descriptions>(descriptions: D): Codec<ExpressionOf<D>> {
  const variants = Object.fromEntries(
    Object.entries(descriptions).map(([name, one]) => [name, one.attributes]),
  );
  const set = new AttributeSet(() => ({ expr: tagged("NFTA_EXPR_NAME", 1, "NFTA_EXPR_DATA", 2, variants) }));
  const known = new Map(
    Object.entries(descriptions).map(([kind, { attributes, required }]) => [
      nameHash(encodeUtf8(kind), 0, kind.length),
      { kind, attributes, required },
    ]),
  );
  const seen = new SeenExpressions(known);
  if (known.size !== Object.keys(descriptions).length) throw new EncodeError("", "two names share a hash");
  return {
    kind: "nft_expr",
    nested: true,
    write(writer, value) {
      if (value.kind === "other") {
        const { name, data: raw } = value as OtherExpression;
        set.write(writer, { expr: { kind: "other", name, data: bytesOfHex(raw) } });
        return;
      }
      const { kind, unknown, ...fields } = value as { kind: string; unknown?: readonly UnknownField[] };
      const kept = unknown?.map((field) => ({
        number: field.number,
        bytes: bytesOfHex(field.bytes),
      }));
      const description = Object.hasOwn(descriptions, kind) ? descriptions[kind] : undefined;
      if (description === undefined)
        throw new EncodeError("NFTA_EXPR_NAME", `"${kind}" is no expression we know`);
      requireFields(description, fields, EncodeError, kind);
      const attributes = kept === undefined ? fields : { ...fields, unknown: kept };
      set.write(writer, { expr: { kind, data: attributes } });
    },
    read: (wire, start, end) => seen.read(wire, start, end) as ExpressionOf<D>,
    set,
    pathAt: (wire, start, end, offset) => set.pathAt(wire, start, end, offset),
    nameOf: (number) => set.nameOf(number),
  };
}

interface Known {
  readonly kind: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- see Descriptions
  readonly attributes: AttributeSet<any>;
  readonly required: readonly string[];
}

/** A number for a name, so that reading one makes no string of it. */
function nameHash(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0;
  for (let at = start; at < end && bytes[at] !== 0; at++) hash = (hash * 31 + bytes[at]!) | 0;
  return hash;
}

function isName(name: string, bytes: Uint8Array, start: number, end: number): boolean {
  for (let i = 0; i < name.length; i++) if (bytes[start + i] !== name.charCodeAt(i)) return false;
  return start + name.length >= end || bytes[start + name.length] === 0;
}

/** Expressions longer than this are too different from one another to be worth remembering. */
const SEEN_BYTES = 96;
const SEEN_EXPRESSIONS = 4096;
const COUNTING: ReadonlySet<string> = new Set(["counter", "limit", "quota", "connlimit", "last"]);

interface Seen {
  readonly bytes: Uint8Array;
  readonly value: unknown;
}

/**
 * A ruleset says the same things over and over: `meta l4proto tcp`, `accept`. An expression whose bytes were seen
 * before is the value it was then, which spares the work and the memory. Values are never changed.
 */
class SeenExpressions {
  readonly #seen = new Map<number, Seen>();
  /** Hashes of what was seen once: every rule has something of its own, which is not worth keeping. */
  readonly #once = new Int32Array(SEEN_EXPRESSIONS);

  constructor(readonly known: ReadonlyMap<number, Known>) {}

  read(wire: Wire, start: number, end: number): unknown {
    if (end - start > SEEN_BYTES) return readExpression(this.known, wire, start, end);
    const { bytes } = wire;
    const hash = hashOf(bytes, start, end);
    const found = this.#seen.get(hash);
    if (found !== undefined && isSame(found.bytes, bytes, start, end)) return found.value;
    const value = readExpression(this.known, wire, start, end);
    if (this.#isSecond(hash) && !COUNTING.has((value as { readonly kind: string }).kind)) {
      if (this.#seen.size >= SEEN_EXPRESSIONS) this.#seen.clear();
      this.#seen.set(hash, { bytes: bytes.slice(start, end), value });
    }
    return value;
  }

  #isSecond(hash: number): boolean {
    const slot = hash & (SEEN_EXPRESSIONS - 1);
    if (this.#once[slot] === hash) return true;
    this.#once[slot] = hash;
    return false;
  }
}

function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = end - start;
  for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + bytes[at]!) | 0;
  return hash;
}

function isSame(known: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (known.length !== end - start) return false;
  for (let at = 0; at < known.length; at++) if (known[at] !== bytes[start + at]) return false;
  return true;
}

/** The same as the tagged pair of attributes would give, in one pass: a large ruleset is little but expressions. */
function readExpression(known: ReadonlyMap<number, Known>, wire: Wire, start: number, end: number): unknown {
  let nameStart = -1;
  let nameEnd = -1;
  let dataStart = 0;
  let dataEnd = 0;
  for (let at = start; at < end;) {
    const length = attributeLength(wire, at, end);
    const number = wire.view.getUint16(at + 2, true) & NLA_TYPE_MASK;
    if (number === 1) {
      nameStart = at + 4;
      nameEnd = at + length;
    } else if (number === 2) {
      dataStart = at + 4;
      dataEnd = at + length;
    }
    at += align4(length);
  }
  if (nameStart < 0) throw new DecodeError("NFTA_EXPR_NAME", "is missing");
  const found = known.get(nameHash(wire.bytes, nameStart, nameEnd));
  if (found === undefined || !isName(found.kind, wire.bytes, nameStart, nameEnd)) {
    return {
      kind: "other",
      name: string.read(wire, nameStart, nameEnd),
      data: hexText(wire.bytes, dataStart, dataEnd),
    };
  }
  const value: Record<string, unknown> = { kind: found.kind };
  try {
    found.attributes.read(wire, dataStart, dataEnd, value);
  } catch (error) {
    throw error instanceof DecodeError ? error.within(`NFTA_EXPR_DATA(${found.kind})`) : error;
  }
  requireFields(found, value, DecodeError, found.kind);
  if (value["unknown"] !== undefined) value["unknown"] = plainUnknown(value["unknown"]);
  return value;
}

function plainUnknown(unknown: unknown): UnknownField[] {
  return (unknown as readonly { number: number; bytes: Uint8Array }[]).map((field) => ({
    number: field.number,
    bytes: hexText(field.bytes),
  }));
}

function requireFields(
  description: Descriptions[string],
  fields: Readonly<Record<string, unknown>>,
  Failure: typeof DecodeError | typeof EncodeError,
  kind: string,
): void {
  for (const field of description.required) {
    if (fields[field] !== undefined) continue;
    const name = (description.attributes.table as AttributeTable)[field]?.name ?? field;
    throw new Failure(`NFTA_EXPR_DATA(${kind}).${name}`, "is missing");
  }
}
