/**
 * Room `linux/`: what is known about Linux, as values: numbers of its headers, netlink and its tables, packets,
 * structures of xtables, the text of nft and iptables. This file has the tables of attributes, on which most of it
 * stands: each set of netlink attributes is described once, as data; the TypeScript type, the encoder, the decoder,
 * the dump and the answer to "which attribute did the kernel complain about" all come from that one table.
 *
 * In: bytes of the kernel, values to be sent to it.
 * Out: values, bytes, text. Decoding keeps what it does not know; encoding refuses what cannot be sent.
 * Touches: nothing: kernel/ opens, linux/ knows.
 */
import { encodeUtf8 } from "../../platform/bytes.ts";
import type { Codec } from "./codec.ts";
import { align4, DecodeError, EncodeError, type Wire, type Writer } from "./wire.ts";

/** NLA_F_NESTED and NLA_F_NET_BYTEORDER (include/uapi/linux/netlink.h) are flags in the type's two top bits. */
const NLA_F_NESTED = 0x8000;
export const NLA_TYPE_MASK = 0x3fff;
/** Bytes of a struct nlattr: its length and its type. */
export const NLA_HDRLEN = 4;

interface Single<T> {
  readonly shape: "single";
  readonly name: string;
  readonly number: number;
  readonly codec: Codec<T>;
  readonly required: boolean;
}

interface Repeated<T> {
  readonly shape: "repeated";
  readonly name: string;
  readonly number: number;
  readonly codec: Codec<T>;
}

interface Tagged<V extends Variants> {
  readonly shape: "tagged";
  readonly name: string;
  readonly number: number;
  readonly dataName: string;
  readonly dataNumber: number;
  readonly variants: V;
}

type Variants = Readonly<Record<string, AttributeSet<AttributeTable>>>;
type Entry = Single<unknown> | Repeated<unknown> | Tagged<Variants>;
// `never` in the writer's position and `unknown` in the reader's make every codec fit.
export type AttributeTable = Readonly<Record<string, AnyEntry>>;
// oxlint-disable-next-line typescript/no-explicit-any -- a table holds codecs of different types; each is recovered by AttributesOf
type AnyEntry = Single<any> | Repeated<any> | Tagged<any>;

/** The union a tagged pair decodes to. A kind that the table does not know keeps its name and its bytes. */
export type TaggedValue<V extends Variants> =
  | { [K in keyof V & string]: { readonly kind: K; readonly data: AttributesOf<V[K]> } }[keyof V & string]
  | { readonly kind: "other"; readonly name: string; readonly data: Uint8Array };

type ValueOf<E> =
  E extends Single<infer T>
    ? T
    : E extends Repeated<infer T>
      ? readonly T[]
      : E extends Tagged<infer V>
        ? TaggedValue<V>
        : never;

/** An attribute that the table does not know, kept as it came. */
export interface UnknownAttribute {
  readonly number: number;
  readonly bytes: Uint8Array;
}

/** The value of a set: every attribute may be absent; what the table does not know is kept in `unknown`. */
export type AttributesOf<S> =
  S extends AttributeSet<infer T>
    ? { readonly [K in keyof T]?: ValueOf<T[K]> } & { readonly unknown?: readonly UnknownAttribute[] }
    : never;

/** One attribute: its kernel name, its number in the enum, how its payload is coded. */
export function attribute<T>(
  name: string,
  number: number,
  codec: Codec<T>,
  presence: "optional" | "required" = "optional",
): Single<T> {
  return { shape: "single", name, number, codec, required: presence === "required" };
}

/** An attribute that may stand several times in its set, e.g. IFLA_BRIDGE_VLAN_INFO. */
export function repeated<T>(name: string, number: number, codec: Codec<T>): Repeated<T> {
  return { shape: "repeated", name, number, codec };
}

/** Two attributes of which the first, a string, says what the second holds: IFLA_INFO_KIND and IFLA_INFO_DATA,
 * NFTA_EXPR_NAME and NFTA_EXPR_DATA. */
