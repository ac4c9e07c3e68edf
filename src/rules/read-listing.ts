import { messageOf, WayoutError } from "../error.ts";
import { readLegacyTables } from "../kernel/iptables-legacy/iptables-legacy.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { Nftables } from "../kernel/nftables/nftables.ts";
import { ruleInOwnWords } from "../linux/nftables/text/ruleset.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { natListing, type NatListing, type NatTable } from "./listing.ts";
import { natTablesOf, type RuleText } from "./listing-nftables.ts";
import { translationAtLinks } from "../nat/backends/at-links.ts";
import type { LinkTranslation } from "../nat/backends/link-translation.ts";
import { explained } from "../nat/backends/nftables/refusal.ts";
import { present } from "../present.ts";

/** Families whose tables translate addresses. */
const FAMILIES = ["ip", "ip6", "inet"] as const;

/** A listing, and what it cannot tell. */
export interface ReadNatListing extends NatListing {
  /** What could not be looked at, and why. */
  readonly unread: readonly string[];
  /** What programs of ours translate at links, behind all rules; absent where none does. */
  readonly atLinks?: LinkTranslation;
}

/**
 * Reads every NAT rule of a namespace. A kernel that lacks one of the rulesets is no error: `unread` says so.
 * @throws WayoutError `no-privilege`
 */
export function readNatListing(namespace: NetworkNamespace): ReadNatListing {
  const unread: string[] = [];
  const tables = [...nftablesTables(namespace, unread), ...legacyTables(namespace, unread)];
  const atLinks = programsAtLinks(namespace, unread);
  return { ...natListing(tables), unread, ...present({ atLinks }) };
}

function programsAtLinks(namespace: NetworkNamespace, unread: string[]): LinkTranslation | undefined {
  try {
    return translationAtLinks(namespace);
  } catch (error) {
    unread.push(`our eBPF programs could not be read: ${messageOf(error)}`);
    return undefined;
  }
}

function nftablesTables(namespace: NetworkNamespace, unread: string[]): NatTable[] {
  try {
    return explained("reading the NAT rules of nf_tables", () => {
      using nftables = Nftables.open(namespace);
      const { tables } = nftables.ruleset({ families: FAMILIES });
      const interfaces = interfaceNames(namespace);
      return natTablesOf(tables, (table, rule) =>
        ruleInOwnWords(rule, table, { stateless: true, interfaces }),
      );
    });
  } catch (error) {
    if (!(error instanceof WayoutError) || error.code !== "no-nftables") throw error;
    unread.push(`nf_tables could not be read: ${error.said}`);
    return [];
  }
}

function legacyTables(namespace: NetworkNamespace, unread: string[]): NatTable[] {
  try {
    const text: RuleText = (table, rule) => ruleInOwnWords(rule, table, { stateless: true });
    return natTablesOf(readLegacyTables(present({ namespace })), text, true);
  } catch (error) {
    unread.push(`iptables-legacy could not be read: ${messageOf(error)}`);
    return [];
  }
}

function interfaceNames(namespace: NetworkNamespace): Map<number, string> {
  using rtnetlink = Rtnetlink.open(namespace);
  return new Map(rtnetlink.links({ statistics: false }).map(({ index, name }) => [index, name]));
}
