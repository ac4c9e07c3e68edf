/** Who decides about a packet, and how the place of a rule is called. */
import type { BaseChain, Chain, Rule, Table } from "../../linux/nftables/ruleset.ts";

/** Who decided: a rule, or a base chain's policy. */
export interface Decision {
  readonly table: Table;
  /** The chain that the rule stands in. */
  readonly chain: Chain;
  readonly base: Chain & { readonly base: BaseChain };
  /** Absent when the policy decided. */
  readonly rule?: Rule;
  /** What the rule did besides its verdict: `masquerade`, `reject with tcp reset`. */
  readonly action?: string;
}

/** `table ip filter chain FORWARD handle 7`: how people and nft call the place of a rule. */
export function placeText(table: Table, chain: Chain, rule?: Rule): string {
  const handle = rule === undefined || rule.handle === 0 ? "" : ` handle ${rule.handle}`;
  return `table ${table.family} ${table.name} chain ${chain.name}${handle}`;
}
