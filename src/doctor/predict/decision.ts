/** Who decides about a packet. */
import type { BaseChain, Chain, Rule, Table } from "../../linux/nftables/ruleset.ts";

/** Who decided: a rule, or a base chain's policy. */
export interface Decision {
  readonly table: Table;
  /** The chain that the rule stands in. */
  readonly chain: Chain;
  readonly base: Chain & { readonly base: BaseChain };
  /** Absent when the policy decided. */
  readonly rule?: Rule;
  /** The rule that led into the chain; absent in a base chain. */
  readonly from?: { readonly chain: Chain; readonly rule: Rule };
  /** What the rule did besides its verdict: `masquerade`, `reject with tcp reset`. */
  readonly action?: string;
}
