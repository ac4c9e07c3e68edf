/**
 * ctnetlink's attributes and messages, from include/uapi/linux/netfilter/nfnetlink_conntrack.h. Numbers are in network
 * order unless said otherwise. test/kernel/conntrack/headers.test.ts holds them against the kernel's headers.
 */
import { attribute, AttributeSet, nested } from "../netlink/attributes.ts";
import { be16, be32, bytes, counter64, ip, string, u32, u8, be64, type Codec } from "../netlink/codec.ts";
import type { MessageSpec } from "../netlink/message.ts";
import { NFNL_SUBSYS_CTNETLINK, nfgenmsg, nfnlType } from "../netlink/nfnetlink.ts";

/** enum ctattr_ip */
export const ctaIp = new AttributeSet(() => ({
  v4Source: attribute("CTA_IP_V4_SRC", 1, ip),
  v4Destination: attribute("CTA_IP_V4_DST", 2, ip),
  v6Source: attribute("CTA_IP_V6_SRC", 3, ip),
  v6Destination: attribute("CTA_IP_V6_DST", 4, ip),
}));

/** enum ctattr_l4proto */
export const ctaProto = new AttributeSet(() => ({
  number: attribute("CTA_PROTO_NUM", 1, u8),
  sourcePort: attribute("CTA_PROTO_SRC_PORT", 2, be16),
  destinationPort: attribute("CTA_PROTO_DST_PORT", 3, be16),
  icmpId: attribute("CTA_PROTO_ICMP_ID", 4, be16),
  icmpType: attribute("CTA_PROTO_ICMP_TYPE", 5, u8),
  icmpCode: attribute("CTA_PROTO_ICMP_CODE", 6, u8),
  icmpv6Id: attribute("CTA_PROTO_ICMPV6_ID", 7, be16),
  icmpv6Type: attribute("CTA_PROTO_ICMPV6_TYPE", 8, u8),
  icmpv6Code: attribute("CTA_PROTO_ICMPV6_CODE", 9, u8),
}));

/** enum ctattr_tuple */
export const ctaTuple = new AttributeSet(() => ({
  ip: attribute("CTA_TUPLE_IP", 1, nested(ctaIp)),
  proto: attribute("CTA_TUPLE_PROTO", 2, nested(ctaProto)),
  zone: attribute("CTA_TUPLE_ZONE", 3, be16),
}));

/** struct nf_ct_tcp_flags: two bytes, IP_CT_TCP_FLAG_* and which of them are meant. */
const tcpFlags: Codec<{ readonly flags: number; readonly mask: number }> = {
  kind: "nf_ct_tcp_flags",
  write(writer, value) {
    u8.write(writer, value.flags);
    u8.write(writer, value.mask);
  },
  read(wire, start, end) {
    return { flags: u8.read(wire, start, end), mask: u8.read(wire, start + 1, end) };
  },
};

/** enum ctattr_protoinfo_tcp */
export const ctaProtoinfoTcp = new AttributeSet(() => ({
  state: attribute("CTA_PROTOINFO_TCP_STATE", 1, u8),
  windowScaleOriginal: attribute("CTA_PROTOINFO_TCP_WSCALE_ORIGINAL", 2, u8),
  windowScaleReply: attribute("CTA_PROTOINFO_TCP_WSCALE_REPLY", 3, u8),
  flagsOriginal: attribute("CTA_PROTOINFO_TCP_FLAGS_ORIGINAL", 4, tcpFlags),
  flagsReply: attribute("CTA_PROTOINFO_TCP_FLAGS_REPLY", 5, tcpFlags),
}));

/** enum ctattr_protoinfo_dccp */
export const ctaProtoinfoDccp = new AttributeSet(() => ({
  state: attribute("CTA_PROTOINFO_DCCP_STATE", 1, u8),
  role: attribute("CTA_PROTOINFO_DCCP_ROLE", 2, u8),
  handshakeSequence: attribute("CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ", 3, be64),
}));

/** enum ctattr_protoinfo_sctp */
export const ctaProtoinfoSctp = new AttributeSet(() => ({
  state: attribute("CTA_PROTOINFO_SCTP_STATE", 1, u8),
  verificationTagOriginal: attribute("CTA_PROTOINFO_SCTP_VTAG_ORIGINAL", 2, be32),
  verificationTagReply: attribute("CTA_PROTOINFO_SCTP_VTAG_REPLY", 3, be32),
}));

