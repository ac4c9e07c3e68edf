/**
 * Fields of packet headers by nft's names: where each lies and what it means. Offsets and lengths are bits from the
 * start of the header that `base` names. Shared by those who write rules and those who print them.
 */
import type { PAYLOAD_BASES } from "./enumerations.ts";

export type PayloadBase = keyof typeof PAYLOAD_BASES;

export interface Field {
  readonly base: PayloadBase;
  readonly offset: number;
  readonly length: number;
  /** nft data type. */
  readonly type: string;
}

function header<
  const F extends Readonly<Record<string, readonly [offset: number, length: number, type?: string]>>,
>(base: PayloadBase, fields: F): { readonly [K in keyof F]: Field } {
  const entries = Object.entries(fields).map(([name, [offset, length, type]]) => {
    return [name, { base, offset, length, type: type ?? "integer" }] as const;
  });
  return Object.fromEntries(entries) as { readonly [K in keyof F]: Field };
}

const port = "inet_service";

/** Headers by protocol. The order of protocols and fields is that in which a location is looked up. */
export const HEADERS = {
  ether: header("link", {
    daddr: [0, 48, "ether_addr"],
    saddr: [48, 48, "ether_addr"],
    type: [96, 16, "ether_type"],
  }),
  vlan: header("link", {
    pcp: [112, 3],
    dei: [115, 1],
    id: [116, 12],
    type: [128, 16, "ether_type"],
  }),
  arp: header("network", {
    htype: [0, 16],
    ptype: [16, 16, "ether_type"],
    hlen: [32, 8],
    plen: [40, 8],
    operation: [48, 16, "arp_op"],
    "saddr ether": [64, 48, "ether_addr"],
    "saddr ip": [112, 32, "ipv4_addr"],
    "daddr ether": [144, 48, "ether_addr"],
    "daddr ip": [192, 32, "ipv4_addr"],
  }),
  ip: header("network", {
    version: [0, 4],
    hdrlength: [4, 4],
    dscp: [8, 6, "dscp"],
    ecn: [14, 2, "ecn"],
    length: [16, 16],
    id: [32, 16],
    "frag-off": [48, 16],
    ttl: [64, 8],
    protocol: [72, 8, "inet_proto"],
    checksum: [80, 16],
    saddr: [96, 32, "ipv4_addr"],
    daddr: [128, 32, "ipv4_addr"],
  }),
  ip6: header("network", {
    version: [0, 4],
    dscp: [4, 6, "dscp"],
    ecn: [10, 2, "ecn"],
    flowlabel: [12, 20],
    length: [32, 16],
    nexthdr: [48, 8, "inet_proto"],
    hoplimit: [56, 8],
    saddr: [64, 128, "ipv6_addr"],
    daddr: [192, 128, "ipv6_addr"],
  }),
  tcp: header("transport", {
    sport: [0, 16, port],
    dport: [16, 16, port],
    sequence: [32, 32],
    ackseq: [64, 32],
    doff: [96, 4],
    reserved: [100, 4],
    flags: [104, 8, "tcp_flag"],
    window: [112, 16],
    checksum: [128, 16],
    urgptr: [144, 16],
  }),
  udp: header("transport", {
    sport: [0, 16, port],
    dport: [16, 16, port],
    length: [32, 16],
    checksum: [48, 16],
  }),
  udplite: header("transport", {
    sport: [0, 16, port],
    dport: [16, 16, port],
    csumcov: [32, 16],
    checksum: [48, 16],
  }),
  sctp: header("transport", {
    sport: [0, 16, port],
    dport: [16, 16, port],
    vtag: [32, 32],
    checksum: [64, 32],
  }),
  dccp: header("transport", {
    sport: [0, 16, port],
    dport: [16, 16, port],
    type: [67, 4, "dccp_pkttype"],
  }),
  icmp: header("transport", {
    type: [0, 8, "icmp_type"],
    code: [8, 8, "icmp_code"],
    checksum: [16, 16],
    id: [32, 16],
    sequence: [48, 16],
    gateway: [32, 32],
    mtu: [48, 16],
  }),
  icmpv6: header("transport", {
    type: [0, 8, "icmpv6_type"],
    code: [8, 8, "icmpv6_code"],
    checksum: [16, 16],
    "param-problem": [32, 32],
    mtu: [32, 32],
    id: [32, 16],
    sequence: [48, 16],
    "max-delay": [32, 16],
  }),
  igmp: header("transport", {
    type: [0, 8, "igmp_type"],
    mrt: [8, 8],
    checksum: [16, 16],
    group: [32, 32, "ipv4_addr"],
  }),
  ah: header("transport", {
    nexthdr: [0, 8, "inet_proto"],
    hdrlength: [8, 8],
    reserved: [16, 16],
    spi: [32, 32],
    sequence: [64, 32],
  }),
  esp: header("transport", { spi: [0, 32], sequence: [32, 32] }),
  comp: header("transport", { nexthdr: [0, 8, "inet_proto"], flags: [8, 8], cpi: [16, 16] }),
  /** Ports of whatever transport protocol. */
  th: header("transport", { sport: [0, 16, port], dport: [16, 16, port] }),
} as const;

