/** Bytes of a frame to a Packet. Pure; never throws: what cannot be read is named in `problem`. */
import { ipText } from "../../address/ip.ts";
import { macText } from "../../address/mac.ts";
import { ETH_P } from "../link-layer.ts";
import { icmpName } from "./icmp.ts";
import {
  IP_HEADER_BYTES,
  IPV4_FRAGMENT,
  IPV6_EXTENSION,
  TCP_HEADER_BYTES,
  UDP_HEADER_BYTES,
  type DecodedPacket,
  type Ip,
  type LinkLayer,
  type TcpFlag,
} from "./packet.ts";
import { present } from "../../present.ts";
import { ECHO_REPLY, ECHO_REQUEST, ICMP_ERRORS, ICMPV6_TYPES, TOO_LARGE } from "../icmp.ts";
import { icmpProtocol, IP_PROTOCOL } from "../ip-protocol.ts";
import { TCP_FLAG } from "../tcp.ts";

/** Where a header was cut off or wrong. */
class Malformed extends Error {}

/** Reads big-endian fields and refuses to run past the end. */
class Reader {
  readonly #view: DataView;
  constructor(
    readonly bytes: Uint8Array,
    readonly start: number,
    readonly end: number,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get length(): number {
    return this.end - this.start;
  }

  need(count: number, what: string): void {
    if (this.length < count) throw new Malformed(`${what} cut off after ${this.length} bytes`);
  }

  u8(offset: number): number {
    return this.#view.getUint8(this.start + offset);
  }

  u16(offset: number): number {
    return this.#view.getUint16(this.start + offset);
  }

  u32(offset: number): number {
    return this.#view.getUint32(this.start + offset);
  }

  ip(offset: number, length: 4 | 16): string {
    return ipText(this.bytes, this.start + offset, this.start + offset + length);
  }

  mac(offset: number): string {
    return macText(this.bytes, this.start + offset, this.start + offset + 6);
  }

  /** What follows `offset`, up to `length` bytes of it. */
  after(offset: number, length = this.length - offset): Reader {
    const start = this.start + offset;
    return new Reader(this.bytes, start, Math.max(start, Math.min(this.end, start + length)));
  }
}

type Draft = { -readonly [K in keyof DecodedPacket]: DecodedPacket[K] };

/** Decodes one frame as deep as it can. */
export function decodePacket(bytes: Uint8Array, link: LinkLayer = "ethernet"): DecodedPacket {
  const packet: Draft = {};
  const reader = new Reader(bytes, 0, bytes.length);
  decodeInto(packet, () => (link === "ethernet" ? readEthernet(packet, reader) : readIp(packet, reader)));
  return packet;
}

function decodeInto(packet: Draft, read: () => void): void {
  try {
    read();
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    packet.problem = error.message;
  }
}

function readEthernet(packet: Draft, reader: Reader): void {
  reader.need(14, "Ethernet header");
  const vlans: number[] = [];
  let at = 12;
  while (reader.u16(at) === ETH_P["8021q"] || reader.u16(at) === ETH_P["8021ad"]) {
    reader.need(at + 6, "VLAN tag");
    vlans.push(reader.u16(at + 2) & 0xfff);
    at += 4;
  }
  const etherType = reader.u16(at);
  packet.ethernet = { destination: reader.mac(0), source: reader.mac(6), etherType, vlans };
  const payload = reader.after(at + 2);
  if (etherType === ETH_P.arp) readArp(packet, payload);
  else if (etherType === ETH_P.ip || etherType === ETH_P.ip6) readIp(packet, payload);
}

function readArp(packet: Draft, reader: Reader): void {
  reader.need(8, "ARP header");
  if (reader.u16(0) !== 1 || reader.u16(2) !== ETH_P.ip || reader.u8(4) !== 6 || reader.u8(5) !== 4) {
    throw new Malformed("ARP for something other than IPv4 on Ethernet");
  }
  reader.need(28, "ARP packet");
  packet.arp = {
    operation: reader.u16(6),
    senderMac: reader.mac(8),
    senderIp: reader.ip(14, 4),
    targetMac: reader.mac(18),
    targetIp: reader.ip(24, 4),
  };
}

function readIp(packet: Draft, reader: Reader): void {
  reader.need(1, "IP header");
  const version = reader.u8(0) >> 4;
  if (version === 4) readIpv4(packet, reader);
  else if (version === 6) readIpv6(packet, reader);
  else throw new Malformed(`IP version ${version}`);
}

function readIpv4(packet: Draft, reader: Reader): void {
  reader.need(IP_HEADER_BYTES[4], "IPv4 header");
  const headerLength = (reader.u8(0) & 15) * 4;
  if (headerLength < IP_HEADER_BYTES[4]) throw new Malformed(`IPv4 header of ${headerLength} bytes`);
  const length = reader.u16(2);
  const fragment = reader.u16(6);
  const ip: Ip = {
    family: 4,
    source: reader.ip(12, 4),
    destination: reader.ip(16, 4),
    protocol: reader.u8(9),
    ttl: reader.u8(8),
    length,
    id: reader.u16(4),
    dontFragment: (fragment & IPV4_FRAGMENT.dont) !== 0,
    moreFragments: (fragment & IPV4_FRAGMENT.more) !== 0,
    fragmentOffset: (fragment & IPV4_FRAGMENT.offset) * 8,
  };
  packet.ip = ip;
  reader.need(headerLength, "IPv4 header");
  readTransport(packet, ip, reader.after(headerLength), length - headerLength);
}

const EXTENSIONS: readonly number[] = Object.values(IPV6_EXTENSION);

function readIpv6(packet: Draft, reader: Reader): void {
  reader.need(IP_HEADER_BYTES[6], "IPv6 header");
  const base = {
    family: 6,
    source: reader.ip(8, 16),
    destination: reader.ip(24, 16),
    ttl: reader.u8(7),
    length: IP_HEADER_BYTES[6] + reader.u16(4),
    dontFragment: false,
  } as const;
  let protocol = reader.u8(6);
  let at: number = IP_HEADER_BYTES[6];
  let fragment: { id?: number; moreFragments: boolean; fragmentOffset: number } = {
    moreFragments: false,
    fragmentOffset: 0,
  };
  while (EXTENSIONS.includes(protocol)) {
    packet.ip = { ...base, protocol, ...fragment };
    reader.need(at + 8, "IPv6 extension header");
    if (protocol === IPV6_EXTENSION.fragment) {
      const word = reader.u16(at + 2);
      fragment = {
        id: reader.u32(at + 4),
        moreFragments: (word & 1) !== 0,
        fragmentOffset: word & 0xfff8,
      };
    }
    const length = protocol === IPV6_EXTENSION.fragment ? 8 : (reader.u8(at + 1) + 1) * 8;
    protocol = reader.u8(at);
    at += length;
    if (fragment.fragmentOffset > 0) break;
  }
  packet.ip = { ...base, protocol, ...fragment };
  readTransport(packet, packet.ip, reader.after(at), base.length - at);
}

/** @param length bytes of the transport header and payload as the IP header says; 0 when it does not (GSO) */
function readTransport(packet: Draft, ip: Ip, reader: Reader, length: number): void {
  if (ip.fragmentOffset > 0) return;
  const size = length > 0 ? length : reader.length;
  if (ip.protocol === IP_PROTOCOL.tcp) readTcp(packet, reader, size);
  else if (ip.protocol === IP_PROTOCOL.udp) {
    reader.need(UDP_HEADER_BYTES, "UDP header");
    packet.udp = {
      sourcePort: reader.u16(0),
      destinationPort: reader.u16(2),
      payloadLength: Math.max(0, reader.u16(4) - UDP_HEADER_BYTES),
    };
  } else if (ip.protocol === IP_PROTOCOL.sctp) {
    reader.need(12, "SCTP header");
    packet.sctp = present({
      sourcePort: reader.u16(0),
      destinationPort: reader.u16(2),
      verificationTag: reader.u32(4),
      chunkType: reader.length > 12 ? reader.u8(12) : undefined,
    });
  } else if (ip.protocol === icmpProtocol(ip.family)) {
    readIcmp(packet, ip, reader);
  }
}

const TCP_FLAGS = Object.keys(TCP_FLAG).map((name) => name.toUpperCase() as TcpFlag);

/** Below it all types are errors (RFC 4443 2.1). */
const FIRST_ICMPV6_QUESTION = 128;
const NEIGHBOUR_MESSAGES: readonly number[] = [
  ICMPV6_TYPES["nd-neighbor-solicit"],
  ICMPV6_TYPES["nd-neighbor-advert"],
];

function readTcp(packet: Draft, reader: Reader, size: number): void {
  // An ICMP error may quote only the first eight bytes: ports and sequence number.
  reader.need(8, "TCP header");
  const ports = { sourcePort: reader.u16(0), destinationPort: reader.u16(2), sequence: reader.u32(4) };
  packet.tcp = { ...ports, acknowledgement: 0, flags: [], window: 0, payloadLength: 0 };
  reader.need(TCP_HEADER_BYTES, "TCP header");
  const headerLength = (reader.u8(12) >> 4) * 4;
  const bits = reader.u8(13);
  const mss = readMss(reader, Math.min(headerLength, reader.length));
  packet.tcp = {
    ...ports,
    acknowledgement: reader.u32(8),
    flags: TCP_FLAGS.filter((_, bit) => (bits & (1 << bit)) !== 0),
    window: reader.u16(14),
    payloadLength: Math.max(0, size - headerLength),
    ...present({ mss }),
  };
}

function readMss(reader: Reader, headerLength: number): number | undefined {
  for (let at = 20; at + 1 < headerLength;) {
    const kind = reader.u8(at);
    if (kind === 0) return undefined;
    if (kind === 1) at++;
    else {
      const length = reader.u8(at + 1);
      if (kind === 2 && at + 4 <= headerLength) return reader.u16(at + 2);
      if (length < 2) return undefined;
      at += length;
    }
  }
  return undefined;
}

function readIcmp(packet: Draft, ip: Ip, reader: Reader): void {
  reader.need(8, "ICMP header");
  const type = reader.u8(0);
  const code = reader.u8(1);
  const base = { type, code, name: icmpName(ip.family, type, code) };
  const isEcho = type === ECHO_REQUEST[ip.family] || type === ECHO_REPLY[ip.family];
  const isError = ip.family === 4 ? ICMP_ERRORS[4].includes(type) : type < FIRST_ICMPV6_QUESTION;
  const isNeighbour = ip.family === 6 && NEIGHBOUR_MESSAGES.includes(type);
  const tooLarge = TOO_LARGE[ip.family];
  const saysMtu = type === tooLarge.type && (ip.family === 6 || code === tooLarge.code);
  packet.icmp = {
    ...base,
    ...(isEcho ? { identifier: reader.u16(4), sequence: reader.u16(6) } : {}),
    ...present({
      target: isNeighbour && reader.length >= 24 ? reader.ip(8, 16) : undefined,
      mtu: saysMtu ? (ip.family === 4 ? reader.u16(6) : reader.u32(4)) : undefined,
      quoted: isError ? quotedPacket(reader.after(8)) : undefined,
    }),
  };
}

/** An error quotes a packet that is cut off by design: that is no problem of the packet. */
function quotedPacket(reader: Reader): DecodedPacket {
  const quoted: Draft = {};
  decodeInto(quoted, () => readIp(quoted, reader));
  if (quoted.ip !== undefined) delete quoted.problem;
  return quoted;
}
