import type { TableRef } from "../../../linux/nftables/ruleset.ts";

/** What shall not leave at all (nftables/drop-table.ts). */
export const DROPS: TableRef = { family: "inet", table: "wayout-ebpf-drop" };
/** A filter of ours: no pod's packet leaves by a link without our programs (guard.ts). */
export const GUARD: TableRef = { family: "inet", table: "wayout-guard" };

/** What the program at a side is called in the kernel's lists; it keeps 15 letters. */
export function programNameAt(side: "ingress" | "egress"): string {
  return `wayout_${side}`;
}

/** Those of the short way (program/fast.h). */
export function fastProgramName(which: "leaves" | "arrives"): string {
  return `wayout_${which}`;
}

/** Of another number of flows: where they were until they have moved. */
export const OLDER_MAPS: readonly string[] = ["older_flows", "older_places"];
