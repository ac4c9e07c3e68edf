/** How objects are written in findings. */
import { chainText, placeText } from "../linux/nftables/text/place.ts";
import { endText } from "../address/ip.ts";
import { command, type CommandLine } from "../text/command.ts";
import type { Link } from "../linux/route/link.ts";
import type { Rule, Table } from "../linux/nftables/ruleset.ts";
import { ruleInOwnWords } from "../linux/nftables/text/ruleset.ts";
import type { NamespaceState } from "../snapshot/snapshot.ts";
import type { Decision } from "./predict/decision.ts";
import type { Target } from "./predict/path.ts";

/** `eth0: down, no carrier, state down`. */
export function linkText(link: Link): string {
  const carrier = link.carrier === undefined ? "" : link.carrier ? ", carrier" : ", no carrier";
  return `${link.name}: ${link.up ? "up" : "down"}${carrier}, state ${link.operState}`;
}

/** The rule as its program writes it, or the policy. */
export function decisionText({ rule, table, base }: Decision): string {
  return rule === undefined ? `policy ${base.base.policy}` : statelessText(rule, table);
}

/** The same with what the rule has counted. */
export function decisionCounted(decision: Decision): string {
  const { rule, table } = decision;
  return rule === undefined ? decisionText(decision) : textOfRule(rule, table);
}

export function textOfRule(rule: Rule, table: Table): string {
  return ruleInOwnWords(rule, table, namesAt.get(table));
}

/** The rule as its author would write it again: without what it has counted. */
export function statelessText(rule: Rule, table: Table): string {
  return ruleInOwnWords(rule, table, { ...namesAt.get(table), stateless: true });
}

type RuleNames = NonNullable<Parameters<typeof ruleInOwnWords>[2]>;
const named = new WeakSet<NamespaceState>();
const namesAt = new WeakMap<Table, RuleNames>();

/** Rules hold ipsets and interfaces by number: the namespace that a table stands in knows their names. */
export function nameObjects(state: NamespaceState): void {
  if (named.has(state)) return;
  named.add(state);
  const names: RuleNames = {
    interfaces: new Map(state.links.map((link) => [link.index, link.name])),
    ipsets: new Map(state.ipsets.map((set) => [set.index, set.name])),
  };
  for (const table of [...(state.ruleset?.tables ?? []), ...state.legacy]) namesAt.set(table, names);
}

/** Where the deciding rule stands: `table ip filter chain FORWARD handle 7`. */
export function decisionPlace(decision: Decision): string {
  const { table, chain, rule } = decision;
  if (isLegacy(table)) {
    const number = rule === undefined ? "" : ` rule ${ruleNumber(decision)}`;
    return `${legacyProgram(table)} -t ${table.name} ${chain.name}${number}`;
  }
  return placeText(table, chain, rule);
}

/** Where it stands, inside a sentence: `ip filter FORWARD`. */
export function decisionChain({ table, chain }: Decision): string {
  return chainText(table, chain);
}

/** `“ct state invalid drop” in ip filter FORWARD`. */
export function quotedDecision(by: Decision): string {
  return `“${decisionText(by)}” in ${decisionChain(by)}`;
}

/** A table of iptables-legacy: nf_tables gives every table of its own a handle. */
export function isLegacy(table: Table): boolean {
  return table.handle === 0;
}

export function legacyProgram(table: Table): string {
  return table.family === "ip6" ? "ip6tables-legacy" : "iptables-legacy";
}

/** The rule's place in its chain, as iptables counts: from 1. */
export function ruleNumber({ chain, rule }: Decision): number {
  return rule === undefined ? 0 : chain.rules.indexOf(rule) + 1;
}

/** `198.51.100.80:443`, as people write it. */
export function targetText(target: Target): string {
  return endText(target.address, target.port === 0 ? undefined : target.port);
}

/** A real packet to that very port, over that protocol. */
export function traceCommand(pod: string, target: Target): CommandLine | undefined {
  const protocol = target.protocol === "icmpv6" ? "icmp" : target.protocol;
  const over = protocol === "tcp" ? [] : ["--proto", protocol];
  return command`wayout trace ${pod} ${targetText(target)} ${over}`;
}
