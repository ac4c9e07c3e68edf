/**
 * Every cause that the doctor and the trace know by name, in the order in which a packet meets them. docs/findings.md is made from this
 * table. The code that raises a finding stands in doctor/checks/, one file for each step.
 */

/** The steps of the checklist, as a person would go through them. */
export const STEPS = {
  "pod-link": "the pod's interface",
  "pod-address": "the pod's address",
  "pod-route": "the pod's route",
  gateway: "the pod's gateway",
  bridge: "the veth and the bridge",
  forwarding: "forwarding on the node",
  "node-route": "the node's route",
  "reverse-path": "the reverse path",
  filter: "filters, there and back",
  nat: "translation of the source",
  conntrack: "connection tracking",
  mtu: "packet sizes",
  dns: "name resolution",
  housekeeping: "agents and settings",
} as const;

export type StepName = keyof typeof STEPS;

/**
 * What must have been read (Missing.what) for a step to be judged at all: nothing that was not read is called healthy.
 */
export const READ_FOR: Readonly<Record<StepName, readonly string[]>> = {
  "pod-link": ["namespace", "links"],
  "pod-address": ["namespace", "addresses"],
  "pod-route": ["namespace", "routes", "rules"],
  gateway: ["namespace", "addresses", "neighbours"],
  bridge: ["links"],
  forwarding: ["sysctl net.ipv4.ip_forward", "sysctl net.ipv6.conf.all.forwarding"],
  "node-route": ["routes", "rules"],
  "reverse-path": ["routes", "rules"],
  filter: ["ruleset", "ipset", "iptables-legacy"],
  nat: ["ruleset", "iptables-legacy"],
  conntrack: ["conntrack", "tracked flows"],
  mtu: ["links", "routes"],
  dns: ["resolv.conf"],
  housekeeping: ["ruleset"],
};

/** Steps of the packet's own way: when one of them was not read, nobody can say that the packet gets through. */
export const ON_THE_WAY: ReadonlySet<StepName> = new Set<StepName>([
  "pod-link",
  "pod-address",
  "pod-route",
  "gateway",
  "bridge",
  "forwarding",
  "node-route",
  "reverse-path",
  "filter",
  "nat",
]);

/** `error`: broken now. `warning`: will bite, or bites sometimes. `note`: worth knowing. */
export type Severity = "error" | "warning" | "note";

/** One kind of finding. */
export interface CatalogueEntry {
  readonly step: StepName;
  /** What is wrong, in one line, without names. */
  readonly title: string;
  readonly severity: Severity;
  /** Whether the pod's traffic cannot pass while it stands. */
  readonly stopsTraffic: boolean;
  /** Causes that make this one appear: it is hidden while one of them stands. */
  readonly dependsOn: readonly string[];
  /** Why it happens and what it does, for docs/findings.md. */
  readonly about: string;
}

/** A pod whose own side is broken: what comes behind cannot be judged by its symptoms. */
const NO_POD_LINK = ["pod-namespace-gone", "pod-interface-missing", "pod-link-down"] as const;
const NO_POD_ADDRESS = [...NO_POD_LINK, "pod-no-address"] as const;
const NO_CABLE = [...NO_POD_LINK, "host-link-down", "bridge-down"] as const;

