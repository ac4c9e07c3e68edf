/** IP packets made and read by hand, whole ones and damaged ones. */
import type { Frame, Offload } from "./wire.ts";

export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
export const UDPLITE = 136;
export const ICMPV6 = 58;
export const FLAGS = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;
const GRE = 47;
const FRAGMENT = 44;
export const AUTHENTICATION = 51;
const EXTENSIONS: ReadonlySet<number> = new Set([0, 43, FRAGMENT, AUTHENTICATION, 60]);

/** What stands behind the IP header. */
export interface Transport {
  readonly protocol: number;
  /** Of TCP. */
  readonly flags?: number;
  readonly seq?: number;
  readonly ack?: number;
  /** Of ICMP. */
  readonly type?: number;
  readonly code?: number;
  /** Bytes of payload. */
  readonly length: number;
}

/** How a packet is unusual; absent is usual. */
export interface Manner {
  readonly ttl?: number;
  readonly tos?: number;
  readonly mayFragment?: boolean;
  readonly checksum?: "bad" | "zero" | "partial";
  /** Of IPv4: bytes of options, no-operations and an end. Of IPv6: numbers of extension headers. */
  readonly options?: readonly number[];
  /** Sent in so many fragments, in this order; a number may stand twice, or be missing. */
  readonly fragments?: readonly number[];
  /** Only so many bytes behind the IP header are sent; the IP header says so, too. */
  readonly cut?: number;
  /** Segments of this size are to be made of it by the link. */
  readonly segment?: number;
}

