/** Namespaces in which connections are tracked: made entries of every kind, or a pod with real traffic. */
import type { NetworkNamespace } from "../../../src/kernel/namespace.ts";
import { ask, run } from "../../support/witness.ts";
import { awaitNeighbour, freshNamespace } from "../../support/world.ts";

/** A namespace whose rules ask for tracking, with accounting and timestamps on. */
export function trackingNamespace(): NetworkNamespace {
  const namespace = freshNamespace("ct");
  ask(namespace, [
    "sysctl",
    "-qw",
    "net.netfilter.nf_conntrack_acct=1",
    "net.netfilter.nf_conntrack_timestamp=1",
  ]);
  ask(
    namespace,
    ["nft", "-f", "-"],
    "table inet t { chain o { type filter hook output priority 0; ct state new counter; }; }",
  );
  return namespace;
}

const TCP = ["-p", "tcp", "--sport", "5432", "--dport", "443"];
const V4 = ["-s", "10.0.0.1", "-d", "198.51.100.80"];
const V6 = ["-s", "fd00::1", "-d", "2001:db8::80"];
const SEEN = ["-u", "ASSURED,SEEN_REPLY"];

/** What `conntrack -I` is told, one entry each: all protocols, families, both ways of NAT, zones, marks. */
export const MADE: readonly (readonly string[])[] = [
  [...TCP, ...V4, "--state", "ESTABLISHED", ...SEEN, "--src-nat", "203.0.113.5", "--mark", "7"],
  [
    ...TCP,
    "-s",
    "10.0.0.2",
    "-d",
    "203.0.113.9",
    "--state",
    "TIME_WAIT",
    ...SEEN,
    "--dst-nat",
    "10.0.0.7:8443",
  ],
  [...TCP, ...V6, "--state", "SYN_SENT", "--mark", "0xffffffff"],
  ["-p", "udp", "--sport", "40000", "--dport", "53", ...V4],
  ["-p", "udp", "--sport", "40000", "--dport", "53", ...V6, "-u", "SEEN_REPLY"],
  ["-p", "udp", "--sport", "1", "--dport", "65535", ...V4, "-w", "9"],
  ["-p", "udp", "--sport", "2", "--dport", "2", ...V4, "--orig-zone", "7"],
  ["-p", "udp", "--sport", "3", "--dport", "3", ...V4, "--reply-zone", "8"],
  ["-p", "udplite", "--sport", "1", "--dport", "2", ...V4],
  [
    "-p",
    "sctp",
    "--sport",
    "5",
    "--dport",
    "6",
    ...V4,
    "--state",
    "ESTABLISHED",
    "--orig-vtag",
    "1",
    "--reply-vtag",
    "2",
  ],
  [
    "-p",
    "icmp",
    ...V4,
    "--icmp-type",
    "8",
    "--icmp-code",
    "0",
    "--icmp-id",
    "77",
    "--src-nat",
    "203.0.113.5",
  ],
  ["-p", "icmpv6", ...V6, "--icmpv6-type", "128", "--icmpv6-code", "0", "--icmpv6-id", "78"],
  ["-p", "gre", "--srckey", "11", "--dstkey", "12", ...V4],
  ["-p", "50", ...V4],
];

export function makeEntries(namespace: NetworkNamespace): void {
  for (const entry of MADE) ask(namespace, ["conntrack", "-I", "-t", "1000", ...entry]);
}

/** A pod behind a translating node, and the outside. */
export interface PodWorld {
  readonly pod: NetworkNamespace;
  readonly node: NetworkNamespace;
  readonly outside: NetworkNamespace;
}

const NODE_RULES = `
table inet way {
  ct helper ftp-helper { type "ftp" protocol tcp; }
  chain marking { type filter hook prerouting priority 0; tcp dport 21 ct helper set "ftp-helper"; meta l4proto icmp ct mark set 0x2a; }
  chain services { type nat hook prerouting priority -100; ip daddr 203.0.113.200 dnat ip to 198.51.100.80; }
  chain translation { type nat hook postrouting priority 100; oifname "up0" masquerade; }
}`;

/** veth pod0–node and up0–outside, forwarding, masquerade; 203.0.113.200 is really 198.51.100.80. */
export function podWorld(): PodWorld {
  const [pod, node, outside] = [freshNamespace("pod"), freshNamespace("node"), freshNamespace("out")];
  const ip = (namespace: NetworkNamespace, ...lines: string[]): void => {
    ask(namespace, ["ip", "-batch", "-"], lines.join("\n"));
  };
  ip(
    node,
    `link add down0 type veth peer name pod0 netns ${pod.name}`,
    `link add up0 type veth peer name out0 netns ${outside.name}`,
    "address add 10.0.0.254/24 dev down0",
    "address add fd00::254/64 dev down0 nodad",
    "address add 203.0.113.5/24 dev up0",
    "address add 2001:db8::5/64 dev up0 nodad",
    "link set down0 up",
    "link set up0 up",
  );
  ip(
    pod,
    "address add 10.0.0.1/24 dev pod0",
    "address add fd00::1/64 dev pod0 nodad",
    "link set pod0 up",
    "route add default via 10.0.0.254",
    "route add default via fd00::254",
  );
  ip(
    outside,
    "address add 203.0.113.1/24 dev out0",
    "address add 2001:db8::1/64 dev out0 nodad",
    "address add 198.51.100.80/32 dev lo",
    "link set out0 up",
  );
  ip(node, "route add 198.51.100.0/24 via 203.0.113.1");
  ask(node, ["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
  ask(node, ["sysctl", "-qw", "net.netfilter.nf_conntrack_acct=1"]);
  // The helper is a module that a kernel may lack; then the rest of the rules still counts.
  if (run(node, ["nft", "-f", "-"], NODE_RULES).exitCode !== 0) {
    ask(node, ["nft", "-f", "-"], NODE_RULES.replace(/ct helper ftp-helper {.*?}|tcp dport 21 .*?;/gs, ""));
  }
  awaitNeighbour(pod, "fd00::254");
  awaitNeighbour(node, "2001:db8::1");
  return { pod, node, outside };
}
