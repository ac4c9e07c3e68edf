/**
 * Names of values, by data type, as nft writes and reads them (`nft describe ct_state`). Where a number has several
 * names the first is the one written.
 */
import { IP_PROTOCOL } from "../ip-protocol.ts";
import { ARPHRD, ETH_P } from "../link-layer.ts";
import { CT_STATE, NFPROTO } from "../netfilter.ts";
import { RTN } from "../route/constants.ts";
import { IPS } from "../conntrack/status.ts";
import { ICMP_CODES, ICMP_TYPES, ICMPV6_CODES, ICMPV6_TYPES } from "../icmp.ts";
import { TCP_FLAG } from "../tcp.ts";

export type Symbols = Readonly<Record<string, number>>;

/** IPPROTO_*: where nft's grammar has another name, it comes first. */
const INET_PROTO: Symbols = {
  ipencap: IP_PROTOCOL.ipip,
  "ipv6-icmp": IP_PROTOCOL.icmpv6,
  ...IP_PROTOCOL,
  ipcomp: 108,
  comp: 108,
  l2tp: 115,
};

/** NFT_REJECT_ICMPX_* */
export const ICMPX_CODES: Symbols = {
  "no-route": 0,
  "port-unreachable": 1,
  "host-unreachable": 2,
  "admin-prohibited": 3,
};

/** enum ip_conntrack_status */
const CT_STATUS: Symbols = {
  expected: IPS.EXPECTED,
  "seen-reply": IPS.SEEN_REPLY,
  assured: IPS.ASSURED,
  confirmed: IPS.CONFIRMED,
  snat: IPS.SRC_NAT,
  dnat: IPS.DST_NAT,
  dying: IPS.DYING,
};

/** enum ip_conntrack_events */
const CT_EVENT: Symbols = {
  new: 1,
  related: 2,
  destroy: 4,
  reply: 8,
  assured: 16,
  protoinfo: 32,
  helper: 64,
  mark: 128,
  seqadj: 256,
  secmark: 512,
  label: 1024,
};

const { ece: ecn, cwr, ...flags } = TCP_FLAG;
/** nft calls ECE "ecn". */
const TCP_FLAG_NAMES: Symbols = { ...flags, ecn, cwr };

/** DSCP code points (RFC 2474, 2597, 3246, 8622) */
const DSCP: Symbols = {
  cs0: 0x00,
  cs1: 0x08,
  cs2: 0x10,
  cs3: 0x18,
  cs4: 0x20,
  cs5: 0x28,
  cs6: 0x30,
  cs7: 0x38,
  lephb: 0x01,
  af11: 0x0a,
  af12: 0x0c,
  af13: 0x0e,
  af21: 0x12,
  af22: 0x14,
  af23: 0x16,
  af31: 0x1a,
  af32: 0x1c,
  af33: 0x1e,
  af41: 0x22,
  af42: 0x24,
  af43: 0x26,
  va: 0x2c,
  ef: 0x2e,
};

const SYMBOLS: Readonly<Record<string, Symbols>> = {
  inet_proto: INET_PROTO,
  icmp_type: ICMP_TYPES,
  icmp_code: ICMP_CODES,
  icmpv6_type: ICMPV6_TYPES,
  icmpv6_code: ICMPV6_CODES,
  icmpx_code: ICMPX_CODES,
  ct_state: CT_STATE,
  ct_status: CT_STATUS,
  ct_event: CT_EVENT,
  ct_dir: { original: 0, reply: 1 },
  tcp_flag: TCP_FLAG_NAMES,
  dscp: DSCP,
  ecn: { "not-ect": 0, ect1: 1, ect0: 2, ce: 3 },
  fib_addrtype: RTN,
  nf_proto: { ipv4: NFPROTO.ipv4, ipv6: NFPROTO.ipv6 },
  pkt_type: { host: 0, unicast: 0, broadcast: 1, multicast: 2, other: 3 },
  ether_type: {
    ip: ETH_P.ip,
    arp: ETH_P.arp,
    ip6: ETH_P.ip6,
    "8021q": ETH_P["8021q"],
    vlan: ETH_P["8021q"],
    "8021ad": ETH_P["8021ad"],
  },
  arp_op: { request: 1, reply: 2, rrequest: 3, rreply: 4, inrequest: 8, inreply: 9, nak: 10 },
  iface_type: {
    ether: ARPHRD.ether,
    ppp: ARPHRD.ppp,
    ipip: ARPHRD.ipip,
    ipip6: ARPHRD.tunnel6,
    loopback: ARPHRD.loopback,
    sit: ARPHRD.sit,
    ipgre: ARPHRD.gre,
  },
  igmp_type: {
    "membership-query": 0x11,
    "membership-report-v1": 0x12,
    "membership-report-v2": 0x16,
    "membership-report-v3": 0x22,
    "leave-group": 0x17,
  },
  dccp_pkttype: {
    request: 0,
    response: 1,
    data: 2,
    ack: 3,
    dataack: 4,
    closereq: 5,
    close: 6,
    reset: 7,
    sync: 8,
    syncack: 9,
  },
  mh_type: {
    "binding-refresh-request": 0,
    "home-test-init": 1,
    "careof-test-init": 2,
    "home-test": 3,
    "careof-test": 4,
    "binding-update": 5,
    "binding-acknowledgement": 6,
    "binding-error": 7,
    "fast-binding-update": 8,
    "fast-binding-acknowledgement": 9,
    "fast-binding-advertisement": 10,
    "experimental-mobility-header": 11,
    "home-agent-switch-message": 12,
  },
  boolean: { missing: 0, exists: 1 },
  day: { Sunday: 0, Monday: 1, Tuesday: 2, Wednesday: 3, Thursday: 4, Friday: 5, Saturday: 6 },
  devgroup: { default: 0 },
};

const names = new Map<string, ReadonlyMap<number, string>>(
  Object.entries(SYMBOLS).map(([type, symbols]) => [type, invert(symbols)]),
);

function invert(symbols: Symbols): ReadonlyMap<number, string> {
  const map = new Map<number, string>();
  for (const [name, number] of Object.entries(symbols)) if (!map.has(number)) map.set(number, name);
  return map;
}

/** The number of a name of that type. */
export function symbolNumber(type: string, name: string): number | undefined {
  const symbols = SYMBOLS[type];
  return symbols !== undefined && Object.hasOwn(symbols, name) ? symbols[name] : undefined;
}

/** The name of a number of that type. */
export function symbolName(type: string, number: number): string | undefined {
  return names.get(type)?.get(number);
}

const BITMASKS: ReadonlySet<string> = new Set(["ct_state", "ct_status", "ct_event", "ct_label", "tcp_flag"]);

/** Whether values of the type are sets of bits: `established,related`. */
export function isBitmask(type: string): boolean {
  return BITMASKS.has(type);
}
