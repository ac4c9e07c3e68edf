/** By what name our tables go, and where they stand. */
import { HOOK_PRIORITY } from "../../../linux/netfilter.ts";
import type { TableRef } from "../../../linux/nftables/ruleset.ts";

/** Holds the rules. */
export const TABLE: TableRef = { family: "inet", table: "wayout" };
/** Its set of claims (nat/claim.ts), as comments of elements that no rule looks at. */
export const CLAIMS = { ...TABLE, set: "claims" } as const;
/** The agent's second one (twin.ts). */
export const TWIN: TableRef = { family: "inet", table: "wayout-twin" };
/** Where what shall not leave ends. */
export const DROP_CHAIN = "drop";
/** Of the chain at postrouting: before other products' at srcnat (ruleset.ts says why). */
export const NAT_PRIORITY = HOOK_PRIORITY.srcnat - 5;
