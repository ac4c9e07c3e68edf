/**
 * Values of nf_tables as plain JSON: numbers, names for enumerations, lists of names for bit masks, lower-case
 * hexadecimal for raw data (a register's bytes as they lie in the packet or in memory). Numbers and names are those
 * of include/uapi/linux/netfilter/nf_tables.h. What a newer kernel may add keeps its number, as `#42`.
 */
import { attribute, AttributeSet } from "../netlink/attributes.ts";
import { be32, string, type Codec } from "../netlink/codec.ts";
import { DecodeError, EncodeError, type Wire, type Writer } from "../netlink/wire.ts";
import { hexOf } from "../../platform/bytes.ts";

/** A number that this version has no name for: `#42`. */
export type Unnamed = `#${number}`;

/** One of a closed list of names, or a number from a newer kernel. */
export type Named<T extends Readonly<Record<string, number>>> = (keyof T & string) | Unnamed;

/** Codec for an enumeration: on the wire a number, here its name. */
export function named<const T extends Readonly<Record<string, number>>>(
  names: T,
  number: Codec<number> = be32,
): Codec<Named<T>> & { readonly names: readonly string[] } {
  const byNumber = new Map<number, Named<T>>();
  for (const [name, value] of Object.entries(names)) if (!byNumber.has(value)) byNumber.set(value, name);
  return {
    kind: `named ${number.kind}`,
    names: Object.keys(names),
    write(writer, value) {
      const known = Object.hasOwn(names, value) ? names[value] : unnamedNumber(value);
      if (known === undefined)
        throw new EncodeError("", `"${value}" is none of ${Object.keys(names).join(", ")}`);
      number.write(writer, known);
    },
    read(wire, start, end) {
      const value = number.read(wire, start, end);
      return byNumber.get(value) ?? `#${value}`;
    },
  };
}

function unnamedNumber(value: string): number | undefined {
  return /^#\d+$/.test(value) ? Number(value.slice(1)) : undefined;
}

/** Codec for a bit mask: here the names of the bits that are set, in ascending order. */
export function bits<const T extends Readonly<Record<string, number>>>(
  names: T,
  number: Codec<number> = be32,
): Codec<readonly Named<T>[]> & { readonly names: readonly string[] } {
  const byBit = new Map<number, Named<T>>(Object.entries(names).map(([name, bit]) => [bit, name]));
  const seen = new Map<number, readonly Named<T>[]>();
  const split = (value: number): readonly Named<T>[] => {
    const list: Named<T>[] = [];
    for (let position = 0; position < 32; position++) {
      const bit = 2 ** position;
      if (Math.floor(value / bit) % 2 === 1) list.push(byBit.get(bit) ?? `#${bit}`);
    }
    return list;
  };
  return {
    kind: `bits ${number.kind}`,
    names: Object.keys(names),
    write(writer, value) {
      let sum = 0;
      for (const name of value.length > 1 ? new Set(value) : value) {
        const bit = Object.hasOwn(names, name) ? names[name] : unnamedNumber(name);
        if (bit === undefined)
          throw new EncodeError("", `"${name}" is none of ${Object.keys(names).join(", ")}`);
        sum += bit;
      }
      number.write(writer, sum);
    },
    read(wire, start, end) {
      const value = number.read(wire, start, end);
      let list = seen.get(value);
      if (list === undefined) seen.set(value, (list = split(value)));
      return list;
    },
  };
}

// ── Raw data ─────────────────────────────────────────────────────────────────────────────────────────────────────

const DIGITS = "0123456789abcdef".split("");
const HEX: readonly string[] = DIGITS.flatMap((high) => DIGITS.map((low) => high + low));

/** Bytes as lower-case hexadecimal. */
export function hexText(bytes: Uint8Array, start = 0, end = bytes.length): string {
  if (end - start > 24) return hexOf(bytes.subarray(start, end));
  let text = "";
  for (let i = start; i < end; i++) text += HEX[bytes[i]!]!;
  return text;
}

/** The inverse of hexText. @throws EncodeError */
export function hexBytes(text: string): Uint8Array {
  if (!LOWER_HEX.test(text)) throw new EncodeError("", `"${text}" is not lower-case hexadecimal`);
  return Uint8Array.fromHex(text);
}

/** Digits that are written one by one; a longer text goes as a whole. */
const FEW_DIGITS = 64;

/** The value of a lower-case digit; NaN for what is none. */
function digitOf(text: string, at: number): number {
  const code = text.charCodeAt(at);
  if (code >= 48 && code <= 57) return code - 48;
  return code >= 97 && code <= 102 ? code - 87 : Number.NaN;
}

/** Keys of ten thousand elements, a few bytes each: neither a pattern nor an array is made for them. */
function appendHex(writer: Writer, text: string): void {
  if (text.length > FEW_DIGITS) {
    writer.append(hexBytes(text));
    return;
  }
  const at = writer.reserve(text.length >> 1);
  for (let i = 0; i < text.length; i += 2) {
    const byte = digitOf(text, i) * 16 + digitOf(text, i + 1);
    // It says what is wrong with the text.
    if (Number.isNaN(byte)) hexBytes(text);
    writer.bytes[at + (i >> 1)] = byte;
  }
}

const LOWER_HEX = /^(?:[0-9a-f]{2})*$/;

/** Bytes as they are, as hexadecimal text. */
export const hex: Codec<string> = {
  kind: "hex",
  write: appendHex,
  read: (wire, start, end) => hexText(wire.bytes, start, end),
};

