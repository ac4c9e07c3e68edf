import { ipBytes, ipText } from "../../address/ip.ts";
import { macBytes, macText } from "../../address/mac.ts";
import { decodeUtf8, encodeUtf8 } from "../../platform/bytes.ts";
import { DecodeError, EncodeError, type Wire, type Writer } from "./wire.ts";

/** How one value stands in an attribute's payload: `wire` from `start` to `end`. */
export interface Codec<T> {
  /** For dumps and documentation: "u32", "nested". */
  readonly kind: string;
  write(writer: Writer, value: T): void;
  read(wire: Wire, start: number, end: number): T;
  /** For attributes that hold attributes: the path to the attribute at `offset` of the wire. */
  pathAt?(wire: Wire, start: number, end: number, offset: number): string | undefined;
  /** For attributes that hold attributes: the kernel name of a number in there. */
  nameOf?(number: number): string | undefined;
  /** Whether NLA_F_NESTED is set when it is written. */
  readonly nested?: boolean;
  /** For attributes that hold attributes: their table, for a caller that walks the tables. */
  readonly set?: DescribedSet;
  /** For lists: what each element is. */
  readonly element?: DescribedCodec;
}

/** What can be asked of a codec without knowing its type. */
export type DescribedCodec = Pick<Codec<unknown>, "kind" | "set" | "element">;

/** What can be asked of a table without knowing its type. */
export interface DescribedSet {
  readonly table: object;
  names(): Iterable<readonly [name: string, number: number]>;
}

type Get = "getUint8" | "getUint16" | "getUint32" | "getInt8" | "getInt16" | "getInt32";
type Set = "setUint8" | "setUint16" | "setUint32" | "setInt8" | "setInt16" | "setInt32";

function integer(kind: string, size: 1 | 2 | 4, signed: boolean, littleEndian: boolean): Codec<number> {
  const name = `${signed ? "Int" : "Uint"}${size * 8}`;
  const get = `get${name}` as Get;
  const set = `set${name}` as Set;
  const low = signed ? -(2 ** (size * 8 - 1)) : 0;
  const high = signed ? 2 ** (size * 8 - 1) - 1 : 2 ** (size * 8) - 1;
  return {
    kind,
    write(writer, value) {
      if (!Number.isInteger(value) || value < low || value > high) {
        throw new EncodeError("", `${value} is not a ${kind} (${low} to ${high})`);
      }
      const at = writer.reserve(size);
      writer.view[set](at, value, littleEndian);
    },
    read(wire, start, end) {
      if (end - start < size) throw new DecodeError("", `${end - start} bytes are too few for a ${kind}`);
      return wire.view[get](start, littleEndian);
    },
  };
}

export const u8 = integer("u8", 1, false, true);
export const u16 = integer("u16", 2, false, true);
export const u32 = integer("u32", 4, false, true);
export const i8 = integer("i8", 1, true, true);
export const i32 = integer("i32", 4, true, true);
/** Big-endian ("network order"), as nf_tables and ctnetlink have most of their numbers. */
export const be16 = integer("be16", 2, false, false);
export const be32 = integer("be32", 4, false, false);

function integer64(kind: string, littleEndian: boolean): Codec<bigint> {
  return {
    kind,
    write(writer, value) {
      if (value < 0n || value > 0xffff_ffff_ffff_ffffn)
        throw new EncodeError("", `${value} is not a ${kind}`);
      const at = writer.reserve(8);
      writer.view.setBigUint64(at, value, littleEndian);
    },
    read(wire, start, end) {
      if (end - start < 8) throw new DecodeError("", `${end - start} bytes are too few for a ${kind}`);
      return wire.view.getBigUint64(start, littleEndian);
    },
  };
}

export const u64 = integer64("u64", true);
export const be64 = integer64("be64", false);

/** A 64-bit counter in network order as a JavaScript number: exact up to 2^53, which is 8 PiB or 285 years in µs. */
export const counter64: Codec<number> = {
  kind: "counter64",
  write(writer, value) {
    be64.write(writer, BigInt(value));
  },
  read(wire, start, end) {
    if (end - start < 8) throw new DecodeError("", `${end - start} bytes are too few for a counter64`);
    return wire.view.getUint32(start, false) * 2 ** 32 + wire.view.getUint32(start + 4, false);
  },
};

