/** What can be wrong with: DNS. */
import type { CatalogueEntry } from "../steps.ts";

export const DNS = {
  "resolver-loopback": {
    step: "dns",
    title: "the pod's resolver is an address of its own loopback, where no program listens",
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
    title: "the pod prefers IPv6, and its IPv6 packets do not get out",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "Programs try the IPv6 address first and wait until it fails. Give the pod a working IPv6 way out, or delete its IPv6 default route.",
  },
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
