/** What can be wrong with: reverse path. */
import type { CatalogueEntry } from "../steps.ts";
import { NO_WAY_BACK } from "./hides.ts";

export const REVERSE_PATH = {
  "source-is-local": {
    step: "reverse-path",
    title: "the packet's source is an address of its own receiver",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["rule-captures"],
    about:
      "Nothing may come in with an address that the kernel has itself: a link of the node was given a pod's address, or a table calls it local.",
  },
  "reverse-path-filter": {
    step: "reverse-path",
    title: "the reverse path filter drops the packet",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_WAY_BACK,
    about:
      "Strict (1): the way to the packet's source must lead out of the interface it came in by. Loose (2): there must be one at all. The larger of conf.all and the interface's own value counts.",
  },
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
