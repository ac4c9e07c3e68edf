/** iptables-legacy has no trace that can be followed: its rules' counters before and after tell which of them matched. */
import type { IpFamily } from "../../address/ip.ts";
import { readLegacyTables } from "../../kernel/iptables-legacy/iptables-legacy.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import type { Rule, Table } from "../../linux/nftables/ruleset.ts";
import { ruleInOwnWords } from "../../linux/nftables/text/ruleset.ts";
import type { LegacyGrowth } from "../evidence.ts";

/** The rules and policies of every table that exists, in the order of the tables. */
export function readLegacyCounters(namespace: NetworkNamespace, family: IpFamily): LegacyGrowth[] {
  return readLegacyTables({ namespace, families: [family === 4 ? "ip" : "ip6"] }).flatMap(countersOf);
}

function countersOf(table: Table): LegacyGrowth[] {
  return table.chains.flatMap((chain) => {
    const place = { table: table.name, chain: chain.name };
    const rules = chain.rules.map((rule) => ({
      ...place,
      rule: ruleInOwnWords(rule, table, { stateless: true }),
      verdict: verdictOf(rule),
      packets: rule.expressions.find((expression) => expression.kind === "counter")?.packets ?? 0,
    }));
    if (chain.base === undefined) return rules;
    const policy = chain.base.policy.toUpperCase();
    return [
      ...rules,
      { ...place, rule: `policy ${policy}`, verdict: policy, packets: chain.counter?.packets ?? 0 },
    ];
  });
}

/** "DROP", "ACCEPT", "MASQUERADE"; empty for a rule that only counts. */
function verdictOf(rule: Rule): string {
  for (const expression of rule.expressions.toReversed()) {
    if (expression.kind === "target") return expression.name;
    if (expression.kind === "immediate" && "verdict" in expression.data) {
      return expression.data.verdict.toUpperCase();
    }
  }
  return "";
}

/** What matched between two readings. Rules are told apart by their place: they hold still meanwhile, or none is told. */
export function legacyGrowth(
  before: readonly LegacyGrowth[],
  after: readonly LegacyGrowth[],
): LegacyGrowth[] {
  const isSame = before.every(
    (one, index) => one.rule === after[index]?.rule && one.chain === after[index]?.chain,
  );
  if (!isSame || before.length !== after.length) return [];
  return after
    .map((one, index) => ({ ...one, packets: one.packets - before[index]!.packets }))
    .filter((one) => one.packets > 0);
}