/** A string with its NUL (NLA_NUL_STRING). Reading stops at the first NUL and does not need one. */
export const string: Codec<string> = {
  kind: "string",
  write(writer, value) {
    if (value.includes("\0")) throw new EncodeError("", "a string for the kernel cannot hold a NUL");
    writer.append(encodeUtf8(value));
    writer.reserve(1);
  },
  read(wire, start, end) {
    let stop = start;
    let ascii = true;
    while (stop < end && wire.bytes[stop] !== 0) if (wire.bytes[stop++]! > 127) ascii = false;
    if (ascii && stop - start < 24) {
      let text = "";
      for (let i = start; i < stop; i++) text += String.fromCharCode(wire.bytes[i]!);
      return text;
    }
    return decodeUtf8(wire.bytes.subarray(start, stop));
  },
};

/** Bytes as they are, copied out of the receive buffer. */
export const bytes: Codec<Uint8Array> = {
  kind: "bytes",
  write(writer, value) {
    writer.append(value);
  },
  read(wire, start, end) {
    return wire.bytes.slice(start, end);
  },
};

/** An attribute without a payload: present or not. Write `true`, or leave it out. */
export const flag: Codec<true> = {
  kind: "flag",
  write() {},
  read() {
    return true;
  },
};

/** Four or sixteen bytes as canonical text. */
export const ip: Codec<string> = {
  kind: "ip",
  write(writer, value) {
    writer.append(ipBytes(value));
  },
  read(wire, start, end) {
    if (end - start !== 4 && end - start !== 16) {
      throw new DecodeError("", `${end - start} bytes are not an IP address`);
    }
    return ipText(wire.bytes, start, end);
  },
};

/** A link-layer address. Links other than Ethernet have other lengths, or none. */
export const mac: Codec<string> = {
  kind: "mac",
  write(writer, value) {
    writer.append(macBytes(value));
  },
  read(wire, start, end) {
    return macText(wire.bytes, start, end);
  },
};

// ── C structures ─────────────────────────────────────────────────────────────────────────────────────────────────

const FIELD_CODECS = { u8, u16, u32, i8, i32, be16, be32, u64 } as const;
const FIELD_SIZES = { u8: 1, u16: 2, u32: 4, i8: 1, i32: 4, be16: 2, be32: 4, u64: 8 } as const;
type FieldKind = keyof typeof FIELD_CODECS;

/** The value of a structure. Fields left out when writing are zero. */
export type StructOf<F extends Record<string, FieldKind>> = {
  [K in keyof F]: F[K] extends "u64" ? bigint : number;
};

export interface StructCodec<F extends Record<string, FieldKind>> extends Codec<StructOf<F>> {
  readonly name: string;
  /** sizeof(struct name), padding included. */
  readonly size: number;
  readonly fields: F;
  write(writer: Writer, value: Partial<StructOf<F>>): void;
}

/** A C structure by its kernel name: fields in order, laid out with C's natural alignment. */
export function struct<const F extends Record<string, FieldKind>>(name: string, fields: F): StructCodec<F> {
  let size = 0;
  let alignment = 1;
  const layout: {
    readonly key: string;
    readonly kind: FieldKind;
    readonly offset: number;
    readonly width: number;
  }[] = [];
  for (const key in fields) {
    const kind = fields[key]!;
    const width = FIELD_SIZES[kind];
    size = Math.ceil(size / width) * width;
    alignment = Math.max(alignment, width);
    layout.push({ key, kind, offset: size, width });
    size += width;
  }
  size = Math.ceil(size / alignment) * alignment;
  return {
    kind: name,
    name,
    size,
    fields,
    write(writer, value) {
      const start = writer.reserve(size);
      const end = writer.length;
      for (const field of layout) {
        const given = (value as Record<string, number | bigint | undefined>)[field.key];
        if (given === undefined) continue;
        writer.length = start + field.offset;
        try {
          if (field.kind === "u64") u64.write(writer, BigInt(given));
          else FIELD_CODECS[field.kind].write(writer, Number(given));
        } catch (error) {
          throw error instanceof EncodeError ? error.within(`${name}.${field.key}`) : error;
        } finally {
          writer.length = end;
        }
      }
    },
    read(wire, start, end) {
      if (end - start < size)
        throw new DecodeError("", `${end - start} bytes are too few for struct ${name}`);
      const value: Record<string, number | bigint> = {};
      for (const field of layout) {
        const at = start + field.offset;
        value[field.key] = FIELD_CODECS[field.kind].read(wire, at, at + field.width);
      }
      return value as StructOf<F>;
    },
  };
}
