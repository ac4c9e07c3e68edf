/** What agents left behind. */
import type { Table } from "../../linux/nftables/ruleset.ts";
import { isIptablesTable } from "../../linux/nftables/text/ruleset.ts";
import { ownerOf } from "../../rules/owner.ts";
import { commentOf } from "../../rules/rule-comment.ts";
import { finding, ofNode, type Check, type CheckContext } from "../check.ts";
import type { Finding } from "../finding.ts";
import type { HookTable } from "../predict/hooks.ts";

/** Fewer than this are nobody's trouble. */
const MANY = 20;

export const housekeeping: Check = {
  step: "housekeeping",
  codes: ["rules-leaked"],
  run: ofNode(leaked),
};

/**
 * Rules that name a container which does not live here. Only told when everybody's containers are known and some of them
 * have such rules: a runtime that calls its containers otherwise leaves none of its names here.
 */
function leaked(context: CheckContext): Finding[] {
  const found = unknownContainers(context);
  if (found === undefined) return [];
  const { all, containers } = found;
  if (containers.length < MANY || containers.length === all.size) return [];
  return [
    finding("rules-leaked", {
      text: `rules of ${containers.length} containers that are not, or no longer, pods of this node`,
      owner: "the CNI plugins",
      evidence: [{ source: "comments of rules", value: containers.slice(0, 3).join(", ") }],
      consequence: "every new connection is compared with all of them",
      advice: ["let the runtime call the plugins' GC (CNI 1.1)"],
      confidence: "possible",
    }),
  ];
}

function unknownContainers(context: CheckContext) {
  const living = context.snapshot.containers;
  if (living === undefined) return undefined;
  const all = namedContainers(context);
  return { all, containers: [...all].filter((name) => !living.some((id) => id.startsWith(name))) };
}

/** How many containers the rules' comments name, and how many of those are none of this node; undefined: not known. */
export function containersInRules(
  context: CheckContext,
): { readonly named: number; readonly unknown: number } | undefined {
  const found = unknownContainers(context);
  return found && { named: found.all.size, unknown: found.containers.length };
}

/** Each ruleset is gone through once, however many pods are judged. */
const named = new WeakMap<HookTable, ReadonlySet<string>>();

/** Containers that rules' comments name. */
function namedContainers({ node }: CheckContext): ReadonlySet<string> {
  let containers = named.get(node.hooks);
  if (containers === undefined) named.set(node.hooks, (containers = readNames(node.hooks.tables)));
  return containers;
}

function readNames(tables: readonly Table[]): ReadonlySet<string> {
  const containers = new Set<string>();
  for (const table of tables) {
    // Only iptables has its comments among the expressions, which take time to decode.
    const ofIptables = isIptablesTable(table);
    for (const chain of table.chains) {
      for (const rule of chain.rules) {
        const comment = ofIptables ? commentOf(rule) : rule.comment;
        if (comment === undefined) continue;
        const { family, name } = table;
        const owner = ownerOf({ family, table: name, chain: chain.name, comment, text: "" });
        const container = /container (\S+)/.exec(owner?.detail ?? "")?.[1];
        if (container !== undefined) containers.add(container);
      }
    }
  }
  return containers;
}
