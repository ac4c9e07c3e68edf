/** What can be wrong with: the pod's route. */
import type { CatalogueEntry } from "../steps.ts";
import { NO_POD_ADDRESS } from "./hides.ts";

export const POD_ROUTE = {
  "pod-rule-captures": {
    step: "pod-route",
    title: "a policy rule in the pod selects a routing table that leads nowhere",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_ADDRESS,
    about:
      "Plugins for second networks, VPN sidecars and routing agents put rules and tables into the pod. Without the rule the packet would get through.",
  },
  "pod-route-captures": {
    step: "pod-route",
    title: "a route of the pod leads to where packets stop, and another one would carry them",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["pod-rule-captures"],
    about:
      "A VPN's two halves of the world (0.0.0.0/1 and 128.0.0.0/1) whose tunnel is gone, or the default route of a second network with the better metric and no router.",
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
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
