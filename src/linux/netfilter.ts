/** What netfilter's parts (nf_tables, iptables, conntrack) have in common. */

/** NFPROTO_* (include/uapi/linux/netfilter.h). */
export const NFPROTO = { unspec: 0, inet: 1, ipv4: 2, arp: 3, netdev: 5, bridge: 7, ipv6: 10 } as const;

/** enum nf_ip_hook_priorities (include/uapi/linux/netfilter_ipv4.h; IPv6 has the same). */
export const HOOK_PRIORITY = {
  raw: -300,
  conntrack: -200,
  mangle: -150,
  dstnat: -100,
  filter: 0,
  security: 50,
  srcnat: 100,
} as const;

/** enum nf_br_hook_priorities (include/uapi/linux/netfilter_bridge.h). */
export const BRIDGE_HOOK_PRIORITY = { dstnat: -300, filter: -200, out: 100, srcnat: 300 } as const;

/** NF_NAT_RANGE_* (include/uapi/linux/netfilter/nf_nat.h). */
export const NAT_FLAGS = {
  "map-ips": 1,
  "proto-specified": 2,
  random: 4,
  persistent: 8,
  "fully-random": 16,
  "proto-offset": 32,
  netmap: 64,
} as const;

/** A conntrack zone, and the directions of a flow for which it counts (struct nf_conntrack_zone). */
export interface Zone {
  readonly id: number;
  readonly direction: "both" | "original" | "reply";
}

/** Bits of `ct state`: NF_CT_STATE_BIT of enum ip_conntrack_info, NF_CT_STATE_INVALID_BIT and …_UNTRACKED_BIT. */
export const CT_STATE = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } as const;
