/** The numbers of src/linux/route against the kernel's own headers. */
import { expect } from "bun:test";
import { ERRNO } from "../../../src/linux/errno.ts";
import * as namespace from "../../../src/kernel/namespace.ts";
import * as message from "../../../src/linux/netlink/message.ts";
import { addressAttributes, ifaCacheinfo, ifaddrmsg } from "../../../src/linux/route/address.ts";
import { BRIDGE_VLAN_INFO } from "../../../src/linux/route/bridge.ts";
import { RT_TABLE, routeProtocols, scopes } from "../../../src/linux/route/constants.ts";
import { AF_INET, AF_INET6 } from "../../../src/linux/socket.ts";
import { IPV4_DEVCONF, IPV6_DEVCONF } from "../../../src/linux/route/interface-settings.ts";
import * as link from "../../../src/linux/route/link-attributes.ts";
import { LINK_FLAGS, macvlanModes } from "../../../src/linux/route/link-names.ts";
import { namespaceIdAttributes } from "../../../src/linux/route/namespace-id.ts";
import * as netconf from "../../../src/linux/route/netconf.ts";
import { ndaCacheinfo, ndmsg, neighbourAttributes } from "../../../src/linux/route/neighbour.ts";
import * as neighbour from "../../../src/linux/route/neighbour.ts";
import { routeTypes } from "../../../src/linux/route/route.ts";
import * as route from "../../../src/linux/route/route-attributes.ts";
import * as rule from "../../../src/linux/route/rule.ts";
import * as address from "../../../src/linux/route/address.ts";
import { compareWithHeaders, evaluateC, namesOf, testWithHeaders } from "../../support/kernel-headers.ts";

const HEADERS = [
  "linux/rtnetlink.h",
  "linux/if_link.h",
  "linux/if_addr.h",
  "linux/if_bridge.h",
  "linux/if_tun.h",
  "linux/veth.h",
  "linux/fib_rules.h",
  "linux/neighbour.h",
  "linux/netconf.h",
  "linux/net_namespace.h",
  "linux/netlink.h",
];

testWithHeaders("every attribute has the number it has in the headers", () => {
  const sets = [
    link.linkAttributes,
    link.bridgeLinkAttributes,
    addressAttributes,
    route.routeAttributes,
    rule.policyRuleAttributes,
    neighbourAttributes,
    namespaceIdAttributes,
    netconf.netconfAttributes,
    route.nextHopAttributes,
  ];
  const { wrong, unknown, compared } = compareWithHeaders(HEADERS, namesOf(sets));
  expect(wrong).toEqual([]);
  // Nothing in the tables may be invented. (The C library has the AF_* through another file.)
  expect(unknown).toEqual(["AF_INET", "AF_INET6"]);
  expect([...evaluateC(["sys/socket.h"], ["AF_INET", "AF_INET6"]).values()]).toEqual([AF_INET, AF_INET6]);
  expect(compared).toBeGreaterThan(180);
});

testWithHeaders("every message has the number it has in the headers", () => {
  const specs = [link, address, route, rule, neighbour, netconf].flatMap((file) =>
    Object.entries(file as Record<string, unknown>)
      .filter(([name]) => name.startsWith("RTM_"))
      .map(([, spec]) => spec as { readonly name: string; readonly type: number }),
  );
  const { wrong, unknown, compared } = compareWithHeaders(
    HEADERS,
    specs.map(({ name, type }): [string, number] => [name, type]),
  );
  expect({ wrong, unknown }).toEqual({ wrong: [], unknown: [] });
  expect(compared).toBe(24);
});