export const CATALOGUE = {
  // ── the pod's interface ──
  "pod-namespace-gone": {
    step: "pod-link",
    title: "the pod has no network namespace any more",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "The name is still there, the namespace behind it is not, or we may not enter it. A sandbox that was recreated, or a mount that got lost, leaves such names.",
  },
  "pod-interface-missing": {
    step: "pod-link",
    title: "the pod has no interface besides loopback",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["pod-namespace-gone"],
    about:
      "The runtime's ADD failed, or never ran, or its veth was deleted. Deleting one end of a veth deletes the other.",
  },
  "pod-link-down": {
    step: "pod-link",
    title: "the pod's interface is down",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["pod-interface-missing"],
    about:
      "Somebody set it down. The kernel then also removed every route that used it, so setting it up again is not enough: the default route must come back, too.",
  },
  "pod-no-carrier": {
    step: "pod-link",
    title: "the pod's interface has no carrier",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["pod-link-down", "host-link-down", "host-link-missing", "pod-interface-missing"],
    about: "A veth has a carrier only while both of its ends are up.",
  },
  "pod-loopback-down": {
    step: "pod-link",
    title: "the pod's loopback is down",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["pod-namespace-gone"],
    about: "Programs that talk to 127.0.0.1 inside the pod fail; a resolver on loopback is one of them.",
  },
  // ── the pod's address ──
  "pod-no-address": {
    step: "pod-address",
    title: "the pod's interface has no address",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_LINK,
    about:
      "Without an address of the destination's family the kernel has nothing to put into the source field.",
  },
  "pod-address-unusable": {
    step: "pod-address",
    title: "the pod's IPv6 address failed duplicate address detection, or still waits for it",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_LINK,
    about:
      "An address with the flag `dadfailed` or `tentative` is not used as a source. Another holder of the address answered, or the link had no carrier while the kernel asked.",
  },
  "duplicate-address": {
    step: "pod-address",
    title: "another pod has the same address",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_ADDRESS,
    about:
      "Answers reach whichever of the two the node's neighbour table names at the moment. Happens when an address is freed while its pod still lives.",
  },
  "pod-ports-exhausted": {
    step: "pod-address",
    title: "the pod's own local ports toward the destination are used up",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_ADDRESS,
    about:
      "Each connection to one destination and port needs a local port of its own out of net.ipv4.ip_local_port_range, and a closed one stays in TIME_WAIT for a minute. Programs see “Cannot assign requested address”.",
  },
  "pod-cannot-send": {
    step: "pod-address",
    title: "the pod's kernel refuses the socket before anything is sent",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_ADDRESS,
    about:
      "The error that the program in the pod would see. A rule in the pod's own OUTPUT, a BPF program of its control group, an address or a buffer that is missing.",
  },
  // ── the pod's route ──
  "pod-rule-captures": {
    step: "pod-route",
    title: "a policy rule in the pod sends what it sends into a table that leads nowhere",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_ADDRESS,
    about:
      "Plugins for second networks, VPN sidecars and routing agents put rules and tables into the pod. Without the rule the packet would get through.",
  },
  "pod-no-route": {
    step: "pod-route",
    title: "the pod has no route to the destination",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [...NO_POD_ADDRESS, "pod-no-carrier", "pod-rule-captures"],
    about:
      "Programs see “Network is unreachable” at once. The bridge plugin sets a default route only for isDefaultGateway, or when the IPAM names routes.",
  },
  "pod-route-refused": {
    step: "pod-route",
    title: "a route in the pod refuses the destination",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [...NO_POD_ADDRESS, "pod-rule-captures"],
    about: "A blackhole, unreachable or prohibit route is more specific than the default route.",
  },
  // ── the gateway ──
  "pod-gateway-unowned": {
    step: "gateway",
    title: "nobody owns the pod's gateway address",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [
      ...NO_CABLE,
      "host-link-not-enslaved",
      "bridge-address-missing",
      "bridge-other-subnet",
      "pod-no-route",
      "pod-rule-captures",
    ],
    about: "The pod's route points to an address that neither the node nor another port of the bridge has.",
  },
  "pod-gateway-silent": {
    step: "gateway",
    title: "the node has the pod's gateway address and does not answer for it",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [...NO_CABLE, "host-link-not-enslaved"],
    about:
      "arp_ignore (of the interface or of `all`, the higher counts) lets an interface answer only for its own addresses, only for askers of the same network, or for nothing. Load balancers with direct return set it for the whole node.",
  },
  "pod-gateway-wrong-mac": {
    step: "gateway",
    title: "the pod has a fixed neighbour entry with a wrong MAC address",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_LINK,
    about:
      "A permanent entry is never asked about again. A bridge without a fixed MAC address takes the lowest of its ports', so it changes as pods come and go.",
  },
  "pod-gateway-unresolved": {
    step: "gateway",
    title: "the pod's gateway did not answer when it was last asked for its MAC address",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [
      ...NO_CABLE,
      "pod-no-carrier",
      "pod-gateway-unowned",
      "pod-gateway-silent",
      "pod-gateway-wrong-mac",
      "host-link-not-enslaved",
      "bridge-address-missing",
      "bridge-other-subnet",
      "bridge-port-blocked",
      "node-neighbour-wrong-mac",
      "duplicate-address",
    ],
    about: "The neighbour entry is FAILED. It is asked again with the next packet.",
  },
  // ── veth and bridge ──
  "host-link-missing": {
    step: "bridge",
    title: "the other end of the pod's veth is not on this node",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_LINK,
    about: "The host end was moved into another namespace, or this is not the node that the pod lives on.",
  },
  "host-link-down": {
    step: "bridge",
    title: "the node's end of the pod's veth is down",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["pod-interface-missing"],
    about: "NetworkManager and networkd take interfaces down that they believe to be theirs.",
  },
  "host-link-not-enslaved": {
    step: "bridge",
    title: "the node's end of the pod's veth is in no bridge",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["pod-interface-missing"],
    about: "Another network manager took it out of the bridge, or the bridge was deleted and made anew.",
  },
  "bridge-down": {
    step: "bridge",
    title: "the bridge is down",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about: "A bridge that is down forwards nothing, and its routes are gone.",
  },
  "bridge-address-missing": {
    step: "bridge",
    title: "the bridge lacks the pods' gateway address",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["bridge-down"],
    about: "Nobody answers when pods ask for their gateway; the route back to them is gone with the address.",
  },
  "bridge-other-subnet": {
    step: "bridge",
    title: "the bridge has an address of another network than the pod's",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["bridge-down"],
    about:
      "The network's range was changed while the bridge stayed. The bridge plugin says “already has an IP address different from …”.",
  },
  "bridge-port-blocked": {
    step: "bridge",
    title: "the pod's bridge port does not forward",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["host-link-down", "bridge-down"],
    about: "The spanning tree protocol (or somebody by hand) has the port in another state than forwarding.",
  },
  "bridge-port-isolated": {
    step: "bridge",
    title: "both bridge ports on the way are isolated from each other",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["host-link-down", "bridge-down"],
    about: "Isolated ports exchange frames only with ports that are not.",
  },
  "bridge-port-locked": {
    step: "bridge",
    title: "the pod's bridge port is locked, and its MAC address is not authorized",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["host-link-down", "bridge-down"],
    about:
      "A locked port (`bridge link set … locked on`, for 802.1X and against spoofing) passes only frames whose source MAC address stands in the forwarding database behind that port.",
  },
  "macvlan-own-host": {
    step: "bridge",
    title: "a macvlan or ipvlan pod cannot reach the host that it sits on",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_LINK,
    about:
      "What such an interface sends goes out by the parent's wire; the kernel does not give it to the parent itself. Only a macvlan of the host on the same parent sees it.",
  },
  "hairpin-off": {
    step: "bridge",
    title: "a published port leads back to the pod itself, and its bridge port may not send frames back",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["host-link-down", "bridge-down"],
    about:
      "With net.bridge.bridge-nf-call-iptables on, the node's address is translated to the pod's before the bridge decides, and a bridge sends no frame out of the port it came by, unless the port's hairpin mode is on (hairpinMode of the bridge plugin). Only the pod itself notices.",
  },
  "bridge-filter-drops": {
    step: "bridge",
    title: "a rule of the bridge family drops the pod's frames",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about: "ebtables or an nft table of family bridge, as anti-spoofing plugins install them.",
  },
  "bridge-netfilter-off": {
    step: "bridge",
    title: "frames between pods of one bridge bypass iptables, although services are translated on this node",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "With net.bridge.bridge-nf-call-iptables off, the answer of a service backend on the same bridge is not translated back, and the client drops it. DNS service addresses are the usual victim.",
  },
  "node-neighbour-wrong-mac": {
    step: "bridge",
    title: "the node has a fixed neighbour entry for the pod with a wrong MAC address",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_LINK,
    about: "Answers are sent to a MAC address that the pod does not have (any more).",
  },
  // ── forwarding ──
  "forwarding-off": {
    step: "forwarding",
    title: "the node does not forward packets",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "net.ipv4.ip_forward (net.ipv6.conf.all.forwarding) is 0. Plugins switch it on once; a later sysctl --system puts back what the files say.",
  },
  "forwarding-off-on-interface": {
    step: "forwarding",
    title: "one interface of the path does not forward",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["forwarding-off"],
    about:
      "The kernel asks the interface on which a packet arrives. Writing ip_forward sets all of them; somebody set this one back.",
  },
  "forwarding-not-persistent": {
    step: "forwarding",
    title: "a settings file switches forwarding off again",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["forwarding-off"],
    about: "Forwarding is on now; the next sysctl --system, or the next boot, will switch it off.",
  },
  "router-advertisement-lost": {
    step: "forwarding",
    title: "the node's IPv6 default route will expire",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "The route came by router advertisement, and an interface that forwards ignores advertisements unless accept_ra is 2.",
  },
  // ── the node's route ──
  "node-no-route": {
    step: "node-route",
    title: "the node has no route to the destination",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["rule-captures", "node-rules-missing"],
    about:
      "The node itself is offline, or has no default route in the table that its rules choose for the pod.",
  },
  "node-route-refused": {
    step: "node-route",
    title: "a route or rule of the node refuses the destination",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["rule-captures"],
    about: "A blackhole, unreachable or prohibit route or rule is more specific than the default route.",
  },
  "node-rules-missing": {
    step: "node-route",
    title: "the node lacks the policy rules that every kernel starts with",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "Without `32766: from all lookup main` the main table is never asked. systemd-networkd has removed rules it did not make (ManageForeignRoutingPolicyRules=).",
  },
  "rule-captures": {
    step: "node-route",
    title:
      "a policy rule sends the pod's packets another way than the node's own, and they get no further there",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["pod-rule-captures"],
    about:
      "A VPN's table, a rule by source or mark, or what an uninstalled product left behind, captures what pods send. Without the rule the packet would get through.",
  },
  "uplink-down": {
    step: "node-route",
    title: "the node's out-interface is down",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["destination-overlap"],
    about: "The interface that the route chose carries nothing.",
  },
  "uplink-gateway-unresolved": {
    step: "node-route",
    title: "the node's own gateway does not answer",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["uplink-enslaved", "uplink-down"],
    about:
      "The neighbour entry of the next hop is FAILED: the layer below, the provider, or a wrong gateway.",
  },
  "ends-on-node": {
    step: "node-route",
    title: "the packet ends on the node instead of where it was sent, and nobody waits for it there",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "The destination is an address of one of the node's own links (kube-proxy's kube-ipvs0, a dummy, a leftover), a REDIRECT or DNAT rule changes it, or a mark and a `local` route lead the packet to a transparent proxy. Without a listener the kernel refuses it.",
  },
  "loopback-destination": {
    step: "node-route",
    title: "a rule sends the packet to the node's loopback, which takes nothing from outside",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "DNAT to 127.0.0.1 in PREROUTING: the kernel drops what comes in for a loopback address (a martian) unless route_localnet is 1 on the interface. That setting opens all that listens on the node's loopback to whoever is behind the interface.",
  },
  "ends-in-pod": {
    step: "pod-route",
    title: "the packet ends in the pod itself, and nobody waits for it there",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_ADDRESS,
    about:
      "A REDIRECT rule of the pod (a service mesh) leads it to a local proxy that does not run, or the destination is the pod's own address.",
  },
  "proxy-without-route": {
    step: "node-route",
    title: "a TPROXY rule takes the packet, and no route brings it to the proxy",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "TPROXY needs a policy rule for its mark and a table with `local default dev lo`. Without them the packet belongs to a socket and would be forwarded, which the kernel refuses.",
  },
  "leg-fails": {
    step: "node-route",
    title: "one next hop of a multipath route leads nowhere",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "The kernel chooses a next hop by a hash of the flow. What it sends by this one fails, the rest works: connections fail now and then, or to some destinations only.",
  },
  "source-unanswered": {
    step: "node-route",
    title: "the uplink's neighbours ask for the source address, and nobody answers",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "A source out of the uplink's own network is not routed to the node: the router asks for its MAC address (ARP, neighbour discovery). The node answers for it only with proxy_arp, or proxy_ndp and a proxy entry for each address.",
  },
  "ttl-exceeded": {
    step: "node-route",
    title: "the packet's TTL runs out",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "A rule sets the TTL (or the pod's ip_default_ttl is small), and the next router may not forward it.",
  },
  "answer-unrecognized": {
    step: "conntrack",
    title: "conntrack does not find the flow for the answer, so that it is not translated back",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "The flow was recorded in another conntrack zone than the answer is looked up in, or a rule of the raw table keeps the answer out of tracking.",
  },
  "conntrack-timeout-short": {
    step: "conntrack",
    title: "the node forgets translated flows sooner than applications send again",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "A translated flow lives in the connection table as long as something is sent within the timeout. Databases, brokers and ssh rest for longer: TCP's own keepalive begins after two hours.",
  },
  "conntrack-not-loose": {
    step: "conntrack",
    title: "connections that conntrack does not know are not picked up, and a rule drops them",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "With nf_conntrack_tcp_loose at 0 a packet in the middle of an unknown connection is invalid. A rule that drops invalid packets then lets the connection hang instead of ending it.",
  },
  "flow-untracked": {
    step: "conntrack",
    title: "a rule keeps the pod's packets out of connection tracking, so that nothing can translate them",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "`notrack` (CT --notrack) in the raw table takes packets away from connection tracking; translation is a part of it.",
  },
  "uplink-gateway-pinned": {
    step: "node-route",
    title: "the node's own gateway has a fixed MAC address, and nobody answers",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["uplink-down"],
    about:
      "A PERMANENT neighbour entry is never asked about again. It is right until the router is replaced, or its address moves to another one (VRRP).",
  },
  "uplink-enslaved": {
    step: "node-route",
    title: "the node's way out is a port of a bridge, and its addresses are still the port's",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["uplink-down"],
    about:
      "A bridge takes all frames that come in by its ports. Answers to ARP requests that left by the port arrive at the bridge, so that no neighbour is ever learned there.",
  },
  "other-links-address": {
    step: "node-route",
    title: "packets leave with the address of another link of the node, and nobody answers",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "The network behind an uplink drops sources that are not its own (BCP 38), or sends the answers to the other uplink.",
  },
  "pod-network-unrouted": {
    step: "node-route",
    title: "the route to another node's part of the pod network is missing",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "Each node's pods have a part of one range, and each node routes the others' parts to them. What has no such route leaves by the default route, behind which nobody knows pods.",
  },
  "network-overlap": {
    step: "node-route",
    title: "the way back to the pod leads elsewhere",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [
      "rule-captures",
      ...NO_CABLE,
      "bridge-address-missing",
      "bridge-other-subnet",
      "host-link-not-enslaved",
    ],
    about:
      "The pods' range overlaps another network that the node knows, and answers are routed there. Another bridge with the same range does it.",
  },
  "destination-overlap": {
    step: "node-route",
    title: "the destination lies in the range of another network of this node",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "A bridge of the node has a range that somebody outside uses, too: what is meant for them ends on the bridge. Docker's and Compose's networks take ranges that offices and VPNs use.",
  },
  // ── reverse path ──
  "reverse-path-filter": {
    step: "reverse-path",
    title: "the reverse path filter drops the packet",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [
      "rule-captures",
      ...NO_CABLE,
      "bridge-address-missing",
      "bridge-other-subnet",
      "host-link-not-enslaved",
    ],
    about:
      "Strict (1): the way to the packet's source must lead out of the interface it came in by. Loose (2): there must be one at all. The larger of conf.all and the interface's own value counts.",
  },
  // ── filters ──
  "filter-rule-drops": {
    step: "filter",
    title: "a filter rule drops or rejects the packet",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "In nf_tables `accept` ends only its own base chain, a drop anywhere is final: an accept of ours cannot help against another table's drop. iptables-legacy is one more such set of tables.",
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
    severity: "warning",
    stopsTraffic: false,
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
      "kube-proxy rejects what is sent to a Service (its cluster address, an external one, a load balancer's) behind which nobody is ready. Its rule is right: the Service is what needs mending.",
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
    title: "the kernel drops the packet, and says why",
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
  // ── NAT ──
  "nat-missing": {
    step: "nat",
    title: "no rule translates the pod's source address",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [
      "flow-untracked",
      "rule-captures",
      "conntrack-missing",
      "destination-overlap",
      "nat-unreachable",
      "nat-mismatch",
      "nat-excluded",
      "nat-program-elsewhere",
      "nat-flushed",
    ],
    about:
      "The packet leaves with a private source address, to which nobody outside has a way back. Rules that were flushed by a firewall's reload are the usual reason.",
  },
  "nat-unreachable": {
    step: "nat",
    title: "the rule that should translate is in a chain that no packet reaches",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["flow-untracked", "rule-captures"],
    about: "The chain has no hook and nothing jumps to it, the hook is another one, or its table is dormant.",
  },
  "nat-mismatch": {
    step: "nat",
    title: "the rule that should translate misses the packet by one condition",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["flow-untracked", "rule-captures", "destination-overlap", "nat-unreachable"],
    about: "An interface was renamed, an address or a network changed, and the rule still names the old one.",
  },
  "nat-excluded": {
    step: "nat",
    title: "an earlier rule excludes the packet from translation",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["flow-untracked", "rule-captures"],
    about:
      "An accept or return before the translating rule, or a list of destinations that keep the pod's address.",
  },
  "nat-flushed": {
    step: "nat",
    title: "the rule that translated the pod's source was there, and is gone",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["flow-untracked", "rule-captures"],
    about:
      "Our own record, or the CNI result cache, says that it was installed. A firewall's reload or `nft flush ruleset` took it away with its own. `wayout doctor --fix` puts ours back as it was.",
  },
  "nat-program-elsewhere": {
    step: "nat",
    title: "a BPF program translates, but not on the interface that the packet leaves by",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["rule-captures"],
    about:
      "Cilium masquerades on the devices it was told of, or found when it started. An uplink that came later, or a route that changed, leads past its program.",
  },
  "hairpin-untranslated": {
    step: "nat",
    title: "a published port leads back to the pod itself with the pod's own source address",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "A packet that comes in with an address of its own is forged for any host, and dropped. What a pod sends to itself over a port of the node must be masqueraded, too (CNI portmap: snat).",
  },
  "nat-foreign-address": {
    step: "nat",
    title: "the source is translated to an address that the node does not have",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["flow-untracked", "rule-captures"],
    about:
      "Answers go to that address, and nobody answers for it. A floating or egress address that moved away.",
  },
  "nat-no-address": {
    step: "nat",
    title: "masquerade finds no address on the out-interface",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["rule-captures", "uplink-down"],
    about: "MASQUERADE takes the interface's own address; without one the kernel drops the packet.",
  },
  "nat-unexpected-address": {
    step: "nat",
    title: "masquerade uses another address than the route names",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["rule-captures"],
    about: "MASQUERADE takes the first address of the out-interface and ignores the route's `src`.",
  },
  "nat-double": {
    step: "nat",
    title: "the source is translated in the pod and again on the node",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about: "Two agents translate the same traffic; what the second one sees is no longer the pod.",
  },
  "nat-against-exclusion": {
    step: "nat",
    title: "one agent leaves a destination untranslated, and another translates it",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "An accept or return ends only the chain it stands in: rules of others behind it are asked as well. Internal services then see the node instead of the pod.",
  },
  "nat-mark-collision": {
    step: "nat",
    title: "two products use the same bit of the packet mark",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "CNI portmap and netavark both take 0x2000 for “masquerade this”; kube-proxy takes 0x4000 and 0x8000.",
  },
  "nat-two-backends": {
    step: "nat",
    title: "iptables-legacy and nf_tables both hold rules",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "Both are asked for every packet, and each can drop it. Tools of one do not show the other's rules.",
  },
  "nat-long-chain": {
    step: "nat",
    title: "a long row of rules is gone through for each new connection",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "Plugins that make a rule for each container make every new connection wait for all of them, and every change rewrite them. Measured: 500 such rules double the cost of a new flow. Sets and maps do not grow so.",
  },
  // ── conntrack ──
  "conntrack-full": {
    step: "conntrack",
    title: "the connection tracking table is full",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about: "New connections are dropped (“nf_conntrack: table full, dropping packet”).",
  },
  "conntrack-nearly-full": {
    step: "conntrack",
    title: "the connection tracking table is nearly full",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["conntrack-full"],
    about: "Above 80 % of nf_conntrack_max.",
  },
  "conntrack-missing": {
    step: "conntrack",
    title: "this kernel tracks no connections",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "Translation needs conntrack. The modules are missing, or the machine (gVisor, a minimal kernel) refuses them.",
  },
  "flow-address-lost": {
    step: "conntrack",
    title: "a flow of the pod is still translated to an address that the node no longer has",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["nat-foreign-address"],
    about:
      "The address of a flow is decided with its first packet. SNAT keeps it when the node's address changes (MASQUERADE's flows are forgotten then), and a UDP socket that goes on sending keeps the flow alive.",
  },
  "flow-outdated": {
    step: "conntrack",
    title: "a flow of the pod is tracked since before the rules, or since an earlier pod with its address",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["flow-address-lost"],
    about:
      "What the rules say now does not reach a flow that is tracked already: it stays untranslated, or goes on to a backend that is gone. UDP is where it happens, since its flows live as long as somebody sends.",
  },
  "conntrack-stale-translation": {
    step: "conntrack",
    title: "other connections are still translated to an address that the node no longer has",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["flow-address-lost", "nat-foreign-address"],
    about: "SNAT keeps a flow's address for as long as the flow lives; their answers go nowhere.",
  },
  "conntrack-insert-failed": {
    step: "conntrack",
    title: "connections fail to be recorded while the doctor looks",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "Two packets raced for one entry: A and AAAA queries from one socket, or two flows for one port. Seen as DNS that takes five seconds.",
  },
  "conntrack-dropping": {
    step: "conntrack",
    title: "conntrack drops packets while the doctor looks",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["conntrack-full"],
    about: "Entries could not be made, or assured connections had to go early.",
  },
  "ports-exhausted": {
    step: "conntrack",
    title: "the source ports toward one destination are used up",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about: "Each translated flow to one destination and port needs a source port of its own.",
  },
  "ports-nearly-exhausted": {
    step: "conntrack",
    title: "the source ports toward one destination are nearly used up",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["ports-exhausted"],
    about: "Above 80 % of the range.",
  },
  // ── sizes ──
  "mtu-too-large": {
    step: "mtu",
    title: "the pod's MTU is larger than the path's",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["rule-captures", ...NO_POD_LINK, "mtu-black-hole"],
    about: "Large packets need “fragmentation needed” messages to come back to the pod.",
  },
  "mtu-black-hole": {
    step: "mtu",
    title: "small packets pass and large ones are lost, and nobody tells the pod",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_LINK,
    about:
      "A router that cannot pass a large packet on says “fragmentation needed” (IPv6: “packet too big”) to its sender. Where that message is dropped, requests work and transfers hang. A rule on the node that drops it is found in the tables; one elsewhere by pings of several sizes, which are only sent with --to.",
  },
  "checksum-errors": {
    step: "mtu",
    title: "packets with wrong checksums arrive while the doctor looks",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["rule-captures"],
    about: "Checksum offload on veth or vxlan that nobody completes.",
  },
  // ── DNS ──
  "resolver-loopback": {
    step: "dns",
    title: "the pod's resolver points to its own loopback, where nobody listens",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "The node's resolv.conf (127.0.0.53 of systemd-resolved) was copied into the pod. kubelet takes --resolv-conf=/run/systemd/resolve/resolv.conf.",
  },
  "resolver-unreachable": {
    step: "dns",
    title: "the pod cannot reach its name server",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about: "Addresses work, names do not. The path to each name server is followed on its own.",
  },
  "resolver-missing": {
    step: "dns",
    title: "the pod has a resolv.conf without a name server",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about: "The C library then asks 127.0.0.1.",
  },
  "ipv6-preferred": {
    step: "dns",
    title: "the pod prefers IPv6, and its IPv6 goes nowhere",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "Programs try the IPv6 address first and wait. Give the pod a way, or take its IPv6 default route.",
  },
  // ── housekeeping ──
  "rules-leaked": {
    step: "housekeeping",
    title: "rules of containers that are gone are still there",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about: "Every new connection passes them. The plugin's GC, or its DEL, was not called or failed.",
  },
  "stopped-elsewhere": {
    step: "filter",
    title: "the packet is stopped, for a reason that is on no list",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about: "Where it was last seen, and what the kernel said about it.",
  },
  "request-unanswered": {
    step: "filter",
    title: "the connection is made, and the request over it is not answered",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about: "A slow server, or larger packets that are lost.",
  },
  "pod-silent": {
    step: "filter",
    title: "what comes from outside is delivered to the pod, and the pod does not answer",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about: "No program listens on that port in the pod. Only `wayout trace --listen` finds it.",
  },
  "no-answer": {
    step: "filter",
    title: "the packet left the node, and nobody answered",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "It was seen leaving, and nothing on the node explains the silence. A security group, a provider's filter, a proxy that must be used, or the other side itself.",
  },
} as const satisfies Readonly<Record<string, CatalogueEntry>>;

/** The name of a cause: of what the doctor finds, and of what ends a traced packet. */
export type CauseCode = keyof typeof CATALOGUE;
export type FindingCode = CauseCode;

/** The entry of a code, with its plain type. */
export function entryOf(code: FindingCode): CatalogueEntry {
  return CATALOGUE[code];
}

/** All codes that hide this one while they stand, directly or through others. */
export function causesOf(code: FindingCode): ReadonlySet<string> {
  const causes = new Set<string>();
  const visit = (one: string): void => {
    for (const cause of entryOf(one as FindingCode).dependsOn) {
      if (causes.has(cause)) continue;
      causes.add(cause);
      visit(cause);
    }
  };
  visit(code);
  return causes;
}