export function tagged<const V extends Variants>(
  name: string,
  number: number,
  dataName: string,
  dataNumber: number,
  variants: V,
): Tagged<V> {
  return { shape: "tagged", name, number, dataName, dataNumber, variants };
}

/** What is to be known of a set for writing it: where each key stands, and what must not be missing. */
interface WritingOrder {
  readonly places: Readonly<Record<string, number>>;
  readonly entries: readonly Entry[];
  readonly required: readonly { readonly key: string; readonly name: string }[];
}

const described: { prepare(): void }[] = [];

/** Makes the tables of all sets that there are, for a caller that has time for it before the first of them is needed. */
export function prepareAttributeSets(): void {
  for (const set of described) set.prepare();
}

/** A described set of attributes, e.g. all IFLA_*. */
export class AttributeSet<const T extends AttributeTable> {
  #lookup: Slot[] | undefined;
  #order: WritingOrder | undefined;

  #table: T | undefined;

  /**
   * @param describe makes the table when it is first asked for: most sets that a short-lived process knows of, it never
   *   reads or writes, and a table costs it as much as reading three files
   * @param unknown what happens to attributes that the table does not have when a set is read
   */
  constructor(
    private readonly describe: () => T,
    private readonly unknown: "keeps" | "passes over" = "keeps",
  ) {
    described.push(this);
  }

  prepare(): void {
    void this.#byNumber;
    void this.#writingOrder;
  }

  get table(): T {
    return (this.#table ??= this.describe());
  }

  /** These attributes alone; the others are passed over when it is read. For a caller that asks often and needs little. */
  only<const K extends keyof T & string>(...keys: readonly K[]): AttributeSet<Pick<T, K>> {
    return new AttributeSet(() => {
      const table: Partial<Record<K, AnyEntry>> = {};
      for (const key of keys) table[key] = this.table[key]!;
      return table as unknown as Pick<T, K>;
    }, "passes over");
  }

  get #entries(): Readonly<Record<string, Entry>> {
    return this.table as Readonly<Record<string, Entry>>;
  }

