/** One value of an nft data type as text. */
import { ipText } from "../../../address/ip.ts";
import type { Datatype } from "../datatypes.ts";
import { swapHex } from "../datatypes.ts";
import { isBitmask, symbolName } from "../symbols.ts";
import { bytesOfHex, decodeUtf8 } from "../../../platform/bytes.ts";

/** What printing needs from outside the ruleset. */
export interface Names {
  /** Interfaces' names by index, for `iif` and `oif`; without it their numbers are printed. */
  readonly interfaces?: ReadonlyMap<number, string>;
  /** Names of ipsets by index: rules of iptables hold only that. */
  readonly ipsets?: ReadonlyMap<number, string>;
}

/** Hexadecimal bytes as an unsigned number: exact as a bigint, which only values over 6 bytes need. */
function numberOf(hex: string): number | bigint {
  if (hex === "") return 0;
  return hex.length <= 12 ? Number.parseInt(hex, 16) : BigInt(`0x${hex}`);
}

function bytesOf(hex: string): Uint8Array {
  return bytesOfHex(hex);
}

/** A string of the kernel: up to its first NUL. */
export function stringOf(hex: string): string {
  const bytes = bytesOfHex(hex);
  const end = bytes.indexOf(0);
  return decodeUtf8(bytes.subarray(0, end < 0 ? bytes.length : end));
}

/** Quoted as nft takes it: it knows no escapes, so a quote within becomes an apostrophe. */
export function quoted(text: string): string {
  if (!text.includes('"') && !text.includes("\n")) return `"${text}"`;
  return `"${text.replaceAll('"', "'").replaceAll("\n", " ")}"`;
}

/**
 * @param hex the bytes, in network order when `bigEndian`, otherwise as the type has them
 */
export function formatValue(type: Datatype, hex: string, names: Names, bigEndian = false): string {
  switch (type.name) {
    case "ipv4_addr":
      if (hex.length === 8) return dottedQuad(hex);
      break;
    case "ipv6_addr":
      if (hex.length === 32) return ipText(bytesOf(hex));
      break;
    case "ether_addr":
    case "ll_addr":
      return hex.replace(/..(?!$)/g, "$&:");
    case "ifname":
    case "string":
      return quoted(stringOf(hex));
    case "ct_label":
      return formatBits(type.name, numberOf(bigEndian ? hex : swapHex(hex)));
    default:
  }
  return formatNumber(
    type,
    numberOf(bigEndian || type.order === "big" ? hex : swapHex(hex)),
    names,
    hex.length / 2,
  );
}

