/**
 * The enumerations of expressions (include/uapi/linux/netfilter/nf_tables.h and its neighbours), by the words that nft
 * uses for them.
 */
import { NFPROTO } from "../netfilter.ts";

/** NFT_JUMP_STACK_SIZE (include/net/netfilter/nf_tables.h): jumps within jumps. */
export const DEEPEST_JUMP = 16;
/** enum nft_payload_bases */
export const PAYLOAD_BASES = { link: 0, network: 1, transport: 2, inner: 3, tunnel: 4 } as const;
/** enum nft_cmp_ops, nft_range_ops */
export const CMP_OPS = { "==": 0, "!=": 1, "<": 2, "<=": 3, ">": 4, ">=": 5 } as const;
export const RANGE_OPS = { "==": 0, "!=": 1 } as const;
/** enum nft_bitwise_ops; `and` and `or` take their second operand from a register or from data (6.13). */
export const BITWISE_OPS = { "mask-xor": 0, lshift: 1, rshift: 2, and: 3, or: 4, xor: 5 } as const;
export const BYTEORDER_OPS = { ntoh: 0, hton: 1 } as const;
/** enum nft_meta_keys */
export const META_KEYS = {
  length: 0,
  protocol: 1,
  priority: 2,
  mark: 3,
  iif: 4,
  oif: 5,
  iifname: 6,
  oifname: 7,
  iiftype: 8,
  oiftype: 9,
  skuid: 10,
  skgid: 11,
  nftrace: 12,
  rtclassid: 13,
  secmark: 14,
  nfproto: 15,
  l4proto: 16,
  ibrname: 17,
  obrname: 18,
  pkttype: 19,
  cpu: 20,
  iifgroup: 21,
  oifgroup: 22,
  cgroup: 23,
  random: 24,
  ipsec: 25,
  iifkind: 26,
  oifkind: 27,
  ibrpvid: 28,
  ibrvproto: 29,
  time: 30,
  day: 31,
  hour: 32,
  sdif: 33,
  sdifname: 34,
  broute: 35,
  ibrhwaddr: 37,
} as const;
/** enum nft_ct_keys */
export const CT_KEYS = {
  state: 0,
  direction: 1,
  status: 2,
  mark: 3,
  secmark: 4,
  expiration: 5,
  helper: 6,
  l3proto: 7,
  saddr: 8,
  daddr: 9,
  protocol: 10,
  "proto-src": 11,
  "proto-dst": 12,
  label: 13,
  packets: 14,
  bytes: 15,
  avgpkt: 16,
  zone: 17,
  event: 18,
  "ip saddr": 19,
  "ip daddr": 20,
  "ip6 saddr": 21,
  "ip6 daddr": 22,
  id: 23,
} as const;
/** enum ip_conntrack_dir */
export const CT_DIRECTIONS = { original: 0, reply: 1 } as const;
/** enum nft_rt_keys */
export const RT_KEYS = { classid: 0, "ip nexthop": 1, "ip6 nexthop": 2, mtu: 3, ipsec: 4 } as const;
/** enum nft_socket_keys */
export const SOCKET_KEYS = { transparent: 0, mark: 1, wildcard: 2, cgroupv2: 3 } as const;
/** enum nft_fib_result and nft_fib_flags */
export const FIB_RESULTS = { oif: 1, oifname: 2, type: 3 } as const;
export const FIB_FLAGS = { saddr: 1, daddr: 2, mark: 4, iif: 8, oif: 16, present: 32 } as const;
/** enum nft_exthdr_op */
export const EXTHDR_OPS = { ipv6: 0, "tcp option": 1, "ip option": 2, sctp: 3, dccp: 4 } as const;
export const HASH_TYPES = { jhash: 0, symhash: 1 } as const;
export const NUMGEN_TYPES = { inc: 0, random: 1 } as const;
export const LIMIT_TYPES = { packets: 0, bytes: 1 } as const;
/** Shared by lookup, dynset, limit, connlimit and quota: bit 0 inverts. */
export const INVERT = { inv: 1 } as const;
export const DYNSET_OPS = { add: 0, update: 1, delete: 2 } as const;
/** enum nft_log_level (syslog's) */
export const LOG_LEVELS = {
  emerg: 0,
  alert: 1,
  crit: 2,
  err: 3,
  warn: 4,
  notice: 5,
  info: 6,
  debug: 7,
  audit: 8,
} as const;
/** NF_LOG_* of linux/netfilter/nf_log.h */
export const LOG_FLAGS = {
  "tcp sequence": 1,
  "tcp options": 2,
  "ip options": 4,
  skuid: 8,
  ether: 32,
} as const;
export const QUEUE_FLAGS = { bypass: 1, fanout: 2 } as const;
export const QUOTA_FLAGS = { inv: 1, depleted: 2 } as const;
/** enum nft_reject_types */
export const REJECT_TYPES = { icmp: 0, "tcp reset": 1, icmpx: 2 } as const;
export const NAT_TYPES = { snat: 0, dnat: 1 } as const;
/** The NFPROTO_* that an expression names a layer-3 family by. */
export const EXPRESSION_FAMILIES = {
  unspec: NFPROTO.unspec,
  inet: NFPROTO.inet,
  ip: NFPROTO.ipv4,
  arp: NFPROTO.arp,
  netdev: NFPROTO.netdev,
  bridge: NFPROTO.bridge,
  ip6: NFPROTO.ipv6,
} as const;
export const SYNPROXY_FLAGS = { mss: 1, wscale: 2, "sack-perm": 4, timestamp: 8, ecn: 16 } as const;
export const OSF_FLAGS = { version: 1 } as const;
/** enum nft_xfrm_keys; direction is XFRM_POLICY_IN/OUT. */
export const XFRM_KEYS = {
  "ip daddr": 1,
  "ip6 daddr": 2,
  "ip saddr": 3,
  "ip6 saddr": 4,
  reqid: 5,
  spi: 6,
} as const;
export const XFRM_DIRECTIONS = { in: 0, out: 1 } as const;
export const TUNNEL_KEYS = { path: 0, id: 1 } as const;
/** NFT_OBJECT_* */
export const OBJECT_TYPES = {
  counter: 1,
  quota: 2,
  "ct helper": 3,
  limit: 4,
  connlimit: 5,
  tunnel: 6,
  "ct timeout": 7,
  secmark: 8,
  "ct expectation": 9,
  synproxy: 10,
} as const;
