/** The numbers of src/linux/conntrack against the kernel's own headers. */
import { expect } from "bun:test";
import * as attributes from "../../../src/linux/conntrack/attributes.ts";
import { DCCP_STATES, IPS, SCTP_STATES, TCP_STATES } from "../../../src/linux/conntrack/status.ts";
import { IP_PROTOCOL } from "../../../src/linux/ip-protocol.ts";
import { compareWithHeaders, evaluateC, namesOf, testWithHeaders } from "../../support/kernel-headers.ts";

const HEADERS = [
  "linux/netfilter/nfnetlink_conntrack.h",
  "linux/netfilter/nf_conntrack_common.h",
  "linux/netfilter/nf_conntrack_tcp.h",
  "linux/netfilter/nf_conntrack_sctp.h",
  "linux/netfilter/nfnetlink.h",
];

testWithHeaders("every attribute has the number it has in the headers", () => {
  const sets = [attributes.cta, attributes.ctaStatsCpu, attributes.ctaStatsGlobal];
  const { wrong, unknown, compared } = compareWithHeaders(HEADERS, namesOf(sets));
  expect(wrong).toEqual([]);
  // Linux 6.14; older headers lack it.
  expect(unknown.filter((name) => name !== "CTA_TIMESTAMP_EVENT")).toEqual([]);
  expect(compared).toBeGreaterThan(70);
});

testWithHeaders("messages and groups have the numbers of the headers", () => {
  const messages = [
    attributes.IPCTNL_MSG_CT_NEW,
    attributes.IPCTNL_MSG_CT_GET,
    attributes.IPCTNL_MSG_CT_DELETE,
    attributes.IPCTNL_MSG_CT_GET_STATS_CPU,
    attributes.IPCTNL_MSG_CT_GET_STATS,
  ];
  const values = evaluateC(HEADERS, [
    ...messages.map(({ name }) => `(NFNL_SUBSYS_CTNETLINK << 8) | ${name}`),
    "NFNLGRP_CONNTRACK_NEW",
    "NFNLGRP_CONNTRACK_UPDATE",
    "NFNLGRP_CONNTRACK_DESTROY",
  ]);
  expect([...values.values()]).toEqual([
    ...messages.map(({ type }) => type),
    attributes.NFNLGRP_CONNTRACK_NEW,
    attributes.NFNLGRP_CONNTRACK_UPDATE,
    attributes.NFNLGRP_CONNTRACK_DESTROY,
  ]);
});

testWithHeaders("status bits, states and protocols are those of the headers", () => {
  const numbers = [
    ...Object.entries(IPS).map(([name, bit]): [string, number] => [`IPS_${name}`, bit]),
    ...TCP_STATES.map((name, number): [string, number] => [`TCP_CONNTRACK_${name}`, number]),
    ...SCTP_STATES.map((name, number): [string, number] => [`SCTP_CONNTRACK_${name}`, number]),
  ];
  const { wrong, unknown } = compareWithHeaders(HEADERS, numbers);
  expect({ wrong, unknown }).toEqual({ wrong: [], unknown: [] });
  expect(DCCP_STATES).toHaveLength(10);
  const names = Object.entries(IP_PROTOCOL).filter(([, number]) => ![88, 89, 58, 112, 4].includes(number));
  const protocols = evaluateC(
    ["linux/in.h", "linux/in6.h"],
    names.map(([name]) => `IPPROTO_${name.toUpperCase()}`),
  );
  expect([...protocols.values()]).toEqual(names.map(([, number]) => number));
});
