import type { NetworkNamespace } from "../kernel/namespace.ts";
import { Nftables } from "../kernel/nftables/nftables.ts";
import { ruleText } from "../kernel/nftables/text.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { natListing, type NatListing } from "./listing.ts";
import { natTablesOf } from "./listing-nftables.ts";

/** Families whose tables translate addresses. */
const FAMILIES = ["ip", "ip6", "inet"] as const;

/**
 * Reads every NAT rule of a namespace.
 * `unread` says what could not be looked at, and why.
 */
export function readNatListing(
  namespace: NetworkNamespace,
): NatListing & { readonly unread: readonly string[] } {
  using nftables = Nftables.open(namespace);
  const { tables } = nftables.ruleset({ families: FAMILIES });
  const interfaces = interfaceNames(namespace);
  const text = natTablesOf(tables, (table, rule) => ruleText(rule, table, { stateless: true, interfaces }));
  return { ...natListing(text), unread: [] };
}

function interfaceNames(namespace: NetworkNamespace): Map<number, string> {
  using rtnetlink = Rtnetlink.open(namespace);
  return new Map(rtnetlink.links({ statistics: false }).map(({ index, name }) => [index, name]));
}
