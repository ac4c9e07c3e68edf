/** What can be wrong with: the pod's interface. */
import type { CatalogueEntry } from "../steps.ts";

export const POD_LINK = {
  "pod-namespace-gone": {
    step: "pod-link",
    title: "the pod has no network namespace any more",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "The name is still there, but the namespace is gone or may not be entered. A sandbox that was recreated, or a mount that got lost, leaves such names.",
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
      "A program or a command set it down. The kernel then also removed every route that used it: setting the interface up is not enough, the default route must be added again.",
  },
  "pod-no-carrier": {
    step: "pod-link",
    title: "the pod's interface has no carrier",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [
      "pod-link-down",
      "host-link-down",
      "host-link-missing",
      "pod-interface-missing",
      "pod-route-captures",
    ],
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
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
