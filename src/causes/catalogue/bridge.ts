/** What can be wrong with: veth and bridge. */
import type { CatalogueEntry } from "../steps.ts";
import { NO_POD_LINK, POD_SENDS_AMISS } from "./hides.ts";

export const BRIDGE = {
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
    dependsOn: ["bridge-down", "pod-route-captures"],
    about:
      "Pods ask for their gateway's MAC address and get no answer. The route back to them is gone with the address.",
  },
  "bridge-other-subnet": {
    step: "bridge",
    title: "the bridge has an address of another network than the pod's",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["bridge-down", "pod-route-captures"],
    about:
      "The network's range was changed while the bridge stayed. The bridge plugin says “already has an IP address different from …”.",
  },
  "bridge-port-blocked": {
    step: "bridge",
    title: "the pod's bridge port does not forward",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["host-link-down", "bridge-down"],
    about: "The spanning tree protocol, or a command, has the port in another state than forwarding.",
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
  "bridge-port-deaf": {
    step: "bridge",
    title: "the bridge gives the pod's frames to another port, or to none",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "A bridge delivers by its forwarding database, and floods where an address is not in it. A fixed entry, or a second sender with the same MAC address, leads to another port; with learning and flooding both off the address is never found.",
  },
  "macvlan-deaf": {
    step: "bridge",
    title: "a macvlan in source mode takes frames of listed senders only",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "In mode source the kernel gives a macvlan only frames whose sender stands in its list (ip link set macvlan add). The gateway must stand there, too.",
  },
  "macvlan-own-host": {
    step: "bridge",
    title: "a macvlan or ipvlan pod cannot reach its own host",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_LINK,
    about:
      "What such an interface sends leaves by the parent interface; the kernel does not deliver it to the parent itself. Only a macvlan of the host on the same parent sees it.",
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
  "pod-neighbour-unresolved": {
    step: "bridge",
    title: "the pod does not answer when the node asks for its MAC address",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [
      ...POD_SENDS_AMISS,
      "filter-rule-drops",
      "filter-policy-drops",
      "bridge-filter-drops",
      "bridge-port-deaf",
    ],
    about:
      "Answers reach the node and wait there for the pod's MAC address (ARP, neighbour discovery). arp_ignore in the pod, or a rule that drops ARP, keeps it silent.",
  },
  "node-neighbour-wrong-mac": {
    step: "bridge",
    title: "the node has a fixed neighbour entry for the pod with a wrong MAC address",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_LINK,
    about: "Answers are sent to a MAC address that the pod does not have, or no longer has.",
  },
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
