/** Numbers that stand in one place in linux/, against the kernel's own headers. */
import { SOCKADDR_BYTES } from "../../src/kernel/inet-socket.ts";
import {
  ICMP_HEADER_BYTES,
  IP_HEADER_BYTES,
  IPV6_EXTENSION,
  TCP_HEADER_BYTES,
  UDP_HEADER_BYTES,
} from "../../src/linux/packet/packet.ts";
import { expect } from "bun:test";
import * as openFlags from "../../src/kernel/open-flags.ts";
import { ICMP_CODES, ICMP_TYPES, ICMPV6_CODES, ICMPV6_TYPES } from "../../src/linux/icmp.ts";
import { IP_PROTOCOL } from "../../src/linux/ip-protocol.ts";
import { ARPHRD, ETH_P, ETH_HLEN } from "../../src/linux/link-layer.ts";
import {
  BRIDGE_HOOK_PRIORITY,
  CT_STATE,
  HOOK_PRIORITY,
  NAT_FLAGS,
  NFPROTO,
} from "../../src/linux/netfilter.ts";
import { KERNEL_FILE_SYSTEMS } from "../../src/linux/kernel-file-systems.ts";
import { IPS } from "../../src/linux/conntrack/status.ts";
import { SIGKILL } from "../../src/linux/signal.ts";
import * as socket from "../../src/linux/socket.ts";
import { TCP_FLAG } from "../../src/linux/tcp.ts";
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

testWithHeaders("the socket interface, files and signals", () => {
  const { ipFamilyOf: _, ...numbers } = socket;
  expectHeaders(
    ["sys/socket.h", "netinet/in.h", "poll.h", "linux/if_packet.h"],
    "",
    without(numbers, "SOL_NETLINK"),
  );
  expectHeaders(["linux/fcntl.h", "asm/signal.h"], "", { ...openFlags, SIGKILL });
});

testWithHeaders("sizes of headers and of socket addresses, what may stand before a transport header", () => {
  const sizes = {
    "sizeof(struct iphdr)": IP_HEADER_BYTES[4],
    "sizeof(struct ipv6hdr)": IP_HEADER_BYTES[6],
    "sizeof(struct tcphdr)": TCP_HEADER_BYTES,
    "sizeof(struct udphdr)": UDP_HEADER_BYTES,
    "sizeof(struct icmphdr)": ICMP_HEADER_BYTES,
    ETH_HLEN,
    IPPROTO_HOPOPTS: IPV6_EXTENSION.hopByHop,
    IPPROTO_ROUTING: IPV6_EXTENSION.routing,
    IPPROTO_FRAGMENT: IPV6_EXTENSION.fragment,
    IPPROTO_DSTOPTS: IPV6_EXTENSION.destinationOptions,
    "sizeof(struct sockaddr_in)": SOCKADDR_BYTES[4],
    "sizeof(struct sockaddr_in6)": SOCKADDR_BYTES[6],
  };
  const headers = [
    "netinet/in.h",
    "linux/ip.h",
    "linux/ipv6.h",
    "linux/tcp.h",
    "linux/udp.h",
    "linux/icmp.h",
  ];
  const expressions = Object.keys(sizes);
  expect([...evaluateC([...headers, "linux/if_ether.h"], expressions).values()]).toEqual(
    Object.values(sizes),
  );
});

testWithHeaders("messages of ICMP", () => {
  expectHeaders(
    ["linux/icmp.h"],
    "ICMP_",
    without(ICMP_TYPES, "router-advertisement", "router-solicitation"),
    {
      "echo-reply": "ICMP_ECHOREPLY",
      "destination-unreachable": "ICMP_DEST_UNREACH",
      "source-quench": "ICMP_SOURCE_QUENCH",
      "echo-request": "ICMP_ECHO",
      "time-exceeded": "ICMP_TIME_EXCEEDED",
      "parameter-problem": "ICMP_PARAMETERPROB",
      "timestamp-request": "ICMP_TIMESTAMP",
      "timestamp-reply": "ICMP_TIMESTAMPREPLY",
      "info-request": "ICMP_INFO_REQUEST",
      "info-reply": "ICMP_INFO_REPLY",
      "address-mask-request": "ICMP_ADDRESS",
      "address-mask-reply": "ICMP_ADDRESSREPLY",
    },
  );
  expectHeaders(["linux/icmp.h"], "", ICMP_CODES, {
    "net-unreachable": "ICMP_NET_UNREACH",
    "host-unreachable": "ICMP_HOST_UNREACH",
    "prot-unreachable": "ICMP_PROT_UNREACH",
    "port-unreachable": "ICMP_PORT_UNREACH",
    "frag-needed": "ICMP_FRAG_NEEDED",
    "net-prohibited": "ICMP_NET_ANO",
    "host-prohibited": "ICMP_HOST_ANO",
    "admin-prohibited": "ICMP_PKT_FILTERED",
  });
  // Neighbour discovery's and the others are RFC 4861's and IANA's alone.
  const inHeader = Object.fromEntries(Object.entries(ICMPV6_TYPES).filter(([, type]) => type < 133));
  expectHeaders(["linux/icmpv6.h"], "", inHeader, {
    "destination-unreachable": "ICMPV6_DEST_UNREACH",
    "packet-too-big": "ICMPV6_PKT_TOOBIG",
    "time-exceeded": "ICMPV6_TIME_EXCEED",
    "parameter-problem": "ICMPV6_PARAMPROB",
    "echo-request": "ICMPV6_ECHO_REQUEST",
    "echo-reply": "ICMPV6_ECHO_REPLY",
    "mld-listener-query": "ICMPV6_MGM_QUERY",
    "mld-listener-report": "ICMPV6_MGM_REPORT",
    "mld-listener-done": "ICMPV6_MGM_REDUCTION",
  });
  expectHeaders(["linux/icmpv6.h"], "ICMPV6_", ICMPV6_CODES, {
    "no-route": "ICMPV6_NOROUTE",
    "admin-prohibited": "ICMPV6_ADM_PROHIBITED",
    "addr-unreachable": "ICMPV6_ADDR_UNREACH",
    "port-unreachable": "ICMPV6_PORT_UNREACH",
    "policy-fail": "ICMPV6_POLICY_FAIL",
    "reject-route": "ICMPV6_REJECT_ROUTE",
  });
});

testWithHeaders("flags of TCP, status bits of a tracked connection, flags of NAT", () => {
  const names = Object.fromEntries(
    Object.keys(TCP_FLAG).map((name) => [name, `ntohl(TCP_FLAG_${name.toUpperCase()}) >> 16`]),
  );
  expectHeaders(["linux/tcp.h", "arpa/inet.h"], "", TCP_FLAG, names);
  expectHeaders(["linux/netfilter/nf_conntrack_common.h"], "IPS_", IPS);
  expectHeaders(["linux/netfilter/nf_nat.h"], "", NAT_FLAGS, {
    "map-ips": "NF_NAT_RANGE_MAP_IPS",
    "proto-specified": "NF_NAT_RANGE_PROTO_SPECIFIED",
    random: "NF_NAT_RANGE_PROTO_RANDOM",
    persistent: "NF_NAT_RANGE_PERSISTENT",
    "fully-random": "NF_NAT_RANGE_PROTO_RANDOM_FULLY",
    "proto-offset": "NF_NAT_RANGE_PROTO_OFFSET",
    netmap: "NF_NAT_RANGE_NETMAP",
  });
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
