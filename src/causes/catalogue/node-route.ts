/** What can be wrong with: the node's route. */
import type { CatalogueEntry } from "../steps.ts";
import { NO_POD_ADDRESS, NO_POD_LINK, NO_WAY_BACK } from "./hides.ts";

export const NODE_ROUTE = {
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
  "route-captures": {
    step: "node-route",
    title: "a route sends the packet to where it stops, and another route would deliver it",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["rule-captures", "destination-overlap"],
    about:
      "A second uplink's default route with the better metric, or what a VPN left behind for a single destination, stands before the route that works.",
  },
  "node-route-inward": {
    step: "node-route",
    title: "the node's route leads back to the link that the pod's packets came by",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["rule-captures", "node-no-route"],
    about:
      "The node gives what pods send to a pod of the same network, which then has to route and to translate it.",
  },
  "link-noarp": {
    step: "node-route",
    title: "ARP is off on a link that needs it",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_LINK,
    about:
      "With NOARP (`ip link set LINK arp off`) the kernel asks for no MAC address and answers no request: frames for the next hop are addressed to the link itself.",
  },
  "uplink-down": {
    step: "node-route",
    title: "the node's out-interface is down",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["destination-overlap", "route-captures", "leg-fails"],
    about: "The interface that the route chose carries nothing.",
  },
  "uplink-gateway-unresolved": {
    step: "node-route",
    title: "the next hop of the node's route does not answer",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["uplink-enslaved", "uplink-down", "route-captures", "destination-overlap", "leg-fails"],
    about:
      "The neighbour entry of the next hop is FAILED: the layer below, the provider, or a wrong gateway.",
  },
  "ends-on-node": {
    step: "node-route",
    title: "the packet is delivered to the node instead of its destination, and no program listens there",
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
      "DNAT to 127.0.0.1 in PREROUTING: the kernel drops what comes in for a loopback address (a martian) unless route_localnet is 1 on the interface. That setting opens all that listens on the node's loopback to every host behind the interface.",
  },
  "ends-in-pod": {
    step: "pod-route",
    title: "the packet is delivered to the pod itself, and no program listens there",
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
  "leg-passed-over": {
    step: "node-route",
    title: "one next hop of a multipath route is out of use",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "The kernel sends nothing to a next hop whose neighbour it knows not to answer, where the route is made of nexthop objects, or net.ipv4.fib_multipath_use_neigh is 1. The others take all flows.",
  },
  "source-unanswered": {
    step: "node-route",
    title: "the uplink's neighbours ask for the source address, and the node does not answer",
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
    title: "the node's own gateway has a fixed MAC address, and no answer comes",
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
    title: "packets leave with the address of another link of the node, and no answer comes",
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
      "Each node's pods have a part of one range, and each node routes the others' parts to them. What has no such route leaves by the default route, and the routers there have no route to pods. Answers need one on the other node as well.",
  },
  "network-overlap": {
    step: "node-route",
    title: "the way back to the pod leads elsewhere",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_WAY_BACK,
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
      "A bridge of the node has a range that hosts outside use, too: packets for those hosts go to the bridge. Docker's and Compose's networks take ranges that offices and VPNs use.",
  },
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