function dottedQuad(hex: string): string {
  const value = Number.parseInt(hex, 16);
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

/** A number of a type: its name where it has one. `bytes` is how wide it stands in the packet or register. */
export function formatNumber(type: Datatype, value: number | bigint, names: Names, bytes: number): string {
  const symbol = symbolName(type.name, Number(value));
  switch (type.name) {
    case "mark":
      return hexNumber(value, bytes * 2);
    case "ether_type":
      return symbol ?? hexNumber(value, 4);
    case "classid":
      return formatClassid(Number(value));
    case "iface_index": {
      const name = names.interfaces?.get(Number(value));
      return name === undefined ? String(value) : quoted(name);
    }
    case "dscp":
    case "ecn":
      return symbol ?? hexNumber(value, 2);
    case "dccp_pkttype":
      return symbol ?? hexNumber(value, 1);
    case "iface_type":
      return symbol ?? String(value);
    case "day":
      return symbol === undefined ? String(value) : quoted(symbol);
    case "hour":
      return quoted(formatHour(Number(value)));
    case "date":
      return quoted(formatDate(BigInt(value)));
    case "time":
      return formatDuration(Number(value));
    case "devgroup":
      return symbol === undefined ? String(value) : quoted(symbol);
    default:
      if (isBitmask(type.name)) return formatBits(type.name, value);
      return symbol ?? String(value);
  }
}

/** `0x` and at least that many digits. */
export function hexNumber(value: number | bigint, digits: number): string {
  return `0x${value.toString(16).padStart(digits, "0")}`;
}

/** tc's handles: `major:minor` in hexadecimal, with names for the two special ones. */
function formatClassid(value: number): string {
  if (value === 0xffff_ffff) return "root";
  if (value === 0) return "none";
  return `${Math.floor(value / 0x1_0000).toString(16)}:${(value % 0x1_0000).toString(16)}`;
}

/** A number without a name: what stands in ranges. */
function formatPlain(type: Datatype, hex: string, names: Names, bigEndian: boolean): string {
  const value = numberOf(bigEndian || type.order === "big" ? hex : swapHex(hex));
  return symbolName(type.name, Number(value)) === undefined
    ? formatValue(type, hex, names, bigEndian)
    : String(value);
}

/** Names of the bits that are set, in ascending order; `0x0` for none. */
function formatBits(type: string, value: number | bigint): string {
  if (typeof value === "number" && value < 2 ** 31) return formatFewBits(type, value);
  const parts: string[] = [];
  let bit = 1n;
  for (let rest = BigInt(value); rest > 0n; rest >>= 1n, bit <<= 1n) {
    if ((rest & 1n) === 1n)
      parts.push(type === "ct_label" ? labelBit(bit) : (symbolName(type, Number(bit)) ?? hexNumber(bit, 1)));
  }
  return parts.length === 0 ? "0x0" : parts.join(",");
}

/** The same for the sets of bits that rules mostly ask for. */
function formatFewBits(type: string, value: number): string {
  let text = "";
  for (let bit = 1; bit <= value && bit > 0; bit <<= 1) {
    if ((value & bit) === 0) continue;
    const name = type === "ct_label" ? labelBit(BigInt(bit)) : (symbolName(type, bit) ?? hexNumber(bit, 1));
    text += text === "" ? name : `,${name}`;
  }
  return text === "" ? "0x0" : text;
}

/** Labels are named in connlabel.conf; nft takes the number of the bit as well. */
function labelBit(bit: bigint): string {
  return String(bit.toString(2).length - 1);
}

/** Seconds since midnight UTC as nft writes them: local time of day. */
function formatHour(seconds: number): string {
  const local = (((seconds - new Date().getTimezoneOffset() * 60) % 86_400) + 86_400) % 86_400;
  const two = (number: number): string => String(Math.floor(number)).padStart(2, "0");
  const text = `${two(local / 3600)}:${two((local % 3600) / 60)}`;
  return local % 60 === 0 ? text : `${text}:${two(local % 60)}`;
}

/** Nanoseconds since the epoch as local date and time. */
function formatDate(nanoseconds: bigint): string {
  const date = new Date(Number(nanoseconds / 1_000_000n));
  const two = (number: number): string => String(number).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** Milliseconds as nft writes durations: `1d2h3m4s5ms`. */
export function formatDuration(milliseconds: number): string {
  const units = [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["m", 60_000],
    ["s", 1000],
    ["ms", 1],
  ] as const;
  let rest = milliseconds;
  let text = "";
  for (const [name, size] of units) {
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${name}`;
    rest -= count * size;
  }
  return text === "" ? "0s" : text;
}

/** The length of a mask whose set bits are the first ones; undefined for another mask. */
export function prefixLength(mask: string): number | undefined {
  const match = /^(f*)([0-9a-f]?)(0*)$/.exec(mask);
  if (match === null) return undefined;
  const bits = { "": 0, "0": 0, "8": 1, c: 2, e: 3 }[match[2]!];
  return bits === undefined ? undefined : match[1]!.length * 4 + bits;
}

/** A closed interval as nft writes it: one value, a prefix of an address, `eth*`, or `first-last`. */
export function formatInterval(
  type: Datatype,
  first: string,
  last: string,
  names: Names,
  bigEndian = false,
): string {
  if (first === last) return formatValue(type, first, names, bigEndian);
  if (type.name === "ifname") return nameInterval(first, last);
  if (type.name === "ipv4_addr" || type.name === "ipv6_addr") {
    const length = intervalPrefix(first, last);
    if (length !== undefined) return `${formatValue(type, first, names)}/${length}`;
  }
  const width = type.name === "string" ? undefined : type;
  if (width === undefined) return `${quoted(stringOf(first))}-${quoted(stringOf(last))}`;
  return `${formatPlain(type, first, names, bigEndian)}-${formatPlain(type, last, names, bigEndian)}`;
}

/** The prefix length of an interval that is a prefix. */
export function intervalPrefix(first: string, last: string): number | undefined {
  const all = (1n << BigInt(first.length * 4)) - 1n;
  const host = BigInt(`0x${first}`) ^ BigInt(`0x${last}`);
  if ((host & (host + 1n)) !== 0n || (BigInt(`0x${first}`) & host) !== 0n) return undefined;
  return prefixLength((all ^ host).toString(16).padStart(first.length, "0"));
}

/** Names from `first` to `last`: a wildcard where the interval is one, else as many as cover it exactly. */
function nameInterval(first: string, last: string): string {
  return nameCover(first, last)
    .map((part) => quoted(part))
    .join(", ");
}

/** The fewest names and wildcards that make up an interval of 16-byte names. */
function nameCover(first: string, last: string): string[] {
  if (first === last) return [stringOf(first)];
  let same = 0;
  while (first.slice(same, same + 2) === last.slice(same, same + 2)) same += 2;
  const head = first.slice(0, same);
  const isAll = /^0*$/.test(first.slice(same)) && /^f*$/.test(last.slice(same));
  if (isAll) return [`${stringOf(head)}*`];
  const parts: string[] = [];
  const low = Number.parseInt(first.slice(same, same + 2), 16);
  const high = Number.parseInt(last.slice(same, same + 2), 16);
  const rest = first.length - same - 2;
  for (let byte = low; byte <= high; byte++) {
    const stem = head + byte.toString(16).padStart(2, "0");
    const from = byte === low ? first.slice(same + 2) : "0".repeat(rest);
    const to = byte === high ? last.slice(same + 2) : "f".repeat(rest);
    parts.push(...nameCover(stem + from, stem + to));
  }
  return parts;
}
