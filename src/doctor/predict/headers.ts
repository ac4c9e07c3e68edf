/**
 * The packet's bytes, as far as they can be known before it is sent: what a rule's payload expression loads. Fields
 * that only the sender chooses (sequence numbers, checksums, the IP identification) are unknown.
 */
import { IP_HEADER_BYTES, IPV4_FRAGMENT } from "../../linux/packet/packet.ts";
import { ETH_P } from "../../linux/link-layer.ts";
import { ipBytes, ipText } from "../../address/ip.ts";
import { macBytes } from "../../address/mac.ts";
import { PROTOCOL_NUMBER, type Packet } from "./packet.ts";

/** Bytes with a note which of them are known. */
export interface KnownBytes {
  readonly bytes: Uint8Array;
  /** 1 where the byte is known. */
  readonly known: Uint8Array;
}

export interface Headers {
  readonly link: KnownBytes;
  readonly network: KnownBytes;
  readonly transport: KnownBytes;
}

function header(length: number): { bytes: Uint8Array; known: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(length);
  return { bytes, known: new Uint8Array(length).fill(1), view: new DataView(bytes.buffer) };
}

export function etherType(packet: Packet): number {
  if (packet.arp !== undefined) return ETH_P.arp;
  return packet.family === 4 ? ETH_P.ip : ETH_P.ip6;
}

export function headersOf(packet: Packet): Headers {
  if (packet.arp !== undefined) {
    const nothing = header(0);
    return { link: ethernetHeader(packet), network: arpHeader(packet, packet.arp), transport: nothing };
  }
  const network = packet.family === 4 ? ipv4Header(packet) : ipv6Header(packet);
  return { link: ethernetHeader(packet), network, transport: transportHeader(packet) };
}

function ethernetHeader(packet: Packet): KnownBytes {
  const { bytes, known, view } = header(14);
  for (const [at, mac] of [packet.destinationMac, packet.sourceMac].entries()) {
    if (mac === undefined || !isEthernet(mac)) known.fill(0, 6 * at, 6 * at + 6);
    else bytes.set(macBytes(mac), 6 * at);
  }
  view.setUint16(12, etherType(packet));
  return { bytes, known };
}

/** Tunnels have addresses of other lengths, or none. */
function isEthernet(mac: string): boolean {
  return mac.length === "02:00:00:00:00:01".length;
}

/** RFC 826, for Ethernet and IPv4. */
function arpHeader({ source, destination }: Packet, arp: NonNullable<Packet["arp"]>): KnownBytes {
  const { bytes, known, view } = header(28);
  view.setUint16(0, 1);
  view.setUint16(2, ETH_P.ip);
  bytes.set([6, 4], 4);
  view.setUint16(6, arp.operation);
  for (const [at, mac] of [[8, arp.senderMac] as const, [18, arp.targetMac] as const]) {
    if (isEthernet(mac)) bytes.set(macBytes(mac), at);
    else known.fill(0, at, at + 6);
  }
  bytes.set(ipBytes(source), 14);
  bytes.set(ipBytes(destination), 24);
  return { bytes, known };
}

/** RFC 791 3.1. */
function ipv4Header(packet: Packet): KnownBytes {
  const { bytes, known, view } = header(IP_HEADER_BYTES[4]);
  bytes[0] = 0x45;
  bytes[1] = packet.dscp << 2;
  view.setUint16(2, packet.length);
  known.fill(0, 4, 6);
  // Linux sets "don't fragment" on what it sends (ip_no_pmtu_disc 0).
  view.setUint16(6, IPV4_FRAGMENT.dont);
  bytes[8] = packet.ttl;
  bytes[9] = PROTOCOL_NUMBER[packet.protocol];
  known.fill(0, 10, 12);
  bytes.set(ipBytes(packet.source), 12);
  bytes.set(ipBytes(packet.destination), 16);
  return { bytes, known };
}

/** RFC 8200 3. The flow label (bytes 1 to 3) is a hash. */
function ipv6Header(packet: Packet): KnownBytes {
  const { bytes, known, view } = header(IP_HEADER_BYTES[6]);
  bytes[0] = 0x60 | (packet.dscp >> 2);
  bytes[1] = (packet.dscp << 6) & 0xff;
  known.fill(0, 2, 4);
  view.setUint16(4, packet.length - IP_HEADER_BYTES[6]);
  bytes[6] = PROTOCOL_NUMBER[packet.protocol];
  bytes[7] = packet.ttl;
  bytes.set(ipBytes(packet.source), 8);
  bytes.set(ipBytes(packet.destination), 24);
  return { bytes, known };
}

/** The packet with what stands in an IP header. */
export function readNetwork(packet: Packet, bytes: Uint8Array): Packet {
  const [ttlAt, sourceAt, size] = packet.family === 4 ? [8, 12, 4] : [7, 8, 16];
  const dscp = packet.family === 4 ? bytes[1]! >> 2 : ((bytes[0]! & 15) << 2) | (bytes[1]! >> 6);
  return {
    ...packet,
    ttl: bytes[ttlAt]!,
    dscp,
    source: ipText(bytes, sourceAt, sourceAt + size),
    destination: ipText(bytes, sourceAt + size, sourceAt + 2 * size),
  };
}

/** The packet with the ports that stand in a transport header. */
export function readPorts(packet: Packet, bytes: Uint8Array): Packet {
  if (packet.protocol === "icmp" || packet.protocol === "icmpv6") return packet;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return { ...packet, sourcePort: view.getUint16(0), destinationPort: view.getUint16(2) };
}

function transportHeader(packet: Packet): KnownBytes {
  switch (packet.protocol) {
    case "tcp":
      return tcpHeader(packet);
    case "icmp":
    case "icmpv6": {
      const { bytes, known, view } = header(8);
      bytes[0] = packet.icmpType;
      bytes[1] = packet.icmpCode ?? 0;
      known.fill(0, 2, 4);
      view.setUint16(4, packet.icmpIdentifier);
      // An error has other things there than an echo's identifier.
      known.fill(0, packet.aboutFlow === true ? 4 : 6, 8);
      return { bytes, known };
    }
    case "udp":
    case "sctp": {
      const { bytes, known, view } = header(packet.protocol === "udp" ? 8 : 12);
      ports(view, known, packet);
      if (packet.protocol === "udp") view.setUint16(4, packet.length - IP_HEADER_BYTES[packet.family]);
      else known.fill(0, 4, 8);
      known.fill(0, packet.protocol === "udp" ? 6 : 8);
      return { bytes, known };
    }
  }
}

/** RFC 9293 3.1. */
function tcpHeader(packet: Packet): KnownBytes {
  const { bytes, known, view } = header(20);
  ports(view, known, packet);
  known.fill(0, 4, 12);
  bytes[12] = 0xa0;
  bytes[13] = packet.tcpFlags;
  known.fill(0, 14, 20);
  return { bytes, known };
}

function ports(view: DataView, known: Uint8Array, packet: Packet): void {
  if (packet.sourcePortFrom !== undefined) known.fill(0, 0, 2);
  view.setUint16(0, packet.sourcePort);
  view.setUint16(2, packet.destinationPort);
}
