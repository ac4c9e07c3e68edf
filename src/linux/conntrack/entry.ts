import type { IpFamily } from "../../address/ip.ts";
import type { AttributesOf } from "../netlink/attributes.ts";
import type { Message } from "../netlink/message.ts";
import { NFPROTO } from "../netfilter.ts";
import { DecodeError } from "../netlink/wire.ts";
import type { cta, ctaCounters, ctaTuple, IPCTNL_MSG_CT_NEW } from "./attributes.ts";
import { protocolName } from "../ip-protocol.ts";
import { stateName, statusFlags, type StatusFlag } from "./status.ts";

/** One direction of a connection. Which of the optional fields are there depends on the protocol. */
export interface ConntrackTuple {
  readonly source: string;
  readonly destination: string;
  /** IPPROTO_*. */
  readonly protocol: number;
  /** TCP, UDP, UDP-Lite, SCTP, DCCP; of GRE the key. */
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** ICMP and ICMPv6. */
  readonly icmpId?: number;
  readonly icmpType?: number;
  readonly icmpCode?: number;
  /** A conntrack zone that holds for this direction only. */
  readonly zone?: number;
}

/** Packets and bytes of one direction. Exact up to 2^53. */
export interface FlowCounters {
  readonly packets: number;
  readonly bytes: number;
}

/** One tracked connection, as the kernel describes it. Plain JSON. */
export interface ConntrackEntry {
  readonly family: IpFamily;
  /** IPPROTO_*. */
  readonly protocol: number;
  /** "tcp", "icmpv6", "proto-200". */
  readonly protocolName: string;
  /** As the connection's first packet had it, before any translation. */
  readonly original: ConntrackTuple;
  /** As answers have it before they are translated back: what the other side sees, reversed. */
  readonly reply: ConntrackTuple;
  /** State of TCP, SCTP or DCCP: "ESTABLISHED". Absent for others, for offloaded flows and in most events. */
  readonly state?: string;
  /** IPS_* bits. */
  readonly status: number;
  /** The same bits by name. Shared between entries: do not change it. */
  readonly flags: readonly StatusFlag[];
  /** Seconds until the entry is forgotten, unless a packet comes. Absent for offloaded flows. */
  readonly timeoutSeconds?: number;
  /** The connection's mark (ct mark); 0 when none is set. */
  readonly mark: number;
  /** Zone of both directions; 0 is the default. A zone of one direction stands in its tuple. */
  readonly zone: number;
  /** The kernel's number for this very entry; another entry with the same tuples has another. */
  readonly id: number;
  /** Reference count. */
  readonly use?: number;
  /** Only where net.netfilter.nf_conntrack_acct is on. */
  readonly counters?: { readonly original: FlowCounters; readonly reply: FlowCounters };
  /** Milliseconds since 1970; only where net.netfilter.nf_conntrack_timestamp is on. */
  readonly startedAtMs?: number;
  /** When the entry was destroyed: only in the event that says so. */
  readonly stoppedAtMs?: number;
  /** Numbers of the label bits that are set. */
  readonly labels?: readonly number[];
  /** Name of the helper: "ftp". */
  readonly helper?: string;
  /** Security context. */
  readonly secctx?: string;
  /** Original tuple of the connection that announced this one (FTP data of FTP control). */
  readonly master?: ConntrackTuple;
  /** TCP window scale and IP_CT_TCP_FLAG_* of both directions. */
  readonly tcp?: {
    readonly windowScaleOriginal?: number;
    readonly windowScaleReply?: number;
    readonly flagsOriginal?: number;
    readonly flagsReply?: number;
  };
  /** SCTP verification tags. */
  readonly sctp?: { readonly tagOriginal?: number; readonly tagReply?: number };
}

type Attributes = AttributesOf<typeof cta>;
export type ConntrackMessage = Message<
  (typeof IPCTNL_MSG_CT_NEW)["header"],
  (typeof IPCTNL_MSG_CT_NEW)["attributes"]["table"]
>;

/** A decoded IPCTNL_MSG_CT_NEW (or DELETE) as an entry. @throws DecodeError when it lacks what every entry has */
export function conntrackEntry(message: ConntrackMessage): ConntrackEntry {
  const { header, attributes } = message;
  const original = tupleOf(attributes.original, "CTA_TUPLE_ORIG");
  const reply = tupleOf(attributes.reply, "CTA_TUPLE_REPLY");
  const status = attributes.status ?? 0;
  return {
    family: header.family === NFPROTO.ipv6 ? 6 : 4,
    protocol: original.protocol,
    protocolName: protocolName(original.protocol),
    original,
    reply,
    ...protocolInfo(original.protocol, attributes.protoinfo),
    status,
    flags: statusFlags(status),
    ...(attributes.timeout === undefined ? {} : { timeoutSeconds: attributes.timeout }),
    mark: attributes.mark ?? 0,
    zone: attributes.zone ?? 0,
    id: attributes.id ?? 0,
    ...extensions(attributes),
  };
}

