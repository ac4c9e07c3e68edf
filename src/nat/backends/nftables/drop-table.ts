/**
 * What shall be dropped, for backends that cannot drop themselves: iptables' nat table takes no DROP, and eBPF programs at a link
 * would do it too late to be seen by `nft`. A filter in a table of nf_tables that is there only while an owner wants it:
 *
 *     table inet wayout-drop {
 *       …                                # untranslated4, egress4 … as ruleset.ts has them, less what is not dropped
 *       chain drop { ct direction original counter drop }    # answers to who asked from outside leave
 *       chain postrouting {
 *         type filter hook postrouting priority filter; policy accept;    # before any rule translates the source
 *         oiftype loopback return
 *         ip saddr . ip daddr @untranslated4 return
 *         ip saddr vmap @egress4         # 10.88.0.7/32 : goto drop
 *       }
 *     }
 */
import { HOOK_PRIORITY } from "../../../linux/netfilter.ts";
import { Nftables } from "../../../kernel/nftables/nftables.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { addTable, destroyTable, type ElementSpec } from "../../../linux/nftables/commands.ts";
import type { TableRef } from "../../../linux/nftables/ruleset.ts";
import type { NatDrift } from "../../backend.ts";
import type { NatIntent } from "../../intent.ts";
import { compareTable } from "./drift.ts";
import { CLAIMS, DROP_CHAIN } from "./names.ts";
import { tableOf, type WantedSet, type WantedTable } from "./ruleset.ts";
import { contentsOf } from "./contents.ts";

export function wantsDrops(intents: readonly NatIntent[]): boolean {
  return intents.some(({ sources }) => sources.some(({ translation }) => translation.drop === true));
}

/** @param before what was wanted until now: only where it or what is wanted drops anything is there something to compare */
export function dropDrifts(
  namespace: NetworkNamespace,
  ref: TableRef,
  intents: readonly NatIntent[],
  before: readonly NatIntent[],
): NatDrift[] {
  const wants = wantsDrops(intents);
  if (!wants && !wantsDrops(before)) return [];
  using nftables = Nftables.open(namespace);
  const found = nftables.table(ref);
  if (wants) return compareTable(dropTable(ref, intents), found, ref);
  const object = `table ${ref.family} ${ref.table}`;
  return found === undefined ? [] : [{ object, expected: "missing", found: "there, and no owner needs it" }];
}

/** Puts it in the place of what is there, in one transaction; nothing where nobody wants a drop. */
export function writeDrops(namespace: NetworkNamespace, ref: TableRef, intents: readonly NatIntent[]): void {
  const wanted = wantsDrops(intents) ? [addTable(ref), ...contentsOf(ref, dropTable(ref, intents))] : [];
  using nftables = Nftables.open(namespace);
  nftables.transaction([...destroyTable(ref), ...wanted], "writing the rules that drop what shall not leave");
}

function dropTable(ref: TableRef, intents: readonly NatIntent[]): WantedTable {
  const { sets, chains } = tableOf(intents);
  const postrouting = chains.find(({ base }) => base !== undefined)!;
  return {
    sets: sets
      .filter(({ spec }) => spec.set !== CLAIMS.set && !isSnat(spec.set))
      .map((set) => dropping(ref, set)),
    chains: [
      chains.find(({ name }) => name === DROP_CHAIN)!,
      { ...postrouting, base: { ...postrouting.base!, type: "filter", priority: HOOK_PRIORITY.filter } },
    ],
  };
}

/** Fixed addresses are of no interest to what is dropped. */
export function isSnat(set: string): boolean {
  return /^(entered-|node-)?snat/.test(set);
}

/** The same set here, with only those sources that are dropped: whom a map does not hold passes. */
function dropping(ref: TableRef, { spec, elements }: WantedSet): WantedSet {
  const drops = ({ data }: ElementSpec): boolean =>
    data === undefined || (typeof data === "object" && "chain" in data && data.chain === DROP_CHAIN);
  return { spec: { ...spec, ...ref }, elements: elements.filter(drops) };
}
