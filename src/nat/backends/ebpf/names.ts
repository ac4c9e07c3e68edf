import type { TableRef } from "../../../linux/nftables/ruleset.ts";

/** What shall not leave at all (nftables/drop-table.ts). */
export const DROPS: TableRef = { family: "inet", table: "wayout-ebpf-drop" };
/** A filter of ours: no pod's packet leaves by a link without our programs (guard.ts). */
export const GUARD: TableRef = { family: "inet", table: "wayout-guard" };