function extensions(attributes: Attributes): Partial<ConntrackEntry> {
  const { use, countersOriginal, countersReply, timestamp, labels, help, secctx, master } = attributes;
  return {
    ...(use === undefined ? {} : { use }),
    ...(countersOriginal === undefined && countersReply === undefined
      ? {}
      : { counters: { original: countersOf(countersOriginal), reply: countersOf(countersReply) } }),
    ...(timestamp?.start === undefined ? {} : { startedAtMs: milliseconds(timestamp.start) }),
    ...(timestamp?.stop === undefined ? {} : { stoppedAtMs: milliseconds(timestamp.stop) }),
    ...(labels === undefined ? {} : { labels: labelBits(labels) }),
    ...(help?.name === undefined ? {} : { helper: help.name }),
    ...(secctx?.name === undefined ? {} : { secctx: secctx.name }),
    ...(master === undefined ? {} : { master: tupleOf(master, "CTA_TUPLE_MASTER") }),
  };
}

function tupleOf(tuple: AttributesOf<typeof ctaTuple> | undefined, name: string): ConntrackTuple {
  const source = tuple?.ip?.v4Source ?? tuple?.ip?.v6Source;
  const destination = tuple?.ip?.v4Destination ?? tuple?.ip?.v6Destination;
  const proto = tuple?.proto;
  if (source === undefined || destination === undefined || proto?.number === undefined) {
    throw new DecodeError(name, "lacks an address or the protocol");
  }
  const { sourcePort, destinationPort } = proto;
  const icmpId = proto.icmpId ?? proto.icmpv6Id;
  const icmpType = proto.icmpType ?? proto.icmpv6Type;
  const icmpCode = proto.icmpCode ?? proto.icmpv6Code;
  return {
    source,
    destination,
    protocol: proto.number,
    ...(sourcePort === undefined ? {} : { sourcePort }),
    ...(destinationPort === undefined ? {} : { destinationPort }),
    ...(icmpId === undefined ? {} : { icmpId }),
    ...(icmpType === undefined ? {} : { icmpType }),
    ...(icmpCode === undefined ? {} : { icmpCode }),
    ...(tuple?.zone === undefined ? {} : { zone: tuple.zone }),
  };
}

function protocolInfo(
  protocol: number,
  info: Attributes["protoinfo"],
): Pick<ConntrackEntry, "state" | "tcp" | "sctp"> {
  if (info === undefined) return {};
  const number = info.tcp?.state ?? info.sctp?.state ?? info.dccp?.state;
  const state = number === undefined ? undefined : stateName(protocol, number);
  const { tcp, sctp } = info;
  return {
    ...(state === undefined ? {} : { state }),
    ...(tcp === undefined
      ? {}
      : {
          tcp: {
            ...(tcp.windowScaleOriginal === undefined
              ? {}
              : { windowScaleOriginal: tcp.windowScaleOriginal }),
            ...(tcp.windowScaleReply === undefined ? {} : { windowScaleReply: tcp.windowScaleReply }),
            ...(tcp.flagsOriginal === undefined ? {} : { flagsOriginal: tcp.flagsOriginal.flags }),
            ...(tcp.flagsReply === undefined ? {} : { flagsReply: tcp.flagsReply.flags }),
          },
        }),
    ...(sctp === undefined
      ? {}
      : {
          sctp: {
            ...(sctp.verificationTagOriginal === undefined
              ? {}
              : { tagOriginal: sctp.verificationTagOriginal }),
            ...(sctp.verificationTagReply === undefined ? {} : { tagReply: sctp.verificationTagReply }),
          },
        }),
  };
}

function countersOf(counters: AttributesOf<typeof ctaCounters> | undefined): FlowCounters {
  return { packets: counters?.packets ?? 0, bytes: counters?.bytes ?? 0 };
}

function milliseconds(nanoseconds: bigint): number {
  return Number(nanoseconds / 1000n) / 1000;
}

/** The kernel stores labels as an array of unsigned long, which on the machines we run on is little-endian bits. */
function labelBits(bytes: Uint8Array): number[] {
  const bits: number[] = [];
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    if ((bytes[bit >> 3]! & (1 << (bit & 7))) !== 0) bits.push(bit);
  }
  return bits;
}
