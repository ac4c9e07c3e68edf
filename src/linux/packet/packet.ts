/** A packet as a plain value. decodePacket makes one from bytes; summaryOf says it in one line. */
import { ICMP_TYPES, ICMPV6_TYPES } from "../icmp.ts";
import { endText } from "../../address/ip.ts";
import type { IpFamily } from "../../address/ip.ts";

/** How a captured frame begins: with an Ethernet header, or at once with IP (tun, PPP). */
export type LinkLayer = "ethernet" | "raw";

export interface DecodedPacket {
  readonly ethernet?: Ethernet;
  readonly arp?: Arp;
  readonly ip?: Ip;
  readonly tcp?: Tcp;
  readonly udp?: Udp;
  readonly icmp?: Icmp;
  readonly sctp?: Sctp;
  /** Where decoding had to stop, and why. What stands above it is good. */
  readonly problem?: string;
}

export interface Ethernet {
  readonly source: string;
  readonly destination: string;
  readonly etherType: number;
  /** 802.1Q and 802.1ad identifiers, outermost first. */
  readonly vlans: readonly number[];
}

export interface Arp {
  /** 1 request, 2 reply; others (RARP) as they are. */
  readonly operation: number;
  readonly senderMac: string;
  readonly senderIp: string;
  readonly targetMac: string;
  readonly targetIp: string;
}

export interface Ip {
  readonly family: IpFamily;
  readonly source: string;
  readonly destination: string;
  /** IPPROTO_* of the transport header; in IPv6 behind the extension headers. */
  readonly protocol: number;
  /** TTL or hop limit. */
  readonly ttl: number;
  /** Bytes from the IP header on, as the header says. */
  readonly length: number;
  /** IPv4 identification, or that of an IPv6 fragment header. */
  readonly id?: number;
  readonly dontFragment: boolean;
  readonly moreFragments: boolean;
  /** Bytes. */
  readonly fragmentOffset: number;
}

export type TcpFlag = "FIN" | "SYN" | "RST" | "PSH" | "ACK" | "URG" | "ECE" | "CWR";

export interface Tcp {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly flags: readonly TcpFlag[];
  readonly window: number;
  readonly payloadLength: number;
  /** Maximum segment size option, bytes; only in a SYN. */
  readonly mss?: number;
}

export interface Udp {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payloadLength: number;
}

export interface Sctp {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly verificationTag: number;
  /** Type of the first chunk (RFC 9260 3.2): 1 INIT, 2 INIT ACK … */
  readonly chunkType?: number;
}

/** ICMP or ICMPv6: `ip.family` tells which. */
export interface Icmp {
  readonly type: number;
  readonly code: number;
  /** "echo request", "host unreachable" … */
  readonly name: string;
  /** Of an echo request or reply. */
  readonly identifier?: number;
  readonly sequence?: number;
  /** "fragmentation needed" and "packet too big": the MTU that would fit; 0 when an old router did not say. */
  readonly mtu?: number;
  /** Of a neighbour solicitation or advertisement. */
  readonly target?: string;
  /** The packet that an error reports about, as much of it as was quoted. */
  readonly quoted?: DecodedPacket;
}

/** Whether it reports what became of another packet. */
export function isIcmpError(packet: DecodedPacket): boolean {
  const { icmp, ip } = packet;
  if (icmp === undefined || ip === undefined) return false;
  return ip.family === 4 ? [3, 4, 5, 11, 12].includes(icmp.type) : icmp.type < 128;
}

/** `10.0.0.2:40000 → 203.0.113.5:443 tcp SYN`, in the manner of tcpdump. */
export function summaryOf(packet: DecodedPacket): string {
  const { arp, ip, ethernet, problem } = packet;
  const tail = problem === undefined ? "" : ` [${problem}]`;
  if (arp !== undefined) return arpSummary(arp) + tail;
  if (ip === undefined) {
    if (ethernet === undefined) return `not an IP packet${tail}`;
    const type = ethernet.etherType.toString(16).padStart(4, "0");
    return `${ethernet.source} → ${ethernet.destination} ethertype 0x${type}${tail}`;
  }
  const ports = packet.tcp ?? packet.udp ?? packet.sctp;
  const from = ports === undefined ? ip.source : endText(ip.source, ports.sourcePort);
  const to = ports === undefined ? ip.destination : endText(ip.destination, ports.destinationPort);
  return `${from} → ${to} ${transportSummary(packet, ip)}${tail}`;
}

function arpSummary(arp: Arp): string {
  if (arp.operation === 1) return `arp who has ${arp.targetIp}? tell ${arp.senderIp}`;
  if (arp.operation === 2) return `arp ${arp.senderIp} is at ${arp.senderMac}`;
  return `arp operation ${arp.operation} from ${arp.senderIp}`;
}

function transportSummary(packet: DecodedPacket, ip: Ip): string {
  const { tcp, udp, icmp, sctp } = packet;
  if (tcp !== undefined) {
    const bytes = tcp.payloadLength > 0 ? ` ${tcp.payloadLength} bytes` : "";
    return `tcp ${tcp.flags.join(",") || "no flags"}${bytes}`;
  }
  if (udp !== undefined) return `udp ${udp.payloadLength} bytes`;
  if (sctp !== undefined) return `sctp chunk ${sctp.chunkType ?? "?"}`;
  if (icmp !== undefined) return icmpSummary(icmp, ip);
  if (ip.fragmentOffset > 0) return `fragment at ${ip.fragmentOffset} of protocol ${ip.protocol}`;
  return `protocol ${ip.protocol}`;
}

function icmpSummary(icmp: Icmp, ip: Ip): string {
  const words = [`${ip.family === 4 ? "icmp" : "icmpv6"} ${icmp.name}`];
  if (icmp.sequence !== undefined) words.push(`id ${icmp.identifier} seq ${icmp.sequence}`);
  if (icmp.mtu !== undefined) words.push(`mtu ${icmp.mtu}`);
  if (icmp.target !== undefined) words.push(icmp.target);
  if (icmp.quoted !== undefined) words.push(`about (${summaryOf(icmp.quoted)})`);
  return words.join(" ");
}

/** Bytes of a header without options, by its RFC: 791, 8200; 9293, 768, 792 (an echo's). */
export const IP_HEADER_BYTES = { 4: 20, 6: 40 } as const;
export const TCP_HEADER_BYTES = 20;
export const UDP_HEADER_BYTES = 8;
export const ICMP_HEADER_BYTES = 8;

/** The second sixteen bits of an IPv4 header that are about fragments (RFC 791 3.1). */
export const IPV4_FRAGMENT = { dont: 0x4000, more: 0x2000, offset: 0x1fff } as const;

/** Headers of IPv6 that may stand before the transport's (RFC 8200 4). */
export const IPV6_EXTENSION = { hopByHop: 0, routing: 43, fragment: 44, destinationOptions: 60 } as const;

/** A router names a better way, and sends the packet on all the same. */
export function isRedirect({ icmp }: DecodedPacket): boolean {
  return icmp?.type === ICMP_TYPES.redirect || icmp?.type === ICMPV6_TYPES["nd-redirect"];
}