  get #byNumber(): readonly (Slot | undefined)[] {
    if (this.#lookup !== undefined) return this.#lookup;
    const lookup: Slot[] = [];
    const entries = this.#entries;
    for (const key in entries) {
      const entry = entries[key]!;
      if (entry.shape === "tagged") {
        lookup[entry.number] = { key, part: "tag", entry };
        lookup[entry.dataNumber] = { key, part: "data", entry };
      } else lookup[entry.number] = { key, part: entry.shape, entry } as Slot;
    }
    return (this.#lookup = lookup);
  }

  get #writingOrder(): WritingOrder {
    if (this.#order !== undefined) return this.#order;
    // Without a prototype: what an object has by nature is no attribute.
    const places = Object.create(null) as Record<string, number>;
    const entries: Entry[] = [];
    const required: { key: string; name: string }[] = [];
    const table = this.#entries;
    for (const key in table) {
      const entry = table[key]!;
      places[key] = entries.length;
      entries.push(entry);
      if (entry.shape === "single" && entry.required) required.push({ key, name: entry.name });
    }
    return (this.#order = { places, entries, required });
  }

  /** Kernel name and number of every attribute of the table, for checks against the kernel's headers. */
  *names(): Generator<readonly [string, number]> {
    for (const entry of Object.values(this.#entries)) {
      yield [entry.name, entry.number];
      if (entry.shape === "tagged") yield [entry.dataName, entry.dataNumber];
    }
  }

  /**
   * In the table's order: few of a large table's attributes are given, and so the given ones are sorted instead of going
   * through the table.
   * @throws EncodeError naming the attribute
   */
  write(writer: Writer, value: AttributesOf<AttributeSet<T>>): void {
    const given = value as Readonly<Record<string, unknown>>;
    const { places, entries, required } = this.#writingOrder;
    const keys: string[] = [];
    for (const key in given) {
      if (given[key] === undefined || key === "unknown") continue;
      const place = places[key];
      if (place === undefined) throw new EncodeError(key, "is no attribute of this set");
      let at = keys.length;
      for (; at > 0 && places[keys[at - 1]!]! > place; at--) keys[at] = keys[at - 1]!;
      keys[at] = key;
    }
    for (let at = 0; at < required.length; at++) {
      const { key, name } = required[at]!;
      if (given[key] === undefined) throw new EncodeError(name, "is required and missing");
    }
    for (let at = 0; at < keys.length; at++) {
      const key = keys[at]!;
      writeEntry(writer, entries[places[key]!]!, given[key]);
    }
    for (const attribute of value.unknown ?? []) {
      const at = beginAttribute(writer, attribute.number);
      writer.append(attribute.bytes);
      endAttribute(writer, at);
    }
  }

  /**
   * @param value an object to put the attributes into, for callers that have fields of their own beside them
   * @throws DecodeError naming the attribute
   */
  read(
    wire: Wire,
    start: number,
    end: number,
    value: Record<string, unknown> = {},
  ): AttributesOf<AttributeSet<T>> {
    let unknown: UnknownAttribute[] | undefined;
    let pairs: Map<string, PairInProgress> | undefined;
    const slots = this.#byNumber;
    const { view } = wire;
    for (let at = start; at < end;) {
      // Length and type in one question, and no call that can be spared: most attributes of a link are only passed by, and
      // in a young process that alone was a tenth of an ADD.
      const head = end - at < NLA_HDRLEN ? 0 : view.getUint32(at, true);
      const length = head & 0xffff;
      if (length < NLA_HDRLEN || at + length > end) attributeLength(wire, at, end);
      const slot = slots[(head >>> 16) & NLA_TYPE_MASK];
      if (slot === undefined) {
        if (this.unknown === "keeps") {
          const number = (head >>> 16) & NLA_TYPE_MASK;
          (unknown ??= []).push({ number, bytes: wire.bytes.slice(at + NLA_HDRLEN, at + length) });
        }
      } else if (slot.part === "single") {
        value[slot.key] = readField(slot.entry, wire, at + NLA_HDRLEN, at + length);
      } else if (slot.part === "repeated") {
        const list = (value[slot.key] ??= []) as unknown[];
        list.push(readField(slot.entry, wire, at + NLA_HDRLEN, at + length));
      } else notePair((pairs ??= new Map()), slot, wire, at + NLA_HDRLEN, at + length);
      at += (length + 3) & ~3;
    }
    if (pairs !== undefined) for (const [key, pair] of pairs) value[key] = readPair(pair, wire);
    if (unknown !== undefined) value["unknown"] = unknown;
    return value as AttributesOf<AttributeSet<T>>;
  }

  /** The kernel names from this set down to the attribute that holds `offset`: "IFLA_LINKINFO.IFLA_INFO_KIND". */
  pathAt(wire: Wire, start: number, end: number, offset: number): string | undefined {
    let tag = "";
    for (let at = start; at + NLA_HDRLEN <= end;) {
      const length = attributeLength(wire, at, end);
      const number = wire.view.getUint16(at + 2, true) & NLA_TYPE_MASK;
      const found = this.#byNumber[number];
      if (found?.part === "tag") tag = cString(wire, at + NLA_HDRLEN, at + length);
      if (offset >= at && offset < at + align4(length)) {
        if (found === undefined) return `attribute ${number}`;
        const name = nameOfSlot(found);
        if (offset < at + NLA_HDRLEN) return name;
        const inner = innerPath(found, tag, wire, at + NLA_HDRLEN, at + length, offset);
        return inner === undefined ? name : `${name}.${inner}`;
      }
      at += align4(length);
    }
    return undefined;
  }

  /** Kernel name of an attribute number in this set. */
  nameOf(number: number): string | undefined {
    const found = this.#byNumber[number];
    return found === undefined ? undefined : nameOfSlot(found);
  }
}

/** What an attribute number stands for. An object and not a tuple: to take a tuple apart is slow in code that is cold. */
type Slot =
  | { readonly key: string; readonly part: "single"; readonly entry: Single<unknown> }
  | { readonly key: string; readonly part: "repeated"; readonly entry: Repeated<unknown> }
  | { readonly key: string; readonly part: "tag" | "data"; readonly entry: Tagged<Variants> };

function nameOfSlot(slot: Slot): string {
  return slot.part === "data" ? slot.entry.dataName : slot.entry.name;
}

interface PairInProgress {
  readonly entry: Tagged<Variants>;
  tag?: string;
  data?: readonly [number, number];
}

function notePair(
  pairs: Map<string, PairInProgress>,
  { key, part, entry }: Extract<Slot, { readonly part: "tag" | "data" }>,
  wire: Wire,
  start: number,
  end: number,
): void {
  let pair = pairs.get(key);
  if (pair === undefined) pairs.set(key, (pair = { entry }));
  if (part === "tag") pair.tag = cString(wire, start, end);
  else pair.data = [start, end];
}

function readPair(pair: PairInProgress, wire: Wire): TaggedValue<Variants> {
  const { entry } = pair;
  const tag = pair.tag ?? "";
  const variant = Object.hasOwn(entry.variants, tag) ? entry.variants[tag] : undefined;
  if (variant === undefined) {
    const data = pair.data === undefined ? new Uint8Array() : wire.bytes.slice(pair.data[0], pair.data[1]);
    return { kind: "other", name: tag, data };
  }
  if (pair.data === undefined) return { kind: tag, data: {} };
  try {
    return { kind: tag, data: variant.read(wire, pair.data[0], pair.data[1]) };
  } catch (error) {
    throw error instanceof DecodeError ? error.within(`${entry.dataName}(${tag})`) : error;
  }
}

function readField(
  entry: Single<unknown> | Repeated<unknown>,
  wire: Wire,
  start: number,
  end: number,
): unknown {
  try {
    return entry.codec.read(wire, start, end);
  } catch (error) {
    throw error instanceof DecodeError ? error.within(entry.name) : error;
  }
}

function innerPath(
  slot: Slot,
  tag: string,
  wire: Wire,
  start: number,
  end: number,
  offset: number,
): string | undefined {
  if (slot.part === "single" || slot.part === "repeated") {
    return slot.entry.codec.pathAt?.(wire, start, end, offset);
  }
  const { variants } = slot.entry;
  const variant = Object.hasOwn(variants, tag) ? variants[tag] : undefined;
  return slot.part === "data" ? variant?.pathAt(wire, start, end, offset) : undefined;
}

function cString(wire: Wire, start: number, end: number): string {
  let text = "";
  for (let i = start; i < end && wire.bytes[i] !== 0; i++) text += String.fromCharCode(wire.bytes[i]!);
  return text;
}

/** The length field of the attribute at `at`, checked against the room that is left. @throws DecodeError */
export function attributeLength(wire: Wire, at: number, end: number): number {
  if (end - at < NLA_HDRLEN)
    throw new DecodeError("", `${end - at} bytes are too few for an attribute header`);
  const length = wire.view.getUint16(at, true);
  if (length < NLA_HDRLEN || at + length > end) {
    throw new DecodeError("", `an attribute claims ${length} bytes where ${end - at} are left`);
  }
  return length;
}

/** Writes an attribute header and returns where it starts; endAttribute fills in the length. */
export function beginAttribute(writer: Writer, number: number, nested = false): number {
  const at = writer.reserve(NLA_HDRLEN);
  writer.view.setUint16(at + 2, nested ? number | NLA_F_NESTED : number, true);
  return at;
}

/** Closes what beginAttribute opened, padding included. @throws EncodeError over 64 KiB */
export function endAttribute(writer: Writer, at: number): void {
  const length = writer.length - at;
  if (length > 0xffff) throw new EncodeError("", `${length} bytes do not fit in one attribute (65535 do)`);
  writer.view.setUint16(at, length, true);
  writer.align();
}

function writeEntry(writer: Writer, entry: Entry, field: unknown): void {
  switch (entry.shape) {
    case "single":
      writeAttribute(writer, entry.name, entry.number, entry.codec, field);
      break;
    case "repeated":
      for (const item of field as readonly unknown[]) {
        writeAttribute(writer, entry.name, entry.number, entry.codec, item);
      }
      break;
    case "tagged":
      writeTagged(writer, entry, field as TaggedValue<Variants>);
      break;
  }
}

function writeAttribute<V>(writer: Writer, name: string, number: number, codec: Codec<V>, value: V): void {
  const at = beginAttribute(writer, number, codec.nested === true);
  try {
    codec.write(writer, value);
    endAttribute(writer, at);
  } catch (error) {
    throw error instanceof EncodeError ? error.within(name) : error;
  }
}

function writeTagged(writer: Writer, entry: Tagged<Variants>, value: TaggedValue<Variants>): void {
  const name = value.kind === "other" ? (value as { readonly name: string }).name : value.kind;
  const tag = beginAttribute(writer, entry.number);
  writer.append(encodeUtf8(`${name}\0`));
  endAttribute(writer, tag);
  const at = beginAttribute(writer, entry.dataNumber, true);
  if (value.data instanceof Uint8Array) writer.append(value.data);
  else {
    const variant = Object.hasOwn(entry.variants, name) ? entry.variants[name] : undefined;
    if (variant === undefined) throw new EncodeError(entry.name, `"${name}" is not a kind this table knows`);
    try {
      variant.write(writer, value.data);
    } catch (error) {
      throw error instanceof EncodeError ? error.within(`${entry.dataName}(${name})`) : error;
    }
  }
  // An empty nest says nothing; some link kinds refuse it.
  if (writer.length === at + NLA_HDRLEN) writer.length = at;
  else endAttribute(writer, at);
}

/** An attribute that holds a set of attributes. */
export function nested<const T extends AttributeTable>(
  set: AttributeSet<T>,
): Codec<AttributesOf<AttributeSet<T>>> {
  return {
    kind: "nested",
    nested: true,
    set,
    write: (writer, value) => set.write(writer, value),
    read: (wire, start, end) => set.read(wire, start, end),
    pathAt: (wire, start, end, offset) => set.pathAt(wire, start, end, offset),
    nameOf: (number) => set.nameOf(number),
  };
}

/** An attribute that holds a list: each element an attribute numbered `element` (NFTA_LIST_ELEM) or, when that is
 * undefined, numbered 1, 2, 3… */
export function listOf<V>(
  codec: Codec<V>,
  element?: { readonly name: string; readonly number: number },
): Codec<readonly V[]> {
  const name = element?.name ?? "element";
  return {
    kind: "list",
    nested: true,
    element: codec,
    write(writer, values) {
      for (let index = 0; index < values.length; index++) {
        const at = beginAttribute(writer, element?.number ?? index + 1, codec.nested === true);
        try {
          codec.write(writer, values[index]!);
          endAttribute(writer, at);
        } catch (error) {
          throw error instanceof EncodeError ? error.within(`${name}[${index}]`) : error;
        }
      }
    },
    read(wire, start, end) {
      const values: V[] = [];
      for (let at = start; at < end;) {
        const length = attributeLength(wire, at, end);
        try {
          values.push(codec.read(wire, at + NLA_HDRLEN, at + length));
        } catch (error) {
          throw error instanceof DecodeError ? error.within(`${name}[${values.length}]`) : error;
        }
        at += align4(length);
      }
      return values;
    },
    pathAt(wire, start, end, offset) {
      let index = 0;
      for (let at = start; at + NLA_HDRLEN <= end; index++) {
        const length = attributeLength(wire, at, end);
        if (offset >= at && offset < at + align4(length)) {
          const inner = codec.pathAt?.(wire, at + NLA_HDRLEN, at + length, offset);
          return inner === undefined ? `${name}[${index}]` : `${name}[${index}].${inner}`;
        }
        at += align4(length);
      }
      return undefined;
    },
  };
}
