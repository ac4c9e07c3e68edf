/** The numbers of src/linux/nftables against the kernel's own headers. */
import { expect } from "bun:test";
import * as enumerations from "../../../src/linux/nftables/enumerations.ts";
import { EXPRESSIONS } from "../../../src/linux/nftables/expressions.ts";
import {
  NFNLGRP_NFTABLES,
  NFNLGRP_NFTRACE,
  NFT_MSG,
  TRACE_TYPES,
} from "../../../src/linux/nftables/messages.ts";
import { objectDataAttributes } from "../../../src/linux/nftables/objects.ts";
import { CHAIN_FLAGS, SET_FLAGS, TABLE_FLAGS } from "../../../src/linux/nftables/ruleset.ts";
import { VERDICTS } from "../../../src/linux/nftables/values.ts";
import { compareWithHeaders, namesOf, testWithHeaders } from "../../support/kernel-headers.ts";

const HEADERS = [
  "linux/netfilter/nf_tables.h",
  "linux/netfilter/nf_tables_compat.h",
  "linux/netfilter/nfnetlink.h",
  "linux/netfilter/nf_nat.h",
  "linux/netfilter/nf_log.h",
  "linux/netfilter.h",
];

/** Newer than the headers that Debian 12 has (6.1). */
const NEWER = /^NFTA_(INNER_\w+|BITWISE_SREG2|DEVICE_PREFIX|EXPR_\w+)$/;

testWithHeaders("every attribute has the number it has in the headers", () => {
  const sets = [
    ...Object.values(NFT_MSG).map((message) => message.attributes),
    ...Object.values(EXPRESSIONS).map((description) => description.attributes),
    ...objectDataAttributes,
  ];
  const { wrong, unknown, compared } = compareWithHeaders(HEADERS, namesOf(sets));
  expect(wrong).toEqual([]);
  expect(unknown.filter((name) => !NEWER.test(name))).toEqual([]);
  expect(compared).toBeGreaterThan(200);
});

testWithHeaders("messages and groups have the numbers of the headers", () => {
  const messages = Object.values(NFT_MSG).map((message) => [message.name, message.type & 0xff] as const);
  const groups = [
    ["NFNLGRP_NFTABLES", NFNLGRP_NFTABLES],
    ["NFNLGRP_NFTRACE", NFNLGRP_NFTRACE],
  ] as const;
  const { wrong, unknown } = compareWithHeaders(HEADERS, [...messages, ...groups]);
  expect(wrong).toEqual([]);
  expect(unknown).toEqual([]);
});

type Enumeration = Readonly<Record<string, number>>;

/** Our name in the header's spelling: by a prefix, and by hand where nft's word is another than the kernel's. */
function inHeaders(
  prefix: string,
  names: Enumeration,
  others: Readonly<Record<string, string>> = {},
): [string, number][] {
  return Object.entries(names).map(([name, number]) => [
    others[name] ?? `${prefix}${name.toUpperCase().replaceAll(/[ -]/g, "_")}`,
    number,
  ]);
}

