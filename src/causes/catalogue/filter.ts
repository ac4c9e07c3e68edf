/** What can be wrong with: filters. */
import type { CatalogueEntry } from "../steps.ts";
import { NO_POD_ADDRESS } from "./hides.ts";

export const FILTER = {
  "filter-rule-drops": {
    step: "filter",
    title: "a filter rule drops or rejects the packet",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "In nf_tables `accept` ends only its own base chain, a drop anywhere is final: an accept in one table does not undo a drop in another. iptables-legacy is one more such set of tables.",
  },
  "filter-policy-drops": {
    step: "filter",
    title: "a chain's policy drops the packet, and no rule of it accepts",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about: "Docker sets the policy of FORWARD to DROP and accepts only its own networks.",
  },
  "branch-fails": {
    step: "filter",
    title: "a rule chooses by chance, and one of its choices leads nowhere",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "kube-proxy spreads a Service's connections over its endpoints by chance. One that is gone, or to which the node has no way, makes its share of the connections fail.",
  },
  "service-no-endpoints": {
    step: "filter",
    title: "a Kubernetes Service has no ready endpoints, and kube-proxy refuses its packets",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "kube-proxy rejects what is sent to a Service (its cluster address, an external one, a load balancer's) that has no ready endpoint. Its rule is right: the Service is what must be repaired.",
  },
  "private-destination-outside": {
    step: "filter",
    title: "a private address leaves by the default route: no rule and no route of this node knows it",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["ipsec-escaped"],
    about:
      "Told when no answer comes. Mostly a Service's cluster address on a node whose kube-proxy does not run or whose rules were flushed, or a network (a VPN, another node's pods) to which the route is missing.",
  },
  "ipsec-drops": {
    step: "filter",
    title: "an IPsec policy refuses the packet, or wants it encrypted and nothing encrypts it",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_ADDRESS,
    about:
      "Policies (ip xfrm policy) stand beside all rules and routes: what they select is encrypted, or dropped. They remain when the VPN's daemon is gone, and those with a wide range of addresses take pods along.",
  },
  "ipsec-escaped": {
    step: "nat",
    title: "a rule translates the source before IPsec can encrypt the packet, which then leaves as it is",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "Policies are asked again behind the translation. One that names the pods' addresses no longer selects the packet, and it goes to the default route in clear text. The masquerading rule has to except what IPsec takes (-m policy --dir out --pol none).",
  },
  "filter-queue": {
    step: "filter",
    title: "a rule hands the packet to a program",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "What the program behind an NFQUEUE decides cannot be read from the kernel. When none listens, packets are dropped.",
  },
  "filter-unknown": {
    step: "filter",
    title: "what happens to the packet depends on something that cannot be read",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "A limit, a random choice, the time of day, a BPF program, or an expression this version does not know.",
  },
  "filter-by-content": {
    step: "filter",
    title: "a rule drops packets by what they carry, or by their size",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "A match on the payload (`string`, `u32`, a BPF program, raw bytes), on the length of a packet or on what a connection has carried. The first packet of a connection passes, and says nothing about the later ones: a connection opens and then hangs.",
  },
  "filter-by-time": {
    step: "filter",
    title: "a rule drops packets at certain times",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "A match on the time of day, the day of the week or a date, set against the time at which the node was looked at. The kernel's times are UTC.",
  },
  "other-senders-fail": {
    step: "filter",
    title: "the pod's rules let root through, and not the user that the program runs as",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: NO_POD_ADDRESS,
    about:
      "Rules of the pod may ask who sends: `-m owner --uid-owner`, `meta skuid`, `ip rule … uidrange`. A VPN's or a proxy's side car has them, and so have rules against misuse. A check that runs as root says nothing of a program that does not.",
  },
  "invalid-dropped": {
    step: "filter",
    title: "packets that conntrack calls invalid are dropped, and there are such packets",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "Asymmetric routing, or windows that conntrack did not see growing, make packets invalid. nf_conntrack_tcp_be_liberal helps.",
  },
  "invalid-leaks": {
    step: "filter",
    title: "packets that conntrack calls invalid pass untranslated",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "NAT leaves alone what belongs to no flow. The other side answers a packet from a pod's own address with a reset, if at all. Drop such packets, or let conntrack be liberal.",
  },
  "qdisc-drops": {
    step: "filter",
    title: "a queueing discipline (tc) drops the packet",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "A bandwidth limit whose burst is smaller than a packet drops every packet; a limit that is reached drops some. CNI's bandwidth plugin takes the burst in bits.",
  },
  "kernel-drops": {
    step: "filter",
    title: "the kernel drops the packet and gives a reason",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "The kernel's own drop reason for the packet that was sent, the device it was at and, where no reason is given, the function of the kernel.",
  },
  "refused-on-node": {
    step: "filter",
    title: "the node itself answers that the packet cannot go on (ICMP)",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about: "The message says why: no route, prohibited, a host that does not answer.",
  },
  "refused-outside": {
    step: "filter",
    title: "something outside refuses the packet, and says so (ICMP)",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "The packet left the node, and an ICMP message came back: who sent it is the one that refuses. “Administratively prohibited” is a firewall, “host unreachable” a router that gets no answer from the destination.",
  },
  "answer-from-elsewhere": {
    step: "conntrack",
    title: "the answer comes from another address than the one that was asked",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "No tracked connection and no connected socket takes such an answer. A server that answers from another of its addresses, or an answer that does not pass where the request was translated: two pods of one bridge, one of which asked by the node's address.",
  },
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
