import { rethrowMistake } from "../error.ts";
import {
  AddressError,
  ipBits,
  ipBytes,
  ipFromNumber,
  ipNumber,
  ipText,
  numberOf,
  type IpFamily,
} from "./ip.ts";

/** A prefix: every address from `first` to `last`. `address` is what was written before the slash. */
export interface Cidr {
  readonly family: IpFamily;
  /** As written, canonical; equals `network` unless host bits were kept. */
  readonly address: string;
  /** First address of the prefix, canonical text. */
  readonly network: string;
  readonly prefixLength: number;
  readonly first: bigint;
  readonly last: bigint;
}

/**
 * Parses `10.0.0.0/24`. A bare address is a prefix of full length.
 * @param hostBits `refuse` (default) rejects 10.0.0.1/24; `keep` accepts it and keeps the address, as an
 *   interface address is written.
 * @throws AddressError
 */
export function parseCidr(text: string, hostBits: "refuse" | "keep" = "refuse"): Cidr {
  const slash = text.indexOf("/");
  const addressText = slash < 0 ? text : text.slice(0, slash);
  let address: Uint8Array;
  try {
    address = ipBytes(addressText);
  } catch (error) {
    rethrowMistake(error);
    throw new AddressError(text, "is not a CIDR (like 10.0.0.0/24 or fd00::/64)");
  }
  const bits = address.length * 8;
  const lengthText = slash < 0 ? String(bits) : text.slice(slash + 1);
  const prefixLength = /^\d{1,3}$/.test(lengthText) ? Number(lengthText) : -1;
  if (prefixLength < 0 || prefixLength > bits) {
    throw new AddressError(text, `has no prefix length between 0 and ${bits} after the slash`);
  }
  const cidr = cidrAround(address, prefixLength);
  if (hostBits === "refuse" && cidr.address !== cidr.network) {
    throw new AddressError(text, `has host bits set; did you mean ${cidrText(cidr)}?`);
  }
  return cidr;
}

/** The prefix of that length around an address. @throws AddressError */
export function cidrOf(address: string, prefixLength: number): Cidr {
  return cidrAround(ipBytes(address), prefixLength);
}

function cidrAround(bytes: Uint8Array, prefixLength: number): Cidr {
  const family = bytes.length === 4 ? 4 : 6;
  if (family === 4) return ipv4Around(bytes, prefixLength);
  const value = numberOf(bytes);
  const hostBits = BigInt(ipBits(family) - prefixLength);
  const first = (value >> hostBits) << hostBits;
  const last = first | ((1n << hostBits) - 1n);
  const canonical = ipText(bytes);
  const network = first === value ? canonical : ipFromNumber(family, first);
  return { family, address: canonical, network, prefixLength, first, last };
}

/** The same in plain numbers: most prefixes are of IPv4, and there may be ten thousand. */
function ipv4Around(bytes: Uint8Array, prefixLength: number): Cidr {
  const value = ((bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!) >>> 0;
  const hosts = 2 ** (32 - prefixLength);
  const first = value - (value % hosts);
  const address = ipText(bytes);
  return {
    family: 4,
    address,
    network: first === value ? address : ipFromNumber(4, BigInt(first)),
    prefixLength,
    first: BigInt(first),
    last: BigInt(first + hosts - 1),
  };
}

/** `network/length`, without host bits. */
export function cidrText(cidr: Cidr): string {
  return `${cidr.network}/${cidr.prefixLength}`;
}

/** Whether the address (canonical text or number of the same family) lies in the prefix. */
export function cidrContains(cidr: Cidr, address: string): boolean {
  if (address.includes(":") !== (cidr.family === 6)) return false;
  const value = ipNumber(address);
  return value >= cidr.first && value <= cidr.last;
}

/** The same of a prefix as text, with or without host bits. @throws AddressError */
export function prefixContains(prefix: string, address: string): boolean {
  return cidrContains(parseCidr(prefix, "keep"), address);
}

/** Whether two prefixes share an address. */
export function cidrsOverlap(a: Cidr, b: Cidr): boolean {
  return a.family === b.family && a.first <= b.last && b.first <= a.last;
}

/** First and last address that a host can have: without network and broadcast address in IPv4 up to /30,
 * without the subnet-router anycast address (RFC 4291 2.6.1) in IPv6 up to /126. */
export function hostRange(cidr: Cidr): { readonly first: bigint; readonly last: bigint } {
  const hostBits = ipBits(cidr.family) - cidr.prefixLength;
  if (hostBits < 2) return { first: cidr.first, last: cidr.last };
  return { first: cidr.first + 1n, last: cidr.family === 4 ? cidr.last - 1n : cidr.last };
}

/** The fewest prefixes that cover exactly first…last. */
export function cidrsOfRange(family: IpFamily, first: bigint, last: bigint): Cidr[] {
  const bits = ipBits(family);
  const cidrs: Cidr[] = [];
  for (let at = first; at <= last;) {
    let hostBits = 0;
    while (
      hostBits < bits &&
      at % (1n << BigInt(hostBits + 1)) === 0n &&
      at + (1n << BigInt(hostBits + 1)) - 1n <= last
    ) {
      hostBits++;
    }
    cidrs.push(cidrOf(ipFromNumber(family, at), bits - hostBits));
    at += 1n << BigInt(hostBits);
  }
  return cidrs;
}