testWithHeaders("enumerations have the numbers of the headers", () => {
  const ops = { "==": "EQ", "!=": "NEQ", "<": "LT", "<=": "LTE", ">": "GT", ">=": "GTE" };
  const cmp = Object.fromEntries(Object.entries(ops).map(([ours, theirs]) => [ours, `NFT_CMP_${theirs}`]));
  const numbers: [string, number][] = [
    ...inHeaders("NFT_CMP_", enumerations.CMP_OPS, cmp),
    ...inHeaders("NFT_PAYLOAD_", enumerations.PAYLOAD_BASES, {
      link: "NFT_PAYLOAD_LL_HEADER",
      network: "NFT_PAYLOAD_NETWORK_HEADER",
      transport: "NFT_PAYLOAD_TRANSPORT_HEADER",
      inner: "NFT_PAYLOAD_INNER_HEADER",
    }),
    ...inHeaders("NFT_META_", enumerations.META_KEYS, {
      length: "NFT_META_LEN",
      ibrname: "NFT_META_BRI_IIFNAME",
      obrname: "NFT_META_BRI_OIFNAME",
      ibrpvid: "NFT_META_BRI_IIFPVID",
      ibrvproto: "NFT_META_BRI_IIFVPROTO",
      random: "NFT_META_PRANDOM",
      ipsec: "NFT_META_SECPATH",
      time: "NFT_META_TIME_NS",
      day: "NFT_META_TIME_DAY",
      hour: "NFT_META_TIME_HOUR",
    }),
    ...inHeaders("NFT_CT_", enumerations.CT_KEYS, {
      l3proto: "NFT_CT_L3PROTOCOL",
      saddr: "NFT_CT_SRC",
      daddr: "NFT_CT_DST",
      label: "NFT_CT_LABELS",
      packets: "NFT_CT_PKTS",
      event: "NFT_CT_EVENTMASK",
      "ip saddr": "NFT_CT_SRC_IP",
      "ip daddr": "NFT_CT_DST_IP",
      "ip6 saddr": "NFT_CT_SRC_IP6",
      "ip6 daddr": "NFT_CT_DST_IP6",
    }),
    ...inHeaders("NFT_RT_", enumerations.RT_KEYS, {
      "ip nexthop": "NFT_RT_NEXTHOP4",
      "ip6 nexthop": "NFT_RT_NEXTHOP6",
      mtu: "NFT_RT_TCPMSS",
      ipsec: "NFT_RT_XFRM",
    }),
    ...inHeaders("NFT_SOCKET_", enumerations.SOCKET_KEYS),
    ...inHeaders("NFT_FIB_RESULT_", enumerations.FIB_RESULTS, { type: "NFT_FIB_RESULT_ADDRTYPE" }),
    ...inHeaders("NFTA_FIB_F_", enumerations.FIB_FLAGS),
    ...inHeaders("NFT_OBJECT_", enumerations.OBJECT_TYPES, { "ct expectation": "NFT_OBJECT_CT_EXPECT" }),
    ...inHeaders("NFT_LOGLEVEL_", enumerations.LOG_LEVELS, { warn: "NFT_LOGLEVEL_WARNING" }),
    ...inHeaders("NFT_NAT_", enumerations.NAT_TYPES),
    ...inHeaders("NFT_DYNSET_OP_", enumerations.DYNSET_OPS),
    ...inHeaders("NFT_NG_", enumerations.NUMGEN_TYPES, { inc: "NFT_NG_INCREMENTAL" }),
    ...inHeaders("NFT_REJECT_", enumerations.REJECT_TYPES, {
      icmp: "NFT_REJECT_ICMP_UNREACH",
      "tcp reset": "NFT_REJECT_TCP_RST",
      icmpx: "NFT_REJECT_ICMPX_UNREACH",
    }),
    ...inHeaders("NFT_XFRM_KEY_", enumerations.XFRM_KEYS, {
      "ip daddr": "NFT_XFRM_KEY_DADDR_IP4",
      "ip6 daddr": "NFT_XFRM_KEY_DADDR_IP6",
      "ip saddr": "NFT_XFRM_KEY_SADDR_IP4",
      "ip6 saddr": "NFT_XFRM_KEY_SADDR_IP6",
    }),
    ...inHeaders("NFT_TABLE_F_", TABLE_FLAGS),
    ...inHeaders("NFT_CHAIN_", CHAIN_FLAGS, { offload: "NFT_CHAIN_HW_OFFLOAD" }),
    ...inHeaders("NFT_SET_", SET_FLAGS),
    ...inHeaders("NFT_TRACETYPE_", TRACE_TYPES),
    ...inHeaders("NFT_", VERDICTS, {
      drop: "NF_DROP",
      accept: "NF_ACCEPT",
      stolen: "NF_STOLEN",
      queue: "NF_QUEUE",
      repeat: "NF_REPEAT",
      stop: "NF_STOP",
    }),
  ];
  const { wrong, unknown } = compareWithHeaders(HEADERS, numbers);
  expect(wrong).toEqual([]);
  // Linux 6.9, 6.12, 6.18 and 6.7 in this order; older headers lack them.
  const newer = ["NFT_PAYLOAD_TUNNEL", "NFT_META_BROUTE", "NFT_META_IBRHWADDR", "NFT_TABLE_F_PERSIST"];
  expect(unknown.filter((name) => !newer.includes(name))).toEqual([]);
});
