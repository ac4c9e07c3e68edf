/** By what name our tables go, and where they stand. */
import { HOOK_PRIORITY } from "../../../linux/netfilter.ts";
import type { TableRef } from "../../../linux/nftables/ruleset.ts";

/** Holds the rules. */
export const TABLE: TableRef = { family: "inet", table: "wayout" };
/** The agent's second one (twin.ts). */
export const TWIN: TableRef = { family: "inet", table: "wayout-twin" };
/** Of the chain at postrouting: before other products' at srcnat (ruleset.ts says why). */
export const NAT_PRIORITY = HOOK_PRIORITY.srcnat - 5;
