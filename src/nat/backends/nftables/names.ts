/** By what name our tables go. */
import type { TableRef } from "../../../linux/nftables/ruleset.ts";

/** Holds the rules. */
export const TABLE: TableRef = { family: "inet", table: "wayout" };
/** The agent's second one (twin.ts). */
export const TWIN: TableRef = { family: "inet", table: "wayout-twin" };
