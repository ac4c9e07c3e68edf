/** What can be wrong with: forwarding. */
import type { CatalogueEntry } from "../steps.ts";

export const FORWARDING = {
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
      "The kernel asks the interface on which a packet arrives. Writing ip_forward sets all of them; this one was set back afterwards.",
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
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