/** Who sends it to whom; the ports of protocols that have some. */
export interface Ends {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** Adds 16-bit words as the Internet checksum does, without taking the complement. */
function sum(bytes: Uint8Array, start = 0, end = bytes.length, initial = 0): number {
  let total = initial;
  let at = start;
  for (; at + 1 < end; at += 2) total += (bytes[at]! << 8) | bytes[at + 1]!;
  if (at < end) total += bytes[at]! << 8;
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

function pseudo(source: Uint8Array, destination: Uint8Array, protocol: number, length: number): number {
  return sum(destination, 0, destination.length, sum(source, 0, source.length, protocol + length));
}

/** Where the checksum of a protocol stands, behind its start. */
export function checksumAt(protocol: number): number | undefined {
  if (protocol === TCP) return 16;
  if (protocol === UDP || protocol === UDPLITE) return 6;
  if (protocol === ICMP || protocol === ICMPV6) return 2;
  return undefined;
}

/** The transport's bytes, with a right checksum unless the manner says otherwise. `tag` fills the payload. */
export function transportBytes(ends: Ends, what: Transport, manner: Manner, tag: number): Uint8Array {
  const header = what.protocol === TCP ? 20 : what.protocol === 132 ? 12 : 8;
  const bytes = new Uint8Array(header + what.length * (manner.segment === undefined ? 1 : 8));
  const view = new DataView(bytes.buffer);
  for (let at = header; at < bytes.length; at++) bytes[at] = (tag * 31 + at * 7) & 0xff;
  const isIcmp = what.protocol === ICMP || what.protocol === ICMPV6;
  if (isIcmp) {
    bytes[0] = what.type!;
    bytes[1] = what.code ?? 0;
    view.setUint16(4, ends.sourcePort);
    view.setUint16(6, tag & 0xffff);
  } else {
    view.setUint16(0, ends.sourcePort);
    view.setUint16(2, ends.destinationPort);
  }
  // Of other versions the kernel drops what it would have to translate back.
  if (what.protocol === GRE) bytes[1]! &= 0xf8;
  if (what.protocol === TCP) {
    view.setUint32(4, what.seq ?? 0);
    view.setUint32(8, what.ack ?? 0);
    bytes[12] = 5 << 4;
    bytes[13] = what.flags!;
    view.setUint16(14, 65_000);
  } else if (what.protocol === UDP) view.setUint16(4, bytes.length);
  sealed(bytes, ends, what.protocol, manner.checksum);
  return bytes;
}

/** Puts the checksum in. */
export function sealed(
  bytes: Uint8Array,
  { source, destination }: Pick<Ends, "source" | "destination">,
  protocol: number,
  manner?: Manner["checksum"],
): void {
  const at = checksumAt(protocol);
  if (at === undefined) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint16(at, 0);
  const covered = protocol === ICMP ? 0 : pseudo(source, destination, protocol, bytes.length);
  if (manner === "zero") return;
  if (manner === "partial") return view.setUint16(at, sum(bytes, 0, 0, covered));
  const right = ~sum(bytes, 0, bytes.length, covered) & 0xffff;
  const value = manner === "bad" ? sum(Uint8Array.of(right >> 8, right & 0xff, 0x12, 0x34)) : right;
  view.setUint16(at, value === 0 && (protocol === UDP || protocol === UDPLITE) ? 0xffff : value);
}

/** A packet of these bytes, in fragments or whole. `id` names it in both families. */
export function packets(
  ends: Pick<Ends, "source" | "destination">,
  protocol: number,
  transport: Uint8Array,
  manner: Manner,
  id: number,
): Frame[] {
  const cut = manner.cut === undefined ? transport : transport.subarray(0, manner.cut);
  const whole = (part: Uint8Array, fragment?: FragmentField): Uint8Array =>
    ends.source.length === 4
      ? ipv4(ends, protocol, part, manner, id, fragment)
      : ipv6(ends, protocol, part, manner, id, fragment);
  if (manner.fragments !== undefined) {
    const count = Math.max(...manner.fragments) + 1;
    const size = Math.max(8, Math.ceil(cut.length / count / 8) * 8);
    return manner.fragments.flatMap((index) => {
      const part = cut.subarray(index * size, (index + 1) * size);
      if (part.length === 0) return [];
      const more = (index + 1) * size < cut.length;
      return [{ bytes: whole(part, { offset: index * size, more }) }];
    });
  }
  const bytes = whole(cut);
  const offload = offloadOf(bytes, protocol, bytes.length - cut.length, manner);
  return [offload === undefined ? { bytes } : { bytes, offload }];
}

interface FragmentField {
  readonly offset: number;
  readonly more: boolean;
}

function offloadOf(bytes: Uint8Array, protocol: number, start: number, manner: Manner): Offload | undefined {
  const offset = checksumAt(protocol);
  if (manner.checksum !== "partial" || offset === undefined) return undefined;
  const checksum = [start, offset] as const;
  if (manner.segment === undefined) return { checksum };
  const type = protocol === UDP ? 5 : bytes[0]! >> 4 === 4 ? 1 : 4;
  return { checksum, gso: { type, size: manner.segment, header: start + (protocol === UDP ? 8 : 20) } };
}

function ipv4(
  { source, destination }: Pick<Ends, "source" | "destination">,
  protocol: number,
  part: Uint8Array,
  manner: Manner,
  id: number,
  fragment?: FragmentField,
): Uint8Array {
  const options = manner.options ?? [];
  const header = 20 + Math.ceil(options.length / 4) * 4;
  const bytes = new Uint8Array(header + part.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x40 | (header / 4);
  bytes[1] = manner.tos ?? 0;
  view.setUint16(2, bytes.length);
  view.setUint16(4, id);
  const noFragments = fragment === undefined && manner.mayFragment !== true ? 0x4000 : 0;
  view.setUint16(
    6,
    fragment === undefined ? noFragments : (fragment.more ? 0x2000 : 0) | (fragment.offset >> 3),
  );
  bytes[8] = manner.ttl ?? 64;
  bytes[9] = protocol;
  bytes.set(source, 12);
  bytes.set(destination, 16);
  bytes.set(options, 20);
  view.setUint16(10, ~sum(bytes, 0, header) & 0xffff);
  bytes.set(part, header);
  return bytes;
}

function ipv6(
  { source, destination }: Pick<Ends, "source" | "destination">,
  protocol: number,
  part: Uint8Array,
  manner: Manner,
  id: number,
  fragment?: FragmentField,
): Uint8Array {
  const numbers = [...(manner.options ?? []), ...(fragment === undefined ? [] : [FRAGMENT])];
  const bytes = new Uint8Array(40 + numbers.length * 8 + part.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x6000_0000 | ((manner.tos ?? 0) << 20));
  view.setUint16(4, bytes.length - 40);
  bytes[6] = numbers[0] ?? protocol;
  bytes[7] = manner.ttl ?? 64;
  bytes.set(source, 8);
  bytes.set(destination, 24);
  for (const [index, number] of numbers.entries()) {
    const at = 40 + index * 8;
    bytes[at] = numbers[index + 1] ?? protocol;
    if (number === FRAGMENT) {
      view.setUint16(at + 2, fragment!.offset | (fragment!.more ? 1 : 0));
      view.setUint32(at + 4, id);
    } else if (number !== 43 && number !== AUTHENTICATION) bytes.set([1, 4], at + 2);
    else if (number === 43) bytes[at + 2] = 4;
  }
  bytes.set(part, 40 + numbers.length * 8);
  return bytes;
}

/** A packet as it was seen; `transport` begins behind the IP header. */
export interface ReadPacket {
  readonly bytes: Uint8Array;
  readonly family: 4 | 6;
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  /** Where the transport begins. */
  readonly start: number;
  readonly fragment?: {
    readonly key: string;
    readonly offset: number;
    readonly more: boolean;
    readonly at: number;
    readonly before: number;
  };
}

/** undefined for what is no IP packet. */
export function readPacket(bytes: Uint8Array): ReadPacket | undefined {
  const version = (bytes[0] ?? 0) >> 4;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (version === 4 && bytes.length >= 20) {
    const field = view.getUint16(6);
    const [source, destination] = [bytes.subarray(12, 16).toHex(), bytes.subarray(16, 20).toHex()];
    const common = {
      bytes,
      family: 4 as const,
      source,
      destination,
      protocol: bytes[9]!,
      start: (bytes[0]! & 15) * 4,
    };
    if ((field & 0x3fff) === 0) return common;
    const key = `${source}${destination} ${view.getUint16(4)} ${bytes[9]}`;
    return {
      ...common,
      fragment: { key, offset: (field & 0x1fff) * 8, more: (field & 0x2000) !== 0, at: 0, before: 0 },
    };
  }
  if (version !== 6 || bytes.length < 40) return undefined;
  const [source, destination] = [bytes.subarray(8, 24).toHex(), bytes.subarray(24, 40).toHex()];
  let [protocol, start, before] = [bytes[6]!, 40, 6];
  let fragment: ReadPacket["fragment"];
  while (EXTENSIONS.has(protocol) && start + 8 <= bytes.length) {
    const next = bytes[start]!;
    const here = start;
    if (protocol === FRAGMENT) {
      const field = view.getUint16(start + 2);
      const key = `${source}${destination} ${view.getUint32(start + 4)}`;
      fragment = { key, offset: field & 0xfff8, more: (field & 1) !== 0, at: start, before };
      start += 8;
    } else start += protocol === AUTHENTICATION ? (bytes[start + 1]! + 2) * 4 : (bytes[start + 1]! + 1) * 8;
    [protocol, before] = [next, here];
    if (fragment !== undefined && fragment.offset > 0) break;
  }
  return {
    bytes,
    family: 6,
    source,
    destination,
    protocol,
    start,
    ...(fragment === undefined ? {} : { fragment }),
  };
}

/** Puts fragments together. What is not whole is left out. */
export function reassembled(all: readonly ReadPacket[]): {
  readonly whole: ReadPacket[];
  readonly incomplete: number;
} {
  const whole = all.filter(({ fragment }) => fragment === undefined);
  const groups = Map.groupBy(
    all.filter(({ fragment }) => fragment !== undefined),
    ({ fragment }) => fragment!.key,
  );
  let incomplete = 0;
  for (const parts of groups.values()) {
    const joined = join(parts);
    if (joined === undefined) incomplete++;
    else whole.push(joined);
  }
  return { whole, incomplete };
}

function join(parts: readonly ReadPacket[]): ReadPacket | undefined {
  const sorted = parts.toSorted((a, b) => a.fragment!.offset - b.fragment!.offset);
  const first = sorted[0]!;
  let end = 0;
  let isEnd = false;
  const bodies: Uint8Array[] = [];
  for (const { bytes, start, fragment, family } of sorted) {
    if (fragment!.offset > end) return undefined;
    // What is cut in pieces begins behind IPv6's fragment header, with more headers perhaps.
    const from = family === 4 ? start : fragment!.at + 8;
    const body = bytes.subarray(from + (end - fragment!.offset));
    if (end - fragment!.offset >= bytes.length - from && fragment!.offset > 0) continue;
    bodies.push(body);
    end += body.length;
    if (!fragment!.more) isEnd = true;
  }
  if (!isEnd) return undefined;
  const { fragment, ...rest } = first;
  if (first.family === 4) {
    const header = first.bytes.slice(0, first.start);
    const view = new DataView(header.buffer);
    view.setUint16(2, header.length + end);
    view.setUint16(6, 0);
    view.setUint16(10, 0);
    view.setUint16(10, ~sum(header) & 0xffff);
    return { ...rest, bytes: new Uint8Array(Buffer.concat([header, ...bodies])) };
  }
  // Without the fragment header, as the kernel leaves a packet that it has put together.
  const header = Buffer.from(first.bytes.subarray(0, fragment!.at));
  header.writeUInt16BE(header.length + end - 40, 4);
  header[fragment!.before] = first.bytes[fragment!.at]!;
  return { ...rest, start: first.start - 8, bytes: new Uint8Array(Buffer.concat([header, ...bodies])) };
}

/** 0xffff for a right checksum of the transport, something else for a wrong one, which translation does not change. */
export function checksumError({ bytes, family, protocol, start }: ReadPacket, offload?: Offload): number {
  const at = checksumAt(protocol);
  if (at === undefined) return 0xffff;
  const [source, destination] =
    family === 4
      ? [bytes.subarray(12, 16), bytes.subarray(16, 20)]
      : [bytes.subarray(8, 24), bytes.subarray(24, 40)];
  const length = bytes.length - start;
  const covered = protocol === ICMP ? 0 : pseudo(source, destination, protocol, length);
  if (offload?.checksum !== undefined) {
    // Only what is not in the bytes is in the field: what the link adds makes it right.
    const field = (bytes[start + at]! << 8) | bytes[start + at + 1]!;
    return field === covered || (field === 0 && covered === 0xffff) ? 0xffff : 0xfffe0000 + field - covered;
  }
  if (protocol === UDP && bytes[start + 6] === 0 && bytes[start + 7] === 0) return -1;
  return sum(bytes, start, bytes.length, covered);
}

/** 0xffff for a right checksum of the IPv4 header. */
export function headerError(bytes: Uint8Array, start: number): number {
  return sum(bytes, start, start + (bytes[start]! & 15) * 4);
}

/** As it would be on a cable: with the checksum that the link was to complete. */
export function completed(packet: ReadPacket, offload?: Offload): ReadPacket {
  if (offload?.checksum === undefined || offload.gso !== undefined) return packet;
  const bytes = new Uint8Array(packet.bytes);
  const [start, offset] = offload.checksum;
  const value = ~sum(bytes, start) & 0xffff;
  new DataView(bytes.buffer).setUint16(start + offset, value);
  return { ...packet, bytes };
}

export function hasPorts(protocol: number): boolean {
  return protocol === TCP || protocol === UDP || protocol === UDPLITE;
}
