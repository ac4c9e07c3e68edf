/** What can be wrong with: housekeeping. */
import type { CatalogueEntry } from "../steps.ts";

export const HOUSEKEEPING = {
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
    title: "the packet left the node, and no answer came",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "It was seen leaving, and nothing on the node explains the silence. A security group, a provider's filter, a proxy that must be used, or the other side itself.",
  },
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
