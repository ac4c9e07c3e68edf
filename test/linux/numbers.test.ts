/** Numbers that stand in one place in linux/, against the kernel's own headers. */
import { expect } from "bun:test";
import { IP_PROTOCOL } from "../../src/linux/ip-protocol.ts";
import { ARPHRD, ETH_P } from "../../src/linux/link-layer.ts";
import { BRIDGE_HOOK_PRIORITY, CT_STATE, HOOK_PRIORITY, NFPROTO } from "../../src/linux/netfilter.ts";
import { KERNEL_FILE_SYSTEMS } from "../../src/linux/kernel-file-systems.ts";
import { RT_TABLE, RTN } from "../../src/linux/route/constants.ts";
import { unixListeners } from "../../src/linux/unix-socket-diag.ts";
import { compareWithHeaders, evaluateC, namesOf, testWithHeaders } from "../support/kernel-headers.ts";

type Numbers = Readonly<Record<string, number>>;

/** Checks our numbers under the header's names for them. */
function expectHeaders(
  headers: readonly string[],
  prefix: string,
  numbers: Numbers,
  names: Renames = {},
): void {
  const expressions = Object.keys(numbers).map((name) => names[name] ?? `${prefix}${name.toUpperCase()}`);
  expect([...evaluateC(headers, expressions).values()]).toEqual(Object.values(numbers));
}

type Renames = Readonly<Record<string, string>>;

function without(numbers: Numbers, ...names: readonly string[]): Numbers {
  return Object.fromEntries(Object.entries(numbers).filter(([name]) => !names.includes(name)));
}

testWithHeaders("route types and tables", () => {
  expectHeaders(["linux/rtnetlink.h"], "RTN_", RTN);
  expectHeaders(["linux/rtnetlink.h"], "RT_TABLE_", RT_TABLE);
});

testWithHeaders("file systems of the kernel's own", () => {
  expectHeaders(["linux/magic.h"], "", KERNEL_FILE_SYSTEMS);
});

testWithHeaders("IP protocols", () => {
  // Routing protocols and VRRP are IANA's alone.
  expectHeaders(["linux/in.h", "linux/in6.h"], "IPPROTO_", without(IP_PROTOCOL, "eigrp", "ospf", "vrrp"));
});

testWithHeaders("frame types and link layers", () => {
  expectHeaders(["linux/if_ether.h"], "ETH_P_", ETH_P, { ip6: "ETH_P_IPV6" });
  expectHeaders(["linux/if_arp.h"], "ARPHRD_", ARPHRD, {
    ipip: "ARPHRD_TUNNEL",
    gre: "ARPHRD_IPGRE",
    gre6: "ARPHRD_IP6GRE",
  });
});

testWithHeaders("netfilter's families, priorities and states", () => {
  expectHeaders(["linux/netfilter.h"], "NFPROTO_", NFPROTO);
  expectHeaders(["linux/in.h", "linux/netfilter_ipv4.h"], "NF_IP_PRI_", HOOK_PRIORITY, {
    dstnat: "NF_IP_PRI_NAT_DST",
    srcnat: "NF_IP_PRI_NAT_SRC",
  });
  expectHeaders(["linux/netfilter_bridge.h"], "NF_BR_PRI_", BRIDGE_HOOK_PRIORITY, {
    dstnat: "NF_BR_PRI_NAT_DST_BRIDGED",
    filter: "NF_BR_PRI_FILTER_BRIDGED",
    out: "NF_BR_PRI_NAT_DST_OTHER",
    srcnat: "NF_BR_PRI_NAT_SRC",
  });
  expectHeaders(["linux/netfilter/nf_conntrack_common.h"], "", CT_STATE, {
    invalid: "NF_CT_STATE_INVALID_BIT",
    established: "NF_CT_STATE_BIT(IP_CT_ESTABLISHED)",
    related: "NF_CT_STATE_BIT(IP_CT_RELATED)",
    new: "NF_CT_STATE_BIT(IP_CT_NEW)",
    untracked: "NF_CT_STATE_UNTRACKED_BIT",
  });
});

testWithHeaders("sockets that listen at a path", () => {
  const { request, answer } = unixListeners();
  expect(
    compareWithHeaders(
      ["linux/unix_diag.h", "linux/sock_diag.h"],
      [...namesOf([answer.attributes]), ["SOCK_DIAG_BY_FAMILY", request.message.type]],
    ),
  ).toMatchObject({ wrong: [], unknown: [] });
  const sizes = ["unix_diag_req", "unix_diag_msg", "unix_diag_vfs"].map((name) => `sizeof(struct ${name})`);
  expect([...evaluateC(["linux/unix_diag.h"], sizes).values()]).toEqual([
    request.message.header.size,
    answer.header.size,
    8,
  ]);
});
