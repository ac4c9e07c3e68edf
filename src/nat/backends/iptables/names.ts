import type { TableRef } from "../../../linux/nftables/ruleset.ts";

/** What shall not leave at all: iptables' nat table takes no DROP (nftables/drop-table.ts). */
export const DROPS: TableRef = { family: "inet", table: "wayout-iptables-drop" };
