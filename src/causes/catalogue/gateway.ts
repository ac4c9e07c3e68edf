/** What can be wrong with: the gateway. */
import type { CatalogueEntry } from "../steps.ts";
import { NO_POD_LINK, NO_VETH } from "./hides.ts";

export const GATEWAY = {
  "pod-gateway-unowned": {
    step: "gateway",
    title: "no interface has the pod's gateway address",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [
      ...NO_VETH,
      "host-link-not-enslaved",
      "bridge-address-missing",
      "bridge-other-subnet",
      "pod-no-route",
      "pod-rule-captures",
      "pod-route-captures",
    ],
    about: "The pod's route points to an address that neither the node nor another port of the bridge has.",
  },
  "pod-gateway-silent": {
    step: "gateway",
    title: "the node has the pod's gateway address and does not answer for it",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [...NO_VETH, "host-link-not-enslaved"],
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
      ...NO_VETH,
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
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
