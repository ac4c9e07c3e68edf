/**
 * nft's data types: what the bytes of a key or value mean. The kernel only carries their numbers
 * (NFTA_SET_KEY_TYPE); names, numbers and sizes are nft's own (include/datatype.h, src/datatype.c of nftables).
 * A concatenation packs the numbers of its parts, 6 bits each, the first part uppermost.
 */
import { ipBytes } from "../../address/ip.ts";
import { macBytes } from "../../address/mac.ts";
import { EncodeError } from "../netlink/wire.ts";
import { symbolNumber } from "./symbols.ts";
import { hexText } from "./values.ts";
import { encodeUtf8 } from "../../platform/bytes.ts";

export type ByteOrder = "big" | "host";

export interface Datatype {
  readonly name: string;
  readonly number: number;
  /** Bytes; 0 when it varies. */
  readonly size: number;
  readonly order: ByteOrder;
}

function type(name: string, number: number, size: number, order: ByteOrder): Datatype {
  return { name, number, size, order };
}

/** Bits of a part's number in the number of a concatenation. */
const TYPE_BITS = 6;
/** NFT_DATA_VERDICT */
export const VERDICT_TYPE = 0xffffff00;

export const DATATYPES: readonly Datatype[] = [
  type("verdict", 1, 4, "host"),
  type("nf_proto", 2, 1, "host"),
  type("bitmask", 3, 0, "host"),
  type("integer", 4, 0, "big"),
  type("string", 5, 0, "host"),
  type("ll_addr", 6, 0, "big"),
  type("ipv4_addr", 7, 4, "big"),
  type("ipv6_addr", 8, 16, "big"),
  type("ether_addr", 9, 6, "big"),
  type("ether_type", 10, 2, "big"),
  type("arp_op", 11, 2, "big"),
  type("inet_proto", 12, 1, "big"),
  type("inet_service", 13, 2, "big"),
  type("icmp_type", 14, 1, "big"),
  type("tcp_flag", 15, 1, "host"),
  type("dccp_pkttype", 16, 1, "big"),
  type("mh_type", 17, 1, "big"),
  type("time", 18, 8, "host"),
  type("mark", 19, 4, "host"),
  type("iface_index", 20, 4, "host"),
  type("iface_type", 21, 2, "host"),
  type("realm", 22, 4, "host"),
  type("classid", 23, 4, "host"),
  type("uid", 24, 4, "host"),
  type("gid", 25, 4, "host"),
  type("ct_state", 26, 4, "host"),
  type("ct_dir", 27, 1, "host"),
  type("ct_status", 28, 4, "host"),
  type("icmpv6_type", 29, 1, "big"),
  type("ct_label", 30, 16, "host"),
  type("pkt_type", 31, 1, "host"),
  type("icmp_code", 32, 1, "big"),
  type("icmpv6_code", 33, 1, "big"),
  type("icmpx_code", 34, 1, "big"),
  type("devgroup", 35, 4, "host"),
  type("dscp", 36, 1, "big"),
  type("ecn", 37, 1, "big"),
  type("fib_addrtype", 38, 4, "host"),
  type("boolean", 39, 1, "host"),
  type("ct_event", 40, 4, "host"),
  type("ifname", 41, 16, "host"),
  type("igmp_type", 42, 1, "big"),
  type("date", 43, 8, "host"),
  type("hour", 44, 4, "host"),
  type("day", 45, 1, "host"),
  type("cgroupsv2", 46, 8, "host"),
];

const byName = new Map(DATATYPES.map((one) => [one.name, one]));
const byNumber = new Map(DATATYPES.map((one) => [one.number, one]));

export function datatypeNamed(name: string): Datatype | undefined {
  return byName.get(name);
}

/** Asked for at every element of a set. */
const parsed = new Map<string, readonly Datatype[]>();
const MOST_PARSED = 100;

/** The types of `ipv4_addr . inet_service`. @throws EncodeError naming the part that is no type */
export function parseDatatypes(text: string): readonly Datatype[] {
  const known = parsed.get(text);
  if (known !== undefined) return known;
  const types = text.split(".").map((part) => {
    const found = byName.get(part.trim());
    if (found === undefined) throw new EncodeError("", `"${part.trim()}" is no data type of nft`);
    return found;
  });
  if (parsed.size < MOST_PARSED) parsed.set(text, types);
  return types;
}

/** The number of one type or of a concatenation. */
export function datatypesNumber(types: readonly Datatype[]): number {
  if (types.length === 1 && types[0]!.name === "verdict") return VERDICT_TYPE;
  return types.reduce((number, one) => number * 2 ** TYPE_BITS + one.number, 0);
}