testWithHeaders("every structure has the size and the fields' places it has in C", () => {
  const structures = [
    [link.ifinfomsg, ["ifi_family", undefined, "ifi_type", "ifi_index", "ifi_flags", "ifi_change"]],
    [ifaddrmsg, ["ifa_family", "ifa_prefixlen", "ifa_flags", "ifa_scope", "ifa_index"]],
    [ifaCacheinfo, ["ifa_prefered", "ifa_valid", "cstamp", "tstamp"]],
    [
      route.rtmsg,
      [
        "rtm_family",
        "rtm_dst_len",
        "rtm_src_len",
        "rtm_tos",
        "rtm_table",
        "rtm_protocol",
        "rtm_scope",
        "rtm_type",
        "rtm_flags",
      ],
    ],
    [
      route.rtaCacheinfo,
      ["rta_clntref", "rta_lastuse", "rta_expires", "rta_error", "rta_used", "rta_id", "rta_ts", "rta_tsage"],
    ],
    [rule.fibRuleHeader, ["family", "dst_len", "src_len", "tos", "table", "res1", "res2", "action", "flags"]],
    [rule.fibRuleUidRange, ["start", "end"]],
    [rule.fibRulePortRange, ["start", "end"]],
    [ndmsg, ["ndm_family", "ndm_pad1", "ndm_pad2", "ndm_ifindex", "ndm_state", "ndm_flags", "ndm_type"]],
    [ndaCacheinfo, ["ndm_confirmed", "ndm_used", "ndm_updated", "ndm_refcnt"]],
    [netconf.netconfmsg, ["ncm_family"]],
    [link.bridgeVlanInfo, ["flags", "vid"]],
  ] as const;
  const sizes = { u8: 1, u16: 2, u32: 4, i8: 1, i32: 4, be16: 2, be32: 4, u64: 8 } as const;
  for (const [structure, cNames] of structures) {
    const kinds = Object.values(structure.fields) as (keyof typeof sizes)[];
    expect(kinds.length).toBe(cNames.length);
    const wanted: [string, number][] = [[`sizeof(struct ${structure.name})`, structure.size]];
    let offset = 0;
    for (const [index, kind] of kinds.entries()) {
      const width = sizes[kind];
      offset = Math.ceil(offset / width) * width;
      const field = cNames[index];
      if (field !== undefined) {
        wanted.push([`offsetof(struct ${structure.name}, ${field})`, offset]);
        wanted.push([`sizeof(((struct ${structure.name} *)0)->${field})`, width]);
      }
      offset += width;
    }
    const expressions = wanted.map(([expression]) => expression);
    expect([...evaluateC(HEADERS, expressions)]).toEqual(wanted);
  }
});

testWithHeaders("flags, states, scopes, types and settings have the headers' numbers", () => {
  const prefixed = (prefix: string, numbers: Readonly<Record<string, number>>): [string, number][] =>
    Object.entries(numbers).map(([name, number]) => [`${prefix}${name.toUpperCase()}`, number]);
  const numbers: [string, number][] = [
    ...prefixed("IFF_", LINK_FLAGS),
    ...prefixed("RTN_", routeTypes.numbers),
    ...prefixed("RT_TABLE_", RT_TABLE),
    ...prefixed("RTPROT_", routeProtocols.numbers),
    ...prefixed("BRIDGE_VLAN_INFO_", BRIDGE_VLAN_INFO),
    ...prefixed("MACVLAN_MODE_", macvlanModes.numbers),
    ...Object.entries(scopes.numbers).map(([name, number]): [string, number] => [
      name === "global" ? "RT_SCOPE_UNIVERSE" : `RT_SCOPE_${name.toUpperCase()}`,
      number,
    ]),
    ["RTEXT_FILTER_BRVLAN", link.RTEXT_FILTER_BRVLAN],
    ["RTEXT_FILTER_SKIP_STATS", link.RTEXT_FILTER_SKIP_STATS],
  ];
  const { wrong, unknown } = compareWithHeaders([...HEADERS, "linux/if.h"], numbers);
  expect({ wrong, unknown }).toEqual({ wrong: [], unknown: [] });
});

testWithHeaders("interface settings stand at the headers' places", () => {
  // Where sysctl's name and the constant's differ.
  const renamed: Readonly<Record<string, string>> = {
    arp_filter: "ARPFILTER",
    disable_xfrm: "NOXFRM",
    src_valid_mark: "SRC_VMARK",
    disable_policy: "NOPOLICY",
  };
  const v4 = Object.entries(IPV4_DEVCONF).map(([name, number]): [string, number] => [
    `IPV4_DEVCONF_${renamed[name] ?? name.toUpperCase()}`,
    number,
  ]);
  const renamed6: Readonly<Record<string, string>> = { hop_limit: "HOPLIMIT", mtu: "MTU6" };
  const v6 = Object.entries(IPV6_DEVCONF).map(([name, number]): [string, number] => [
    `DEVCONF_${renamed6[name] ?? name.toUpperCase()}`,
    number,
  ]);
  const { wrong, unknown } = compareWithHeaders(["linux/ip.h", "linux/ipv6.h"], [...v4, ...v6]);
  expect({ wrong, unknown }).toEqual({ wrong: [], unknown: [] });
});

testWithHeaders("errnos, netlink flags and namespace flags have the headers' numbers", () => {
  const numbersOf = (file: object, prefix: RegExp): [string, number][] =>
    Object.entries(file).filter(
      (pair): pair is [string, number] => prefix.test(pair[0]) && typeof pair[1] === "number",
    );
  const { wrong, unknown, compared } = compareWithHeaders(
    ["asm-generic/errno-base.h", "asm-generic/errno.h", "linux/netlink.h", "linux/sched.h", "linux/mount.h"],
    [
      ...Object.entries(ERRNO),
      ...numbersOf(message, /^(NLM_F|NLMSG)_(?!HDRLEN)/),
      ...numbersOf(namespace, /^(CLONE|MS)_/),
    ],
  );
  expect({ wrong, unknown }).toEqual({ wrong: [], unknown: [] });
  expect(compared).toBeGreaterThan(80);
});