export type HeaderName = keyof typeof HEADERS;
/** `ip saddr`, `tcp dport` … */
export type FieldName = {
  [P in HeaderName]: `${P} ${keyof (typeof HEADERS)[P] & string}`;
}[HeaderName];

/** A field by its full name. */
export function fieldNamed(name: FieldName): Field {
  const space = name.indexOf(" ");
  const fields: Readonly<Record<string, Field>> = HEADERS[name.slice(0, space) as HeaderName];
  return fields[name.slice(space + 1)]!;
}

/** Data type and bytes of each meta key; integers are in host order unless the third part says otherwise. */
export const META_TYPES: Readonly<Record<string, readonly [type: string, size: number, order?: "big"]>> = {
  length: ["integer", 4],
  protocol: ["ether_type", 2],
  priority: ["classid", 4],
  mark: ["mark", 4],
  iif: ["iface_index", 4],
  oif: ["iface_index", 4],
  iifname: ["ifname", 16],
  oifname: ["ifname", 16],
  iiftype: ["iface_type", 2],
  oiftype: ["iface_type", 2],
  skuid: ["uid", 4],
  skgid: ["gid", 4],
  nftrace: ["integer", 1],
  rtclassid: ["realm", 4],
  secmark: ["integer", 4],
  nfproto: ["nf_proto", 1],
  l4proto: ["inet_proto", 1],
  ibrname: ["ifname", 16],
  obrname: ["ifname", 16],
  pkttype: ["pkt_type", 1],
  cpu: ["integer", 4],
  iifgroup: ["devgroup", 4],
  oifgroup: ["devgroup", 4],
  cgroup: ["integer", 4],
  random: ["integer", 4, "big"],
  ipsec: ["boolean", 1],
  iifkind: ["string", 16],
  oifkind: ["string", 16],
  ibrpvid: ["integer", 2],
  ibrvproto: ["ether_type", 2],
  time: ["date", 8],
  day: ["day", 1],
  hour: ["hour", 4],
  sdif: ["iface_index", 4],
  sdifname: ["ifname", 16],
  broute: ["integer", 1],
  ibrhwaddr: ["ether_addr", 6],
};

/** Data type and bytes of each ct key; the kernel loads numbers in host order, addresses and ports in network order. */
export const CT_TYPES: Readonly<Record<string, readonly [type: string, size: number, order?: "big"]>> = {
  state: ["ct_state", 4],
  direction: ["ct_dir", 1],
  status: ["ct_status", 4],
  mark: ["mark", 4],
  secmark: ["integer", 4],
  expiration: ["time", 4],
  helper: ["string", 16],
  l3proto: ["nf_proto", 1],
  saddr: ["ipv4_addr", 4],
  daddr: ["ipv4_addr", 4],
  protocol: ["inet_proto", 1],
  "proto-src": ["inet_service", 2],
  "proto-dst": ["inet_service", 2],
  label: ["ct_label", 16],
  packets: ["integer", 8],
  bytes: ["integer", 8],
  avgpkt: ["integer", 8],
  zone: ["integer", 2],
  event: ["ct_event", 4],
  "ip saddr": ["ipv4_addr", 4],
  "ip daddr": ["ipv4_addr", 4],
  "ip6 saddr": ["ipv6_addr", 16],
  "ip6 daddr": ["ipv6_addr", 16],
  id: ["integer", 4, "big"],
};
