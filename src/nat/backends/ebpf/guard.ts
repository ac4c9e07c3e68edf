/**
 * What would leave untranslated by a link that has none of our programs (one that came later, or was made anew) is
 * dropped: a filter in a table of our own, which asks for the same sources and destinations as the nftables backend's.
 *
 *     table inet wayout-guard {
 *       set hooked { type iface_index; elements = { … } }    # by number: a link that is made anew has another one
 *       …                                                    # untranslated4, egress4 … as nftables/ruleset.ts has them
 *       chain unhooked { counter drop }
 *       chain forward {
 *         type filter hook forward priority filter + 10; policy accept;
 *         meta oif @hooked return
 *         …
 *         ip saddr vmap @egress4                             # 10.88.0.0/16 : goto unhooked
 *       }
 *     }
 *
 * What the node itself sends has no pod's address, and is not asked about. Nothing here is of type nat, and no connection is
 * tracked for it.
 */
import { Nftables } from "../../../kernel/nftables/nftables.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { addTable, destroyTable, type ElementSpec } from "../../../linux/nftables/commands.ts";
import { HOOK_PRIORITY } from "../../../linux/netfilter.ts";
import { counter, drop, inSet, match, returns } from "../../../linux/nftables/rule-builder.ts";
import type { NatDrift } from "../../backend.ts";
import type { NatIntent } from "../../intent.ts";
import { compareTable } from "../nftables/drift.ts";
import { CLAIMS } from "../nftables/names.ts";
import { isSnat } from "../nftables/drop-table.ts";
import { tableOf, type WantedSet, type WantedTable } from "../nftables/ruleset.ts";
import { GUARD } from "./names.ts";
import { contentsOf } from "../nftables/contents.ts";

const DROPS = "unhooked";

/** @param hooked indexes of the links that have our programs */
export function guardDrifts(
  namespace: NetworkNamespace,
  intents: readonly NatIntent[],
  hooked: readonly number[],
): NatDrift[] {
  using nftables = Nftables.open(namespace);
  return compareTable(guardTable(intents, hooked), nftables.table(GUARD), GUARD);
}

/** Puts it in the place of what is there, in one transaction. */
export function writeGuard(
  namespace: NetworkNamespace,
  intents: readonly NatIntent[],
  hooked: readonly number[],
): void {
  const wanted = guardTable(intents, hooked);
  using nftables = Nftables.open(namespace);
  nftables.transaction(
    [...destroyTable(GUARD), addTable(GUARD), ...contentsOf(GUARD, wanted)],
    "writing the guard of links without our programs",
  );
}

/** False when there was none. */
export function removeGuard(namespace: NetworkNamespace): boolean {
  using nftables = Nftables.open(namespace);
  if (nftables.table(GUARD) === undefined) return false;
  nftables.transaction(destroyTable(GUARD), "removing the guard of links without our programs");
  return true;
}

function guardTable(intents: readonly NatIntent[], hooked: readonly number[]): WantedTable {
  const { sets, chains } = tableOf(intents);
  const asked = sets.filter(({ spec }) => spec.set !== CLAIMS.set && !isSnat(spec.set)).map(guarded);
  const postrouting = chains.find(({ base }) => base !== undefined)!;
  return {
    sets: [
      {
        spec: { ...GUARD, set: "hooked", type: "iface_index" },
        elements: hooked.map((key) => ({ key })),
      },
      ...asked,
    ],
    chains: [
      { name: DROPS, rules: [[counter(), drop()]] },
      {
        name: "forward",
        base: { type: "filter", hook: "forward", priority: HOOK_PRIORITY.filter + 10, policy: "accept" },
        // The first rule there lets loopback go; nothing is forwarded to it.
        rules: [[...match("meta oif", inSet("hooked")), returns()], ...postrouting.rules.slice(1)],
      },
    ],
  };
}

/** The same set here; what would be translated is dropped. */
function guarded({ spec, elements }: WantedSet): WantedSet {
  return {
    spec: { ...spec, ...GUARD },
    elements: elements.map((element): ElementSpec =>
      element.data === undefined ? element : { ...element, data: { verdict: "goto", chain: DROPS } },
    ),
  };
}