/** enum ctattr_protoinfo */
export const ctaProtoinfo = new AttributeSet(() => ({
  tcp: attribute("CTA_PROTOINFO_TCP", 1, nested(ctaProtoinfoTcp)),
  dccp: attribute("CTA_PROTOINFO_DCCP", 2, nested(ctaProtoinfoDccp)),
  sctp: attribute("CTA_PROTOINFO_SCTP", 3, nested(ctaProtoinfoSctp)),
}));

/** enum ctattr_help */
export const ctaHelp = new AttributeSet(() => ({
  name: attribute("CTA_HELP_NAME", 1, string),
  info: attribute("CTA_HELP_INFO", 2, bytes),
}));

/** enum ctattr_protonat */
export const ctaProtonat = new AttributeSet(() => ({
  portMin: attribute("CTA_PROTONAT_PORT_MIN", 1, be16),
  portMax: attribute("CTA_PROTONAT_PORT_MAX", 2, be16),
}));

/** enum ctattr_nat: only in requests; the kernel never says it. */
export const ctaNat = new AttributeSet(() => ({
  v4Min: attribute("CTA_NAT_V4_MINIP", 1, ip),
  v4Max: attribute("CTA_NAT_V4_MAXIP", 2, ip),
  proto: attribute("CTA_NAT_PROTO", 3, nested(ctaProtonat)),
  v6Min: attribute("CTA_NAT_V6_MINIP", 4, ip),
  v6Max: attribute("CTA_NAT_V6_MAXIP", 5, ip),
}));

/** enum ctattr_counters */
export const ctaCounters = new AttributeSet(() => ({
  packets: attribute("CTA_COUNTERS_PACKETS", 1, counter64),
  bytes: attribute("CTA_COUNTERS_BYTES", 2, counter64),
  pad: attribute("CTA_COUNTERS_PAD", 5, bytes),
}));

/** enum ctattr_tstamp: nanoseconds since 1970. */
export const ctaTimestamp = new AttributeSet(() => ({
  start: attribute("CTA_TIMESTAMP_START", 1, be64),
  stop: attribute("CTA_TIMESTAMP_STOP", 2, be64),
  pad: attribute("CTA_TIMESTAMP_PAD", 3, bytes),
}));

/** enum ctattr_seqadj */
export const ctaSeqadj = new AttributeSet(() => ({
  correctionPosition: attribute("CTA_SEQADJ_CORRECTION_POS", 1, be32),
  offsetBefore: attribute("CTA_SEQADJ_OFFSET_BEFORE", 2, be32),
  offsetAfter: attribute("CTA_SEQADJ_OFFSET_AFTER", 3, be32),
}));

/** enum ctattr_secctx */
export const ctaSecctx = new AttributeSet(() => ({ name: attribute("CTA_SECCTX_NAME", 1, string) }));

/** enum ctattr_synproxy */
export const ctaSynproxy = new AttributeSet(() => ({
  initialSequence: attribute("CTA_SYNPROXY_ISN", 1, be32),
  initialTimestamp: attribute("CTA_SYNPROXY_ITS", 2, be32),
  timestampOffset: attribute("CTA_SYNPROXY_TSOFF", 3, be32),
}));

/** enum ctattr_filter. These two are in the host's order (nla_get_u32 in ctnetlink_parse_filter). */
export const ctaFilter = new AttributeSet(() => ({
  originalFlags: attribute("CTA_FILTER_ORIG_FLAGS", 1, u32),
  replyFlags: attribute("CTA_FILTER_REPLY_FLAGS", 2, u32),
}));

/**
 * CTA_FILTER_F_*: which fields of the tuple a filter means. They are part of the ABI but stand in no UAPI header
 * (net/netfilter/nf_internals.h of the kernel).
 */
export const CTA_FILTER_F = {
  ipSource: 1 << 0,
  ipDestination: 1 << 1,
  tupleZone: 1 << 2,
  protoNumber: 1 << 3,
  sourcePort: 1 << 4,
  destinationPort: 1 << 5,
} as const;

