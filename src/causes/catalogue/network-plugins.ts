/** What can be wrong with: the programs that container runtimes execute to connect a pod. */
import type { CatalogueEntry } from "../steps.ts";

export const NETWORK_PLUGINS = {
  "plugin-missing": {
    step: "housekeeping",
    title: "a CNI plugin that the node's network needs is not where the runtime looks for it",
    severity: "error",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "No new pod starts, and none is taken down cleanly: the runtime says `failed to find plugin … in path`. Pods that run keep their way out.",
  },
  "plugin-unusable": {
    step: "housekeeping",
    title: "a CNI plugin that the node's network needs cannot be executed",
    severity: "error",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "Its file is damaged, made for another kind of processor, or may not be executed. No new pod starts; pods that run keep their way out.",
  },
  "plugin-of-another-build": {
    step: "housekeeping",
    title: "the plugin wayout is not the one of this program",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about: "After an update of wayout the plugin has to be put in place once more: `wayout cni install`.",
  },
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