/** The types that a number stands for; undefined when one of them is unknown. */
export function datatypesOf(number: number): readonly Datatype[] | undefined {
  if (number === VERDICT_TYPE) return [byName.get("verdict")!];
  const types: Datatype[] = [];
  for (let rest = number; rest > 0; rest = Math.floor(rest / 2 ** TYPE_BITS)) {
    const found = byNumber.get(rest % 2 ** TYPE_BITS);
    if (found === undefined) return undefined;
    types.unshift(found);
  }
  return types.length === 0 ? undefined : types;
}

/** Bytes of a key: a part of a concatenation fills whole 4-byte registers. */
export function datatypesLength(types: readonly Datatype[]): number {
  if (types.length === 1) return types[0]!.size;
  return types.reduce((length, one) => length + Math.ceil(one.size / 4) * 4, 0);
}

// ── Text to bytes ────────────────────────────────────────────────────────────────────────────────────────────────

/** An unsigned number in the byte order of its type. @throws EncodeError */
export function numberHex(number: number | bigint, size: number, order: ByteOrder): string {
  const big = BigInt(number);
  if (big < 0n || big >> BigInt(size * 8) !== 0n)
    throw new EncodeError("", `${number} does not fit in ${size} bytes`);
  const text = big.toString(16).padStart(size * 2, "0");
  return order === "big" ? text : swapHex(text);
}

/** The same bytes in the opposite order. */
export function swapHex(text: string): string {
  let swapped = "";
  for (let at = text.length - 2; at >= 0; at -= 2) swapped += text.slice(at, at + 2);
  return swapped;
}

/** One value of a type as bytes: `10.0.0.1`, `443`, `0x10`, `eth0`, `established`. @throws EncodeError */
export function valueHex(one: Datatype, text: string | number): string {
  try {
    if (typeof text === "number") return numberHex(text, one.size, one.order);
    switch (one.name) {
      case "ipv4_addr":
      case "ipv6_addr":
        return addressHex(one, text);
      case "ether_addr":
        return hexText(macBytes(text));
      case "ifname":
      case "string":
        return nameHex(one, text);
      default: {
        const named = symbolNumber(one.name, text);
        if (named === undefined && !/^(?:0x[0-9a-fA-F]+|\d+)$/.test(text)) {
          throw new EncodeError("", "is none of its names and no number");
        }
        return numberHex(named ?? BigInt(text), one.size, one.order);
      }
    }
  } catch (error) {
    const problem = error instanceof EncodeError ? error.problem : "is not one";
    throw new EncodeError("", `"${text}" as ${one.name}: ${problem}`);
  }
}

function addressHex(one: Datatype, text: string): string {
  const bytes = ipBytes(text);
  if (bytes.length !== one.size) throw new EncodeError("", "is an address of the other family");
  return hexText(bytes);
}

function nameHex(one: Datatype, text: string): string {
  const bytes = encodeUtf8(text);
  if (one.size > 0 && bytes.length >= one.size)
    throw new EncodeError("", `is longer than ${one.size - 1} bytes`);
  return hexText(bytes).padEnd(one.size * 2, "0");
}

/** First and last value of `10.0.0.0/24`, `1024-65535`, `eth*` or of one value. @throws EncodeError */
export function intervalHex(
  one: Datatype,
  text: string | number,
): { readonly first: string; readonly last: string } {
  if (typeof text === "string") {
    const slash = text.indexOf("/");
    if (slash > 0 && one.order === "big")
      return prefixHex(one, text.slice(0, slash), Number(text.slice(slash + 1)));
    if (one.name === "ifname" && text.endsWith("*")) {
      const start = hexText(encodeUtf8(text.slice(0, -1)));
      return { first: start.padEnd(32, "0"), last: start.padEnd(32, "f") };
    }
    const dash = one.name === "ifname" || one.name === "ether_addr" ? -1 : text.indexOf("-");
    if (dash > 0 && symbolNumber(one.name, text) === undefined) {
      const first = valueHex(one, text.slice(0, dash));
      const last = valueHex(one, text.slice(dash + 1));
      if (first > last && one.order === "big") throw new EncodeError("", `"${text}" ends before it begins`);
      return { first, last };
    }
  }
  const single = valueHex(one, text);
  return { first: single, last: single };
}

function prefixHex(one: Datatype, address: string, length: number): { first: string; last: string } {
  const total = BigInt(one.size * 8);
  if (!Number.isInteger(length) || length < 0 || BigInt(length) > total) {
    throw new EncodeError("", `/${length} is no prefix length of ${one.name}`);
  }
  const hostBits = total - BigInt(length);
  const first = (BigInt(`0x${valueHex(one, address)}`) >> hostBits) << hostBits;
  const last = first | ((1n << hostBits) - 1n);
  const digits = one.size * 2;
  return { first: first.toString(16).padStart(digits, "0"), last: last.toString(16).padStart(digits, "0") };
}
