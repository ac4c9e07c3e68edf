/** What ctnetlink's numbers mean in words: IPS_* bits, states of protocols. */
import { IP_PROTOCOL } from "../ip-protocol.ts";

/** enum ip_conntrack_status (include/uapi/linux/netfilter/nf_conntrack_common.h). */
export const IPS = {
  EXPECTED: 1 << 0,
  SEEN_REPLY: 1 << 1,
  ASSURED: 1 << 2,
  CONFIRMED: 1 << 3,
  SRC_NAT: 1 << 4,
  DST_NAT: 1 << 5,
  SEQ_ADJUST: 1 << 6,
  SRC_NAT_DONE: 1 << 7,
  DST_NAT_DONE: 1 << 8,
  DYING: 1 << 9,
  FIXED_TIMEOUT: 1 << 10,
  TEMPLATE: 1 << 11,
  UNTRACKED: 1 << 12,
  HELPER: 1 << 13,
  OFFLOAD: 1 << 14,
  HW_OFFLOAD: 1 << 15,
} as const;

/**
 * A bit of our own, which the kernel does not have: the flow stands in the maps of our eBPF programs, not in the kernel's
 * table.
 */
export const BY_PROGRAMS = 1 << 30;

/** A status bit by name, without its IPS_ and in lower case: "seen-reply". */
export type StatusFlag =
  | "expected"
  | "seen-reply"
  | "assured"
  | "confirmed"
  | "src-nat"
  | "dst-nat"
  | "seq-adjust"
  | "src-nat-done"
  | "dst-nat-done"
  | "dying"
  | "fixed-timeout"
  | "template"
  | "untracked"
  | "helper"
  | "offload"
  | "hw-offload"
  | "ebpf";

const FLAGS = [
  ...Object.entries(IPS).map(
    ([name, bit]) => [name.toLowerCase().replaceAll("_", "-") as StatusFlag, bit] as const,
  ),
  ["ebpf", BY_PROGRAMS] as const,
];

// A table holds few different combinations; entries share one array each.
const flagLists = new Map<number, readonly StatusFlag[]>();

/** The names of the bits that are set, in the order of the bits. The same array for the same number: do not change it. */
export function statusFlags(status: number): readonly StatusFlag[] {
  let flags = flagLists.get(status);
  if (flags === undefined) {
    flags = Object.freeze(FLAGS.filter(([, bit]) => (status & bit) !== 0).map(([name]) => name));
    flagLists.set(status, flags);
  }
  return flags;
}

/** enum tcp_conntrack (nf_conntrack_tcp.h). The state numbered 9 was LISTEN and is SYN_SENT2 today. */
export const TCP_STATES = [
  "NONE",
  "SYN_SENT",
  "SYN_RECV",
  "ESTABLISHED",
  "FIN_WAIT",
  "CLOSE_WAIT",
  "LAST_ACK",
  "TIME_WAIT",
  "CLOSE",
  "SYN_SENT2",
] as const;

/** enum sctp_conntrack (nf_conntrack_sctp.h). */
export const SCTP_STATES = [
  "NONE",
  "CLOSED",
  "COOKIE_WAIT",
  "COOKIE_ECHOED",
  "ESTABLISHED",
  "SHUTDOWN_SENT",
  "SHUTDOWN_RECD",
  "SHUTDOWN_ACK_SENT",
  "HEARTBEAT_SENT",
  "HEARTBEAT_ACKED",
] as const;

/** enum ct_dccp_states (net/netfilter/nf_conntrack_proto_dccp.c, until Linux 6.16). */
export const DCCP_STATES = [
  "NONE",
  "REQUEST",
  "RESPOND",
  "PARTOPEN",
  "OPEN",
  "CLOSEREQ",
  "CLOSING",
  "TIMEWAIT",
  "IGNORE",
  "INVALID",
] as const;

/** The name of a protocol's state number; undefined for protocols whose states are not known here. */
export function stateName(protocol: number, state: number): string | undefined {
  const names = stateNames(protocol);
  return names === undefined ? undefined : (names[state] ?? `state-${state}`);
}

/** All states of a protocol, by number; undefined when it has none. */
export function stateNames(protocol: number): readonly string[] | undefined {
  switch (protocol) {
    case IP_PROTOCOL.tcp:
      return TCP_STATES;
    case IP_PROTOCOL.sctp:
      return SCTP_STATES;
    case IP_PROTOCOL.dccp:
      return DCCP_STATES;
    default:
      return undefined;
  }
}
