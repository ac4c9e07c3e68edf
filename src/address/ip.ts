/**
 * Room `address/`: IP addresses, prefixes and MAC addresses as values. Everywhere in wayout an address is its
 * canonical text: dotted quad for IPv4 (RFC 791), RFC 5952 for IPv6. Text compares with ===, works as a Map key and is
 * already JSON. Only arithmetic and the wire need another shape, and this room converts.
 *
 * In: text that people, files and programs wrote; bytes of packets and netlink.
 * Out: canonical text, numbers, bytes; AddressError for text that is no address.
 * Touches: nothing.
 */

/** 4 or 6. */
export type IpFamily = 4 | 6;

/** Text that is not an address, a prefix or a MAC. `text` is what was given. */
export class AddressError extends Error {
  override readonly name = "AddressError";
  constructor(
    readonly text: string,
    problem: string,
  ) {
    super(`"${text.length > MOST_QUOTED ? `${text.slice(0, MOST_QUOTED)}…` : text}" ${problem}`);
  }
}
/** No prefix is as long; what is no address at all may be megabytes. */
const MOST_QUOTED = 80;

/** Four bytes, or undefined when the text is not four decimal octets without leading zeros. */
function parseIpv4(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(4);
  let [octet, value, digits] = [0, 0, 0];
  // By character: a policy of ten thousand prefixes is read often, and to split a text makes five others.
  for (let at = 0; at <= text.length; at++) {
    // A point is looked for where the text ends, too.
    const code = at < text.length ? text.charCodeAt(at) : POINT;
    if (code === POINT) {
      if (digits === 0 || octet === 4) return undefined;
      bytes[octet++] = value;
      value = digits = 0;
      continue;
    }
    // A leading zero is octal to some programs and decimal to others (RFC 6943 3.1.1).
    if (code < DIGIT_0 || code > DIGIT_0 + 9 || (digits > 0 && value === 0)) return undefined;
    value = value * 10 + code - DIGIT_0;
    if (value > 255) return undefined;
    digits++;
  }
  return octet === 4 ? bytes : undefined;
}
const POINT = 0x2e;
const DIGIT_0 = 0x30;

/** Sixteen bytes, or undefined when the text is not an IPv6 address (RFC 4291 2.2, no zone). */
function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const groups = halves.map((half, index) => parseGroups(half, index === halves.length - 1));
  const head = groups[0];
  if (head === undefined) return undefined;
  const bytes = new Uint8Array(16);
  if (halves.length === 1) {
    if (head.length !== 16) return undefined;
    bytes.set(head);
    return bytes;
  }
  const tail = groups[1];
  if (tail === undefined || head.length + tail.length > 14) return undefined;
  bytes.set(head);
  bytes.set(tail, 16 - tail.length);
  return bytes;
}

function parseGroups(text: string, isLast: boolean): number[] | undefined {
  const bytes: number[] = [];
  if (text === "") return bytes;
  const groups = text.split(":");
  for (const [index, group] of groups.entries()) {
    if (isLast && index === groups.length - 1 && group.includes(".")) {
      const quad = parseIpv4(group);
      if (quad === undefined) return undefined;
      bytes.push(...quad);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 255);
    }
  }
  return bytes;
}

/** The bytes of an address in network order: 4 or 16. @throws AddressError */
export function ipBytes(text: string): Uint8Array {
  const bytes = text.includes(":") ? parseIpv6(text) : parseIpv4(text);
  if (bytes === undefined) throw new AddressError(text, "is not an IP address");
  return bytes;
}

/** Whether the text is an IP address of either family. */
export function isIp(text: string): boolean {
  return (text.includes(":") ? parseIpv6(text) : parseIpv4(text)) !== undefined;
}

/** Canonical text of the 4 or 16 bytes of `bytes` from `start` to `end`. @throws AddressError on another length. */
export function ipText(bytes: Uint8Array, start = 0, end = bytes.length): string {
  const length = end - start;
  if (length === 4) return `${bytes[start]}.${bytes[start + 1]}.${bytes[start + 2]}.${bytes[start + 3]}`;
  if (length === 16) return ipv6Text(bytes, start);
  throw new AddressError(`${length} bytes`, "are not an IP address (4 or 16 are)");
}

function ipv6Text(bytes: Uint8Array, start: number): string {
  const groups: number[] = [];
  for (let i = 0; i < 8; i++) groups.push((bytes[start + 2 * i]! << 8) | bytes[start + 2 * i + 1]!);
  // RFC 5952 5: an IPv4-mapped address is written with its dotted quad.
  const gap = longestZeroRun(groups);
  if (gap?.start === 0 && gap.end === 5 && groups[5] === 0xffff) {
    return `::ffff:${ipText(bytes, start + 12, start + 16)}`;
  }
  let text = "";
  for (let i = 0; i < 8; i++) {
    if (gap !== undefined && i >= gap.start && i < gap.end) {
      if (i === gap.start) text += "::";
      continue;
    }
    if (i > 0 && i !== gap?.end) text += ":";
    text += hexGroup(groups[i]!);
  }
  return text;
}

