/**
 * The packet that a prediction follows, as the kernel's hooks would see it. Only what rules can ask for is here; what
 * nobody can know beforehand (a socket's owner, a random number) is absent, and a rule that asks for it is answered
 * with "cannot tell".
 */
import { IP_HEADER_BYTES, TCP_HEADER_BYTES, UDP_HEADER_BYTES } from "../../linux/packet/packet.ts";
import { IP_PROTOCOL, type PortRange } from "../../linux/ip-protocol.ts";
import { familyOf, type IpFamily } from "../../address/ip.ts";
import { ECHO_REPLY, ECHO_REQUEST } from "../../linux/icmp.ts";
import { TCP_FLAG } from "../../linux/tcp.ts";

export type Protocol = "tcp" | "udp" | "icmp" | "icmpv6" | "sctp";

/** IPPROTO_* of each. */
export const PROTOCOL_NUMBER: Readonly<Record<Protocol, number>> = IP_PROTOCOL;

/** What a flow is to its first packet. */
export interface Tuple {
  readonly source: string;
  readonly destination: string;
  readonly protocol: Protocol;
  /** 0 for ICMP, as destinationPort. */
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** enum ip_conntrack_info, as nf_tables' ct state sees it (NF_CT_STATE_BIT). */
export type CtState = "new" | "established" | "related" | "invalid" | "untracked";

export interface Packet extends Tuple {
  readonly family: IpFamily;
  /** `SYN` of a first TCP packet and so on: the flag byte of the TCP header. */
  readonly tcpFlags: number;
  /** Bytes of the IP packet. */
  readonly length: number;
  readonly ttl: number;
  readonly dscp: number;
  /** linux/icmp.ts */
  readonly icmpType: number;
  /** 0 when absent: echoes have no other. */
  readonly icmpCode?: number;
  /** Identifier of an echo request and its answer. */
  readonly icmpIdentifier: number;
  readonly mark: number;
  readonly iif: string | undefined;
  readonly oif: string | undefined;
  readonly sourceMac: string | undefined;
  readonly destinationMac: string | undefined;
  readonly state: CtState;
  /** The packet travels in the direction of the flow's answers. */
  readonly reply: boolean;
  /** An ICMP error about the flow, which conntrack calls related. */
  readonly aboutFlow?: true;
  /** IPS_* bits of the conntrack entry. */
  readonly ctStatus: number;
  readonly ctMark: number;
  /** The tuple the flow began with, before any translation: `ct original`. */
  readonly original: Tuple;
  /** The source port was translated into a range: which port of it, only the kernel knows. */
  readonly sourcePortFrom?: PortRange;
  /** It is no IP packet but ARP about these addresses: source and destination are the sender's and the target's. */
  readonly arp?: { readonly operation: number; readonly senderMac: string; readonly targetMac: string };
  /** Bridge port the packet came in by (`meta ibrname`, physdev). */
  readonly physicalIn: string | undefined;
  readonly physicalOut: string | undefined;
}

/** What routing looks at beside the addresses and the mark. */
export function transportOf({
  protocol,
  sourcePort,
  destinationPort,
  dscp,
}: Tuple & Partial<Pick<Packet, "dscp">>): {
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly tos: number;
} {
  return { protocol: PROTOCOL_NUMBER[protocol], sourcePort, destinationPort, tos: (dscp ?? 0) << 2 };
}

/** What a packet begins with (IPDEFTTL), and what an answer is taken to have left: nobody knows how far it comes. */
const FIRST_TTL = 64;

/** A SYN of Linux has 20 bytes of options: MSS, SACK, timestamps, window scale. */
const SYN_BYTES = TCP_HEADER_BYTES + 20;

/** The first packet of a flow: a TCP SYN, a UDP datagram, an echo request. */
export function firstPacket(family: IpFamily, tuple: Tuple): Packet {
  const icmp = tuple.protocol === "icmp" || tuple.protocol === "icmpv6";
  return {
    ...tuple,
    family,
    tcpFlags: tuple.protocol === "tcp" ? TCP_FLAG.syn : 0,
    length: IP_HEADER_BYTES[family] + (tuple.protocol === "tcp" ? SYN_BYTES : UDP_HEADER_BYTES),
    ttl: FIRST_TTL,
    dscp: 0,
    icmpType: icmp ? ECHO_REQUEST[family] : 0,
    icmpIdentifier: icmp ? 4242 : 0,
    mark: 0,
    iif: undefined,
    oif: undefined,
    sourceMac: undefined,
    destinationMac: undefined,
    state: "new",
    reply: false,
    ctStatus: 0,
    ctMark: 0,
    original: tuple,
    physicalIn: undefined,
    physicalOut: undefined,
  };
}

/** The answer to a packet as it was when it arrived at the other side. */
export function answerTo(packet: Packet): Packet {
  const { sourcePortFrom: _, ...arrived } = packet;
  const icmp = arrived.protocol === "icmp" || arrived.protocol === "icmpv6";
  return {
    ...arrived,
    source: arrived.destination,
    destination: arrived.source,
    sourcePort: arrived.destinationPort,
    destinationPort: arrived.sourcePort,
    tcpFlags: arrived.protocol === "tcp" ? TCP_FLAG.syn | TCP_FLAG.ack : 0,
    icmpType: icmp ? ECHO_REPLY[arrived.family] : 0,
    ttl: FIRST_TTL,
    // A socket answers with its own; an echo comes back as it went (icmp_reply, icmpv6_echo_reply).
    dscp: icmp ? arrived.dscp : 0,
    mark: 0,
    iif: undefined,
    oif: undefined,
    sourceMac: undefined,
    destinationMac: undefined,
    physicalIn: undefined,
    physicalOut: undefined,
    state: "established",
    reply: true,
  };
}

/** `10.0.0.1:4242 → 198.51.100.80:443`. */
export function tupleText(tuple: Tuple): string {
  const side = (address: string, port: number): string =>
    tuple.protocol === "icmp" || tuple.protocol === "icmpv6"
      ? address
      : familyOf(address) === 6
        ? `[${address}]:${port}`
        : `${address}:${port}`;
  return `${side(tuple.source, tuple.sourcePort)} → ${side(tuple.destination, tuple.destinationPort)}`;
}
