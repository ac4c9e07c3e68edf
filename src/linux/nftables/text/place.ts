/** How the place of a rule is called. */
import type { Chain, Rule, Table } from "../ruleset.ts";

type Named<T extends { readonly name: string }> = Pick<T, "name">;

/** `ip filter FORWARD`, inside a sentence. */
export function chainText(table: Pick<Table, "family" | "name">, chain: Named<Chain>): string {
  return `${table.family} ${table.name} ${chain.name}`;
}

/** `table ip filter chain FORWARD handle 7`: as nft's own commands have it. */
export function placeText(table: Pick<Table, "family" | "name">, chain: Named<Chain>, rule?: Rule): string {
  const handle = rule === undefined || rule.handle === 0 ? "" : ` handle ${rule.handle}`;
  return `table ${table.family} ${table.name} chain ${chain.name}${handle}`;
}
