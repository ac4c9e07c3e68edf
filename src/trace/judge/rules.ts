/** Rules that the packet met, as evidence: which chain of which table, what it decided, whose it is. */
import { ruleInOwnWords } from "../../linux/nftables/text/ruleset.ts";
import type { Rule, Table } from "../../linux/nftables/ruleset.ts";
import type { LabelledEvent } from "./correlate.ts";
import type { RuleReport } from "../report.ts";
import { ownerOf } from "../../rules/owner.ts";
import { isDropVerdict } from "./progress.ts";
import { present } from "../../present.ts";

type Rulesets = Readonly<Record<"pod" | "node", readonly Table[]>>;

/** The base chain that an event happened under, and the rule itself. */
export interface MetRule {
  readonly event: LabelledEvent;
  readonly report: RuleReport;
  /** Absent for a chain that was jumped to. */
  readonly base?: { readonly hook: string; readonly priority: number; readonly type: string };
}

/** Every event with its rule. */
export function metRules(events: readonly LabelledEvent[], rulesets: Rulesets): MetRule[] {
  return events.map((event) => {
    const table = rulesets[event.where].find(
      (one) => one.family === event.family && one.name === event.table,
    );
    const chain = table?.chains.find((one) => one.name === event.chain);
    const base = chain?.base;
    return present({
      event,
      report: ruleReport(event, table),
      base: base === undefined ? undefined : { hook: base.hook, priority: base.priority, type: base.type },
    });
  });
}

function ruleReport(event: LabelledEvent, table: Table | undefined): RuleReport {
  const chain = table?.chains.find((one) => one.name === event.chain);
  const rule = chain?.rules.find((one) => one.handle === event.ruleHandle);
  const isPolicy = event.type === "policy";
  const text = isPolicy ? `policy ${event.policy ?? "accept"}` : textOf(rule, table);
  const place = { family: event.family, table: event.table, chain: event.chain };
  const comment = rule?.comment;
  const owner = ownerOf({ ...place, text, ...present({ comment }) });
  return {
    ...place,
    ...present({
      handle: event.type === "rule" && event.ruleHandle !== undefined ? event.ruleHandle : undefined,
    }),
    text,
    ...present({ owner: owner?.product }),
  };
}

/** The rule as its program writes it. The ruleset was read before the packet was sent: it may have changed since. */
function textOf(rule: Rule | undefined, table: Table | undefined): string {
  if (rule === undefined || table === undefined) return "a rule that was made meanwhile";
  return ruleInOwnWords(rule, table, { stateless: true });
}

/** The chains' verdicts, a line for each base chain: what it was called by, and how it ended. */
export function chainLines(met: readonly MetRule[]): string[] {
  const lines: string[] = [];
  let base: MetRule | undefined;
  for (const one of met) {
    base = one.base === undefined ? base : one;
    const verdict = verdictText(one);
    if (one.event.type === "rule" && (verdict === "continue" || verdict.startsWith("jump"))) continue;
    if (one.event.type === "return") continue;
    const { family, table, chain, text, handle } = one.report;
    const hook = base?.base === undefined ? "" : ` (${base.base.hook}, priority ${base.base.priority})`;
    const whose = one.report.owner === undefined ? "" : `, ${one.report.owner}'s`;
    const rule = handle === undefined ? text : `${verdict} by rule ${handle}: ${text}`;
    lines.push(`${family} ${table} ${chain}${hook}${whose}: ${rule}`);
  }
  return lines;
}

function verdictText({ event }: MetRule): string {
  if (event.type === "policy") return event.policy ?? "accept";
  const { verdict, chain } = event.verdict ?? {};
  return chain === undefined ? (verdict ?? "continue") : `${verdict} ${chain}`;
}

/** The rule, or the policy, that dropped the packet. */
export function droppingRule(met: readonly MetRule[]): MetRule | undefined {
  return met.find(({ event }) => isDropVerdict(event));
}

/** The base chain under whose hook a rule was met: its own, or the last one before it. */
export function baseOf(met: readonly MetRule[], rule: MetRule): MetRule["base"] {
  const before = met.slice(0, met.indexOf(rule) + 1);
  return before.findLast((one) => one.base !== undefined)?.base;
}

/** Which end of the packet a rule translates. */
export type TranslatedEnd = "source" | "destination";

const SOURCE_TARGETS = new Set(["MASQUERADE", "SNAT"]);
const DESTINATION_TARGETS = new Set(["DNAT", "REDIRECT"]);
/** NETMAP and the like do either, by the hook that they are called from. */
const DESTINATION_HOOKS = new Set(["prerouting", "output"]);

/** The rule that set the translation of that end. */
export function translatingRule(
  met: readonly MetRule[],
  rulesets: Rulesets,
  end: TranslatedEnd,
): MetRule | undefined {
  return met.findLast((one) => {
    const { event } = one;
    if (event.type !== "rule") return false;
    const table = rulesets[event.where].find(
      (candidate) => candidate.family === event.family && candidate.name === event.table,
    );
    const rule = table?.chains
      .find((chain) => chain.name === event.chain)
      ?.rules.find(({ handle }) => handle === event.ruleHandle);
    return rule?.expressions.some((expression) => endOf(expression, baseOf(met, one)?.hook) === end) === true;
  });
}

function endOf(expression: Rule["expressions"][number], hook: string | undefined): TranslatedEnd | undefined {
  switch (expression.kind) {
    case "masq":
      return "source";
    case "redir":
      return "destination";
    case "nat":
      return (expression as { type?: string }).type === "dnat" ? "destination" : "source";
    case "target": {
      const { name } = expression as { name: string };
      if (name === "NETMAP") return DESTINATION_HOOKS.has(hook ?? "") ? "destination" : "source";
      return targetEnd(name);
    }
    default:
      return undefined;
  }
}

/** What a target of iptables translates. */
export function targetEnd(target: string): TranslatedEnd | undefined {
  if (SOURCE_TARGETS.has(target)) return "source";
  return DESTINATION_TARGETS.has(target) ? "destination" : undefined;
}
