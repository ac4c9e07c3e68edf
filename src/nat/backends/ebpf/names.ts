import type { TableRef } from "../../../linux/nftables/ruleset.ts";

/** A filter of ours: no pod's packet leaves by a link without our programs (guard.ts). */
export const GUARD: TableRef = { family: "inet", table: "wayout-guard" };