/** An unsigned 64-bit number in network order. Exact up to 2^53; handles and counters stay far below. */
export const number64: Codec<number> = {
  kind: "be64",
  write(writer: Writer, value: number) {
    if (!Number.isInteger(value) || value < 0 || value > 2 ** 64) {
      throw new EncodeError("", `${value} is not an unsigned 64-bit number`);
    }
    const at = writer.reserve(8);
    writer.view.setUint32(at, Math.floor(value / 2 ** 32), false);
    writer.view.setUint32(at + 4, value % 2 ** 32, false);
  },
  read(wire: Wire, start: number, end: number) {
    if (end - start < 8) throw new DecodeError("", `${end - start} bytes are too few for a be64`);
    return wire.view.getUint32(start, false) * 2 ** 32 + wire.view.getUint32(start + 4, false);
  },
};

// ── nft_data: a value or a verdict ───────────────────────────────────────────────────────────────────────────────

/** enum nft_verdicts and the netfilter verdicts (linux/netfilter.h), as int32. */
export const VERDICTS = {
  drop: 0,
  accept: 1,
  stolen: 2,
  queue: 3,
  repeat: 4,
  stop: 5,
  continue: -1,
  break: -2,
  jump: -3,
  goto: -4,
  return: -5,
} as const;

export type VerdictName = keyof typeof VERDICTS;

/** What becomes of the packet. */
export interface Verdict {
  readonly verdict: Named<typeof VERDICTS>;
  /** The chain of a jump or goto. */
  readonly chain?: string;
  /** The same by NFTA_CHAIN_ID, for a chain made in the same transaction. Never read back. */
  readonly chainId?: number;
  /** Upper half of an NF_QUEUE or NF_DROP verdict: queue number or errno. */
  readonly argument?: number;
}

/** Data in a register: raw bytes, or a verdict. */
export type Data = { readonly value: string } | Verdict;

const verdictByCode = new Map<number, VerdictName>(
  Object.entries(VERDICTS).map(([name, code]) => [code, name as VerdictName]),
);

export const verdictAttributes = new AttributeSet(() => ({
  code: attribute("NFTA_VERDICT_CODE", 1, be32),
  chain: attribute("NFTA_VERDICT_CHAIN", 2, string),
  chainId: attribute("NFTA_VERDICT_CHAIN_ID", 3, be32),
}));

function verdictOf(code: number): Pick<Verdict, "verdict" | "argument"> {
  const signed = code | 0;
  const known = verdictByCode.get(signed);
  if (known !== undefined) return { verdict: known };
  const base = verdictByCode.get(signed & 0xff);
  if (signed > 0 && base !== undefined) return { verdict: base, argument: code >>> 16 };
  return { verdict: `#${code}` };
}

function codeOf(verdict: Verdict): number {
  const code = Object.hasOwn(VERDICTS, verdict.verdict)
    ? VERDICTS[verdict.verdict as VerdictName]
    : unnamedNumber(verdict.verdict);
  if (code === undefined) throw new EncodeError("NFTA_VERDICT_CODE", `"${verdict.verdict}" is no verdict`);
  return ((verdict.argument ?? 0) * 0x1_0000 + (code >>> 0)) % 2 ** 32;
}

/** A verdict alone, as in NFTA_TRACE_VERDICT. */
export const verdict: Codec<Verdict> = {
  kind: "verdict",
  nested: true,
  write(writer, value) {
    verdictAttributes.write(writer, {
      code: codeOf(value),
      ...(value.chain === undefined ? {} : { chain: value.chain }),
      ...(value.chainId === undefined ? {} : { chainId: value.chainId }),
    });
  },
  read(wire, start, end) {
    const { code, chain } = verdictAttributes.read(wire, start, end);
    if (code === undefined) throw new DecodeError("NFTA_VERDICT_CODE", "is missing");
    return chain === undefined ? verdictOf(code) : { ...verdictOf(code), chain };
  },
  set: verdictAttributes,
  pathAt: (wire, start, end, offset) => verdictAttributes.pathAt(wire, start, end, offset),
  nameOf: (number) => verdictAttributes.nameOf(number),
};

export const dataAttributes = new AttributeSet(() => ({
  value: attribute("NFTA_DATA_VALUE", 1, hex),
  verdict: attribute("NFTA_DATA_VERDICT", 2, verdict),
}));

/** A value or a verdict (nested: nft_data_attributes). */
export const data: Codec<Data> = {
  kind: "nft_data",
  nested: true,
  write(writer, value) {
    dataAttributes.write(writer, "value" in value ? { value: value.value } : { verdict: value });
  },
  read(wire, start, end) {
    const read = dataAttributes.read(wire, start, end);
    if (read.value !== undefined) return { value: read.value };
    if (read.verdict !== undefined) return read.verdict;
    throw new DecodeError("NFTA_DATA_VALUE", "is missing");
  },
  set: dataAttributes,
  pathAt: (wire, start, end, offset) => dataAttributes.pathAt(wire, start, end, offset),
  nameOf: (number) => dataAttributes.nameOf(number),
};

/** The same where only a value can stand: the bytes as hexadecimal. */
export const value: Codec<string> = {
  kind: "nft_data value",
  nested: true,
  write(writer, text) {
    dataAttributes.write(writer, { value: text });
  },
  read(wire, start, end) {
    // The common case by hand: one attribute that fills the nest. Rules hold little else.
    if (end - start >= 4 && wire.view.getUint16(start + 2, true) === 1) {
      const length = wire.view.getUint16(start, true);
      if (length >= 4 && start + length <= end) return hexText(wire.bytes, start + 4, start + length);
    }
    const read = dataAttributes.read(wire, start, end);
    if (read.value === undefined) throw new DecodeError("NFTA_DATA_VALUE", "is missing");
    return read.value;
  },
  set: dataAttributes,
  pathAt: (wire, start, end, offset) => dataAttributes.pathAt(wire, start, end, offset),
  nameOf: (number) => dataAttributes.nameOf(number),
};
