/** The private data of an xtables match or target: a C structure of its own for each name and revision. */
import { ipText } from "../../address/ip.ts";
import { DecodeError } from "../netlink/wire.ts";
import { decodeUtf8 } from "../../platform/bytes.ts";
import { present } from "../../present.ts";

/** One option of a match or target, as iptables has it on its command line. */
export interface XtOption {
  /** `--ctstate` */
  readonly option: string;
  /** `RELATED,ESTABLISHED`; absent for an option that stands alone. */
  readonly value?: string;
  /** Preceded by `!`. */
  readonly not?: true;
}

/** Families that xtables modules tell apart. */
export type XtFamily = "ip" | "ip6";

/** What a decoder may need besides the bytes. */
export interface XtContext {
  readonly family: XtFamily;
  /** Names of ipsets by index: rules hold only the index. */
  readonly ipsets?: ReadonlyMap<number, string>;
}

/** Reads fields of the structure; anything outside it is a DecodeError. */
export class XtInfo {
  readonly #view: DataView;

  constructor(readonly bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get length(): number {
    return this.bytes.length;
  }

  #check(offset: number, size: number): void {
    if (offset + size > this.bytes.length) {
      throw new DecodeError("", `${this.bytes.length} bytes where a field ends at ${offset + size}`);
    }
  }

  u8(offset: number): number {
    this.#check(offset, 1);
    return this.#view.getUint8(offset);
  }

  u16(offset: number): number {
    this.#check(offset, 2);
    return this.#view.getUint16(offset, true);
  }

  be16(offset: number): number {
    this.#check(offset, 2);
    return this.#view.getUint16(offset, false);
  }

  u32(offset: number): number {
    this.#check(offset, 4);
    return this.#view.getUint32(offset, true);
  }

  be32(offset: number): number {
    this.#check(offset, 4);
    return this.#view.getUint32(offset, false);
  }

  u64(offset: number): bigint {
    this.#check(offset, 8);
    return this.#view.getBigUint64(offset, true);
  }

  /** Bytes as they are. */
  part(offset: number, size: number): Uint8Array {
    this.#check(offset, size);
    return this.bytes.subarray(offset, offset + size);
  }

  /** An address of the family at a union nf_inet_addr or a plain field. */
  address(offset: number, family: XtFamily): string {
    const size = family === "ip" ? 4 : 16;
    this.#check(offset, size);
    return ipText(this.bytes, offset, offset + size);
  }

  /** A string in a field of `size` bytes. */
  text(offset: number, size: number): string {
    this.#check(offset, size);
    const field = this.bytes.subarray(offset, offset + size);
    const end = field.indexOf(0);
    return decodeUtf8(field.subarray(0, end < 0 ? size : end));
  }
}

/** An option; `not` when it is inverted. */
export function option(name: string, value?: string | number, not = false): XtOption {
  return present({
    option: name,
    value: value === undefined ? undefined : String(value),
    not: not ? (true as const) : undefined,
  });
}

/** `0x10` */
export function hexadecimal(value: number): string {
  return `0x${value.toString(16)}`;
}

/** `0x1/0xff`; the mask is left out when it is all ones. */
export function markText(mark: number, mask: number): string {
  return mask === 0xffffffff ? hexadecimal(mark) : `${hexadecimal(mark)}/${hexadecimal(mask)}`;
}

/** `22` or `1024:65535` */
export function portRange({ first, last }: { readonly first: number; readonly last: number }): string {
  return first === last ? String(first) : `${first}:${last}`;
}

/** The same; one address goes without a length. */
export function hostOrNetwork(bytes: Uint8Array, mask: Uint8Array): string {
  return mask.every((byte) => byte === 0xff) ? ipText(bytes) : maskedAddress(bytes, mask);
}

/** A value as a shell would need it in quotes: quotes and backslashes escaped. */
export function quoted(value: string): string {
  return `"${value.replace(/["'\\]/g, String.raw`\$&`)}"`;
}

/** The names of the bits that are set. */
export function bitNames(value: number, names: readonly (readonly [bit: number, name: string])[]): string {
  return names
    .filter(([bit]) => (value & bit) !== 0)
    .map(([, name]) => name)
    .join(",");
}

/** `10.0.0.0/24`, or with a mask that is no prefix `10.0.0.0/255.0.255.0`. */
export function maskedAddress(bytes: Uint8Array, mask: Uint8Array): string {
  const address = ipText(bytes);
  let bits = "";
  for (const byte of mask) bits += byte.toString(2).padStart(8, "0");
  if (!/^1*0*$/.test(bits)) return `${address}/${ipText(mask)}`;
  const length = bits.indexOf("0") < 0 ? bits.length : bits.indexOf("0");
  return `${address}/${length}`;
}
