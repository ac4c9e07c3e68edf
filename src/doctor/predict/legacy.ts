/** iptables-legacy tables as nf_tables knows tables, so that one evaluator serves both. */
import type { Table } from "../../kernel/nftables/ruleset.ts";
import type { NamespaceState } from "../../snapshot/snapshot.ts";

export function legacyTables(_legacy: NamespaceState["legacy"]): readonly Table[] {
  return [];
}