/** enum ctattr_type */
export const cta = new AttributeSet(() => ({
  original: attribute("CTA_TUPLE_ORIG", 1, nested(ctaTuple)),
  reply: attribute("CTA_TUPLE_REPLY", 2, nested(ctaTuple)),
  status: attribute("CTA_STATUS", 3, be32),
  protoinfo: attribute("CTA_PROTOINFO", 4, nested(ctaProtoinfo)),
  help: attribute("CTA_HELP", 5, nested(ctaHelp)),
  natSource: attribute("CTA_NAT_SRC", 6, nested(ctaNat)),
  timeout: attribute("CTA_TIMEOUT", 7, be32),
  mark: attribute("CTA_MARK", 8, be32),
  countersOriginal: attribute("CTA_COUNTERS_ORIG", 9, nested(ctaCounters)),
  countersReply: attribute("CTA_COUNTERS_REPLY", 10, nested(ctaCounters)),
  use: attribute("CTA_USE", 11, be32),
  id: attribute("CTA_ID", 12, be32),
  natDestination: attribute("CTA_NAT_DST", 13, nested(ctaNat)),
  master: attribute("CTA_TUPLE_MASTER", 14, nested(ctaTuple)),
  seqAdjustOriginal: attribute("CTA_SEQ_ADJ_ORIG", 15, nested(ctaSeqadj)),
  seqAdjustReply: attribute("CTA_SEQ_ADJ_REPLY", 16, nested(ctaSeqadj)),
  zone: attribute("CTA_ZONE", 18, be16),
  secctx: attribute("CTA_SECCTX", 19, nested(ctaSecctx)),
  timestamp: attribute("CTA_TIMESTAMP", 20, nested(ctaTimestamp)),
  markMask: attribute("CTA_MARK_MASK", 21, be32),
  labels: attribute("CTA_LABELS", 22, bytes),
  labelsMask: attribute("CTA_LABELS_MASK", 23, bytes),
  synproxy: attribute("CTA_SYNPROXY", 24, nested(ctaSynproxy)),
  filter: attribute("CTA_FILTER", 25, nested(ctaFilter)),
  statusMask: attribute("CTA_STATUS_MASK", 26, be32),
  /** When an event happened, in nanoseconds since 1970 (Linux 6.14). */
  eventTime: attribute("CTA_TIMESTAMP_EVENT", 27, be64),
}));

/** enum ctattr_stats_cpu */
export const ctaStatsCpu = new AttributeSet(() => ({
  found: attribute("CTA_STATS_FOUND", 2, be32),
  invalid: attribute("CTA_STATS_INVALID", 4, be32),
  insert: attribute("CTA_STATS_INSERT", 8, be32),
  insertFailed: attribute("CTA_STATS_INSERT_FAILED", 9, be32),
  drop: attribute("CTA_STATS_DROP", 10, be32),
  earlyDrop: attribute("CTA_STATS_EARLY_DROP", 11, be32),
  error: attribute("CTA_STATS_ERROR", 12, be32),
  searchRestart: attribute("CTA_STATS_SEARCH_RESTART", 13, be32),
  clashResolve: attribute("CTA_STATS_CLASH_RESOLVE", 14, be32),
  chainTooLong: attribute("CTA_STATS_CHAIN_TOOLONG", 15, be32),
}));

/** enum ctattr_stats_global */
export const ctaStatsGlobal = new AttributeSet(() => ({
  entries: attribute("CTA_STATS_GLOBAL_ENTRIES", 1, be32),
  maximum: attribute("CTA_STATS_GLOBAL_MAX_ENTRIES", 2, be32),
}));

/** enum cntl_msg_types */
export const IPCTNL_MSG_CT_NEW = {
  name: "IPCTNL_MSG_CT_NEW",
  type: nfnlType(NFNL_SUBSYS_CTNETLINK, 0),
  header: nfgenmsg,
  attributes: cta,
} as const satisfies MessageSpec;
export const IPCTNL_MSG_CT_GET = {
  name: "IPCTNL_MSG_CT_GET",
  type: nfnlType(NFNL_SUBSYS_CTNETLINK, 1),
  header: nfgenmsg,
  attributes: cta,
} as const satisfies MessageSpec;
export const IPCTNL_MSG_CT_DELETE = {
  name: "IPCTNL_MSG_CT_DELETE",
  type: nfnlType(NFNL_SUBSYS_CTNETLINK, 2),
  header: nfgenmsg,
  attributes: cta,
} as const satisfies MessageSpec;
export const IPCTNL_MSG_CT_GET_STATS_CPU = {
  name: "IPCTNL_MSG_CT_GET_STATS_CPU",
  type: nfnlType(NFNL_SUBSYS_CTNETLINK, 4),
  header: nfgenmsg,
  attributes: ctaStatsCpu,
} as const satisfies MessageSpec;
export const IPCTNL_MSG_CT_GET_STATS = {
  name: "IPCTNL_MSG_CT_GET_STATS",
  type: nfnlType(NFNL_SUBSYS_CTNETLINK, 5),
  header: nfgenmsg,
  attributes: ctaStatsGlobal,
} as const satisfies MessageSpec;

/** enum nfnetlink_groups (include/uapi/linux/netfilter/nfnetlink.h) */
export const NFNLGRP_CONNTRACK_NEW = 1;
export const NFNLGRP_CONNTRACK_UPDATE = 2;
export const NFNLGRP_CONNTRACK_DESTROY = 3;
