/** A rule that limits: what is used up, and how more of it is given. */
import { nftName } from "../../linux/nftables/spelling.ts";
import type { Expression } from "../../linux/nftables/expressions.ts";
import type { Table } from "../../linux/nftables/ruleset.ts";
import { command } from "../../text/command.ts";
import type { CheckContext } from "../check.ts";
import type { Fix } from "../finding.ts";
import type { Decision } from "../predict/decision.ts";
import type { RepairPlace } from "../remedy/repair.ts";
import { rewritten } from "./rewritten.ts";

export interface Limit {
  /** `its rate limit is used up`. */
  readonly state: string;
  readonly advice: string;
}

const LIMITS = {
  limit: {
    state: "its rate limit is used up",
    advice: "or let fewer packets come: the limit fills again with time",
  },
  quota: {
    state: "its quota is used up",
    advice: "or begin a new quota, if that is what it is for",
  },
  connlimit: {
    state: "its limit of connections is reached",
    advice: "or close connections: `wayout conntrack list` shows whose they are",
  },
  recent: {
    state: "the address is in its list",
    advice:
      "take the address out of the list (write -ADDRESS to its file in /proc/net/xt_recent), or let fewer connections come",
  },
} as const satisfies Readonly<Record<string, Limit>>;

type LimitKind = keyof typeof LIMITS;

const MATCHES: Readonly<Record<string, LimitKind>> = {
  hashlimit: "limit",
  limit: "limit",
  quota: "quota",
  connlimit: "connlimit",
  recent: "recent",
};

/** The rule that limited, and what it limits. */
export interface UsedUp extends Limit {
  readonly by: Decision;
}

/**
 * What is used up where this rule stops the packet: its own limit, or that of a rule before it which would have
 * accepted.
 */
export function usedUp({ predicted }: CheckContext, stopping: Decision): UsedUp | undefined {
  const own = limitOf(stopping);
  if (own !== undefined) return { ...own, by: stopping };
  for (const { of, at } of predicted.doubts) {
    const limit = of === "rate" && at !== undefined ? limitOf(at) : undefined;
    if (limit !== undefined && (accepts(at!) || leadsTo(at!, stopping))) return { ...limit, by: at! };
  }
  return undefined;
}

/** A rule that sends what is beyond the limit to the chain that drops it. */
function leadsTo({ rule, table }: Decision, stopping: Decision): boolean {
  const isHere = table === stopping.table;
  return (
    rule?.expressions.some(
      (one) =>
        isHere && one.kind === "immediate" && "verdict" in one.data && one.data.chain === stopping.chain.name,
    ) === true
  );
}

/** Whether what the rule takes goes on, so that beyond its limit the next rules decide. */
export function accepts({ rule }: Decision): boolean {
  return (
    rule?.expressions.some(
      (one) =>
        one.kind === "immediate" && "verdict" in one.data && ["accept", "return"].includes(one.data.verdict),
    ) === true
  );
}

/** What the rule that decided limits; undefined for one that decides the same whatever came before. */
function limitOf({ rule, table }: Decision): Limit | undefined {
  for (const expression of rule?.expressions ?? []) {
    const kind = kindOf(expression, table);
    if (kind !== undefined) return LIMITS[kind];
  }
  return undefined;
}

function kindOf(expression: Expression, table: Table): LimitKind | undefined {
  switch (expression.kind) {
    case "limit":
    case "quota":
    case "connlimit":
      return expression.kind;
    case "match":
      return MATCHES[expression.name];
    case "dynset":
      for (const one of [expression.expression, ...(expression.expressions ?? [])]) {
        const kind = one === undefined ? undefined : kindOf(one, table);
        if (kind !== undefined) return kind;
      }
      return undefined;
    case "objref": {
      const type = table.objects.find((one) => one.name === expression.name)?.type;
      return type === "limit" || type === "quota" || type === "connlimit" ? type : undefined;
    }
    default:
      return undefined;
  }
}

/** The same rule with ten times as much; nothing where its text does not say how much, or a set remembers it. */
export function raised(context: CheckContext, place: RepairPlace, by: Decision): (Fix | undefined)[] {
  const { rule, table, chain } = by;
  if (rule === undefined) return [];
  const object = rule.expressions.find((one) => one.kind === "objref");
  if (object?.name !== undefined) return begunAnew(context, place, table, object.name);
  const line = rewritten(by, multiplied);
  if (line === undefined) return [];
  const within = rule.expressions.filter((one) => kindOf(one, table) === undefined);
  // What a rule accepts within its limit it then accepts always; what it drops beyond its limit, never.
  const change = accepts(by)
    ? ({
        kind: "replace-filter-rule",
        place,
        table,
        chain,
        rule,
        by: { handle: rule.handle, expressions: within },
      } as const)
    : ({ kind: "delete-filter-rule", place, table, chain, rule } as const);
  return [context.fix(place, line, undefined, change)];
}

function begunAnew(
  context: CheckContext,
  place: RepairPlace,
  table: Table,
  name: string,
): (Fix | undefined)[] {
  const isQuota = table.objects.some((one) => one.name === name && one.type === "quota");
  const words = [nftName(table.name), nftName(name)] as const;
  return isQuota
    ? [context.fix(place, command`nft reset quota ${table.family} ${words[0]} ${words[1]}`)]
    : [];
}

/** How much more a raised limit lets through. */
const TIMES = 10;

/** Its table lives on under its name with the limits that it was made with, whatever a new rule says. */
const REMEMBERED = /--hashlimit-/;

/** Where nft and iptables write how much: rates with their burst, quotas, counts of connections. */
const AMOUNTS =
  /(?<=limit rate (?:over )?|burst |ct count (?:over )?|quota (?:over )?|--limit(?:-burst)? |--connlimit-(?:above|upto) |--quota )\d+/g;

function multiplied(text: string): string {
  if (REMEMBERED.test(text)) return text;
  return text.replaceAll(AMOUNTS, (amount) => String(Number(amount) * TIMES));
}
