/** What agents left behind. */
import { ownerOf } from "../../nat/owner.ts";
import { finding, type Check, type CheckContext } from "../check.ts";
import type { Finding } from "../finding.ts";

/** Fewer than this are nobody's trouble. */
const MANY = 20;

export const housekeeping: Check = {
  step: "housekeeping",
  codes: ["rules-leaked"],
  run: leaked,
};

/** Rules that name a container which is none of the node's pods. Only told when the snapshot holds all pods. */
function leaked(context: CheckContext): Finding[] {
  const known = new Set(context.snapshot.pods.flatMap((pod) => [pod.name, ...pod.aliases]));
  const containers = new Set<string>();
  for (const table of context.node.hooks.tables) {
    for (const chain of table.chains) {
      for (const { comment } of chain.rules) {
        if (comment === undefined) continue;
        const owner = ownerOf({
          family: table.family,
          table: table.name,
          chain: chain.name,
          comment,
          text: "",
        });
        const container = /container (\S+)/.exec(owner?.detail ?? "")?.[1];
        if (container !== undefined && ![...known].some((name) => name.startsWith(container)))
          containers.add(container);
      }
    }
  }
  if (containers.size < MANY) return [];
  return [
    finding("rules-leaked", {
      text: `rules of ${containers.size} containers that are no pods of this node (any more)`,
      owner: "the CNI plugins",
      evidence: [{ source: "comments of rules", value: [...containers].slice(0, 3).join(", ") }],
      consequence: "every new connection is compared with all of them",
      advice: ["let the runtime call the plugins' GC (CNI 1.1)"],
      confidence: "possible",
    }),
  ];
}
