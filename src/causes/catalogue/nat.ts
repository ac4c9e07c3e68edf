/** What can be wrong with: NAT. */
import type { CatalogueEntry } from "../steps.ts";
import { NO_POD_ADDRESS, POD_SENDS_AMISS } from "./hides.ts";

export const NAT = {
  "nat-missing": {
    step: "nat",
    title: "no rule translates the pod's source address",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [
      ...POD_SENDS_AMISS,
      "flow-untracked",
      "rule-captures",
      "route-captures",
      "conntrack-missing",
      "destination-overlap",
      "nat-unreachable",
      "nat-mismatch",
      "nat-excluded",
      "nat-program-elsewhere",
      "nat-program-detached",
      "nat-flushed",
    ],
    about:
      "The packet leaves with a private source address, to which no router outside has a route. Rules that were flushed by a firewall's reload are the usual reason.",
  },
  "nat-unreachable": {
    step: "nat",
    title: "the rule that should translate is in a chain that no packet reaches",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["flow-untracked", "rule-captures", "route-captures"],
    about: "The chain has no hook and nothing jumps to it, the hook is another one, or its table is dormant.",
  },
  "nat-mismatch": {
    step: "nat",
    title: "the rule that should translate misses the packet by one condition",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [
      ...POD_SENDS_AMISS,
      "flow-untracked",
      "rule-captures",
      "route-captures",
      "destination-overlap",
      "nat-unreachable",
    ],
    about: "An interface was renamed, an address or a network changed, and the rule still names the old one.",
  },
  "nat-excluded": {
    step: "nat",
    title: "an earlier rule excludes the packet from translation",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [...POD_SENDS_AMISS, "flow-untracked", "rule-captures", "route-captures"],
    about:
      "An accept or return before the translating rule, or a list of destinations that keep the pod's address.",
  },
  "nat-flushed": {
    step: "nat",
    title: "the rule that translated the pod's source was there, and is gone",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [...POD_SENDS_AMISS, "flow-untracked", "rule-captures", "route-captures"],
    about:
      "Our own record, or the CNI result cache, says that it was installed. A firewall's reload or `nft flush ruleset` took it away with its own. `wayout doctor --fix` puts ours back as it was.",
  },
  "nat-program-elsewhere": {
    step: "nat",
    title: "a BPF program translates, but not on the interface that the packet leaves by",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["rule-captures", "route-captures"],
    about:
      "Cilium masquerades on the devices it was told of, or found when it started. An uplink that came later, or a route that changed, leads past its program.",
  },
  "nat-program-detached": {
    step: "nat",
    title: "our eBPF program is not attached to the link by which the packet leaves",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["rule-captures", "route-captures"],
    about:
      "The backend `ebpf` translates at the egress and the ingress of the links. One of the two was detached, or the link came later and no agent runs.",
  },
  "nat-program-full": {
    step: "nat",
    title: "our eBPF programs have dropped packets for want of room or of a free port",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "Counted since the programs were loaded. A connection that has no record is never let out with the pod's address.",
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
    dependsOn: [...POD_SENDS_AMISS, "flow-untracked", "rule-captures", "route-captures"],
    about:
      "Answers go to that address, and the node does not take them. For example a floating or egress address that moved to another node.",
  },
  "pod-nat-foreign-address": {
    step: "nat",
    title: "the pod's own rule translates its source to an address that leads nowhere",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_ADDRESS,
    about:
      "A VPN's side car translates to its tunnel's address. Where such packets leave by the pod's usual link (the tunnel is gone, or a route leads past it), the node does not know the address: it neither translates it nor finds the way back.",
  },
  "nat-no-address": {
    step: "nat",
    title: "masquerade finds no address on the out-interface",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["rule-captures", "route-captures", "uplink-down"],
    about: "MASQUERADE takes the interface's own address; without one the kernel drops the packet.",
  },
  "nat-dropped": {
    step: "nat",
    title: "our own rules drop what the pod sends outside, as its owner wants it",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["rule-captures", "route-captures"],
    about:
      "A policy with `drop: true`, or a namespace whose egress address (`wayout.dev/egress-address`) is not on this node, not granted to it, or not known yet. It never leaves under another address instead.",
  },
  "nat-unexpected-address": {
    step: "nat",
    title: "masquerade uses another address than the route names",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["rule-captures", "route-captures"],
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
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