export const HEX_DIGITS = "0123456789abcdef";

/** Number.toString(16) of a group; a dump of routes asks for thousands, and a call into the runtime is dear. */
function hexGroup(group: number): string {
  let text = "";
  for (let shift = 12; shift >= 0; shift -= 4) {
    const digit = (group >> shift) & 15;
    if (digit !== 0 || text !== "" || shift === 0) text += HEX_DIGITS[digit]!;
  }
  return text;
}

/** The first longest run of at least two zero groups: what RFC 5952 4.2 writes as "::". */
function longestZeroRun(groups: readonly number[]): { start: number; end: number } | undefined {
  let best: { start: number; end: number } | undefined;
  for (let i = 0; i < groups.length; i++) {
    if (groups[i] !== 0) continue;
    let end = i;
    while (end < groups.length && groups[end] === 0) end++;
    if (end - i >= 2 && (best === undefined || end - i > best.end - best.start)) best = { start: i, end };
    i = end;
  }
  return best;
}

/** @throws AddressError */
export function ipFamily(text: string): IpFamily {
  return ipBytes(text).length === 4 ? 4 : 6;
}

/** The same address in canonical text. @throws AddressError */
export function canonicalIp(text: string): string {
  return ipText(ipBytes(text));
}

/** The address as an unsigned integer of 32 or 128 bits. @throws AddressError */
export function ipNumber(text: string): bigint {
  return numberOf(ipBytes(text));
}

/** The unsigned integer that 4 or 16 bytes in network order are. */
export function numberOf(bytes: Uint8Array): bigint {
  // By hand: policies have ten thousand of them, and the buffer of a small array is made when it is first asked for.
  if (bytes.length === 4)
    return BigInt(((bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!) >>> 0);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return (view.getBigUint64(0) << 64n) | view.getBigUint64(8);
}

const LAST_NUMBER = { 4: 2n ** 32n - 1n, 6: 2n ** 128n - 1n } as const;

/** The inverse of ipNumber. @throws AddressError when the number does not fit the family. */
export function ipFromNumber(family: IpFamily, value: bigint): string {
  const length = family === 4 ? 4 : 16;
  if (value < 0n || value > LAST_NUMBER[family]) {
    throw new AddressError(String(value), `is outside the addresses of IPv${family}`);
  }
  if (family === 4) {
    const number = Number(value);
    return `${number >>> 24}.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`;
  }
  const bytes = new Uint8Array(length);
  for (let i = length - 1, rest = value; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 255n);
  return ipText(bytes);
}

/** Number of bits in an address of the family: 32 or 128. */
export function ipBits(family: IpFamily): 32 | 128 {
  return family === 4 ? 32 : 128;
}

/** The prefix of this one address: `10.0.0.1/32`, `fd00::1/128`. */
export function hostCidr(address: string): string {
  return `${address}/${ipBits(familyOf(address))}`;
}

/** Whether the prefix holds its one address only: a route or an exception of a single host. */
export function isHostCidr(cidr: string): boolean {
  return cidr.endsWith(`/${ipBits(familyOf(cidr))}`);
}

/** Every address of a family, as a default route has it. */
export const DEFAULT_CIDR = { 4: "0.0.0.0/0", 6: "::/0" } as const;

/** Whether the prefix holds every address of its family, as a default route does. */
export function isDefaultCidr(cidr: string): boolean {
  return cidr.endsWith("/0");
}

/** `10.0.0.1:80`, `[fd00::1]:80`; the address alone when there is no port. */
export function endText(address: string, port: number | undefined): string {
  if (port === undefined) return address;
  return familyOf(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The address in `10.0.0.1/24`; an address without a prefix is one already. */
export function addressOf(text: string): string {
  const slash = text.indexOf("/");
  return slash < 0 ? text : text.slice(0, slash);
}

/** Of an address or prefix that is known to be one; prefixFamily looks whether it is. */
export function familyOf(text: string): IpFamily {
  return text.includes(":") ? 6 : 4;
}

/** Of an address or prefix that may be none. @throws AddressError */
export function prefixFamily(text: string): IpFamily {
  return ipFamily(addressOf(text));
}

/** For sort: addresses by their numbers, names by their characters, the smallest first. */
export function ascending<T extends bigint | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
