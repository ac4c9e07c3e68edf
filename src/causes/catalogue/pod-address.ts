/** What can be wrong with: the pod's address. */
import type { CatalogueEntry } from "../steps.ts";
import { NO_POD_ADDRESS, NO_POD_LINK } from "./hides.ts";

export const POD_ADDRESS = {
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
    title: "the pod's IPv6 address failed duplicate address detection, still waits for it, or is deprecated",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_LINK,
    about:
      "An address with the flag `dadfailed` or `tentative` is not used as a source. Another holder of the address answered, or the link had no carrier while the kernel asked. One that is deprecated is used only for want of another, be that a unique local one.",
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
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
