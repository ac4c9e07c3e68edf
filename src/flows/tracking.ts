import { chainText } from "../linux/nftables/text/place.ts";
import { messageOf } from "../error.ts";
import { legacyTableNames } from "../kernel/iptables-legacy/table-names.ts";
import type { ConntrackStatistics } from "../kernel/conntrack/conntrack.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { Nftables } from "../kernel/nftables/nftables.ts";
import type { Expression } from "../linux/nftables/expressions.ts";
import type { Ruleset } from "../linux/nftables/ruleset.ts";
import { readSysctl } from "../kernel/sysctl.ts";

/**
 * Whether connections are tracked in a namespace. The kernel hooks tracking in only while some rule needs it: a rule
 * with `ct` or NAT in it, not a chain of type nat by itself. Until then the table stays empty.
 */
export type Tracking =
  | { readonly state: "active" }
  /** A rule asks for it, but nothing has been tracked yet. `rule` says which one: "inet wayout postrouting". */
  | { readonly state: "idle"; readonly rule: string }
  | { readonly state: "not-asked-for" }
  /** The kernel has no connection tracking, or its module is not loaded. */
  | { readonly state: "unavailable" }
  /** Empty, and what asks for it could not be found out. */
  | { readonly state: "unknown"; readonly why: string };

/** Expressions that make nf_tables hook connection tracking in (nf_ct_netns_get in net/netfilter/nft_*.c). */
const ASKING: ReadonlySet<string> = new Set([
  "ct",
  "masq",
  "nat",
  "redir",
  "connlimit",
  "synproxy",
  "flow_offload",
]);
/** Modules of xtables that do the same, as iptables-nft uses them. */
const ASKING_XTABLES =
  /^(?:conntrack|state|connmark|connbytes|connlabel|connlimit|helper|cluster|MASQUERADE|SNAT|DNAT|REDIRECT|NETMAP|CT|CONNMARK|CONNSECMARK|SYNPROXY)$/;

/** What is the matter with a namespace's table, by its statistics and the rules there. */
export function trackingOf(
  namespace: NetworkNamespace | undefined,
  statistics: ConntrackStatistics,
): Tracking {
  if (statistics.entries > 0 || hasCounted(statistics)) return { state: "active" };
  if (readSysctl(namespace, "net.netfilter.nf_conntrack_max") === undefined) return { state: "unavailable" };
  try {
    using nftables = Nftables.open(namespace);
    const rule = askingRule(nftables.ruleset());
    if (rule !== undefined) return { state: "idle", rule };
    const legacy = (["ip", "ip6"] as const).flatMap((family) =>
      legacyTableNames(family, namespace).map((name) => `${family} ${name}`),
    );
    if (legacy.length > 0) {
      return { state: "unknown", why: `rules of iptables-legacy (${legacy.join(", ")}) may ask for it` };
    }
    return { state: "not-asked-for" };
  } catch (error) {
    return { state: "unknown", why: messageOf(error) };
  }
}

function hasCounted({ perCpu }: ConntrackStatistics): boolean {
  return perCpu.some(({ cpu: _cpu, ...counters }) => Object.values(counters).some((value) => value > 0));
}

/** The first rule that needs connection tracking, as "family table chain". */
export function askingRule(ruleset: Ruleset): string | undefined {
  for (const table of ruleset.tables) {
    if (table.flags.includes("dormant")) continue;
    for (const chain of table.chains) {
      if (chain.rules.some((rule) => rule.expressions.some(asks))) {
        return chainText(table, chain);
      }
    }
  }
  return undefined;
}

function asks(expression: Expression): boolean {
  switch (expression.kind) {
    case "other":
      return ASKING.has(expression.name);
    case "match":
    case "target":
      return ASKING_XTABLES.test(expression.name ?? "");
    default:
      return ASKING.has(expression.kind);
  }
}
