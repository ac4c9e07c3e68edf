/**
 * Why does no rule translate the packet? Looks at every rule that could have, and says how near it came: which of its
 * conditions (or of the jumps that lead to it) failed, which earlier rule decided, or that nothing leads to it.
 */
import type { Expression } from "../../linux/nftables/expressions.ts";
import type { Chain, Rule, Table } from "../../linux/nftables/ruleset.ts";
import { textOfRule } from "../wording.ts";
import { runRule } from "./chain.ts";
import { BREAK, type Machine } from "./machine.ts";
import { compiledRules, type CompiledRule } from "./rules.ts";

/** A condition that the packet fails. */
export interface Miss {
  readonly rule: Rule;
  readonly chain: Chain;
  /** As nft writes it: `oifname "ens5"`. */
  readonly condition: string;
  /** What the packet has instead: `eth0`; absent when that cannot be said shortly. */
  readonly actual: string | undefined;
}

export interface Candidate {
  readonly table: Table;
  readonly chain: Chain;
  readonly rule: Rule;
  readonly text: string;
  /** Empty: every condition holds. */
  readonly misses: readonly Miss[];
  /** Nothing hooked to postrouting as NAT leads to its chain. */
  readonly unreachable: string | undefined;
  /** An earlier rule that decided about the packet before it got here. */
  readonly before: { readonly chain: Chain; readonly rule: Rule; readonly text: string } | undefined;
}

/** Rules that translate a source, the nearest to matching first. */
export function sourceNatCandidates(machine: Machine, tables: readonly Table[]): Candidate[] {
  const found: Candidate[] = [];
  for (const table of tables) {
    if (!speaks(table, machine.packet.family)) continue;
    for (const chain of table.chains) {
      for (const compiled of compiledRules(table, chain)) {
        if (!translatesSource(compiled.rule.expressions)) continue;
        found.push(judge(machine, table, chain, compiled));
      }
    }
  }
  return found.sort((a, b) => a.misses.length - b.misses.length);
}

function speaks(table: Table, family: 4 | 6): boolean {
  return table.family === "inet" || table.family === (family === 4 ? "ip" : "ip6");
}

export function translatesSource(expressions: readonly Expression[]): boolean {
  return expressions.some(
    (one) =>
      one.kind === "masq" ||
      (one.kind === "nat" && one.type === "snat") ||
      (one.kind === "target" && ["MASQUERADE", "SNAT", "NETMAP"].includes(one.name)),
  );
}

function judge(machine: Machine, table: Table, chain: Chain, compiled: CompiledRule): Candidate {
  const route = routeTo(table, chain);
  const own = missesOf(machine, table, chain, compiled);
  const jumps =
    route === undefined ? [] : route.flatMap((jump) => missesOf(machine, table, jump.chain, jump.compiled));
  const before =
    route === undefined || own.length + jumps.length > 0
      ? undefined
      : earlier(machine, table, [...route, { chain, compiled }]);
  return {
    table,
    chain,
    rule: compiled.rule,
    text: textOfRule(compiled.rule, table),
    misses: [...jumps, ...own],
    unreachable: route === undefined ? whyUnreachable(table, chain) : undefined,
    before,
  };
}

interface Jump {
  readonly chain: Chain;
  readonly compiled: CompiledRule;
}

/** The jumps from a NAT base chain at postrouting to this chain, the first such way; undefined when there is none. */
function routeTo(table: Table, chain: Chain, seen = new Set<string>()): Jump[] | undefined {
  if (table.flags.includes("dormant")) return undefined;
  if (chain.base !== undefined) {
    return chain.base.type === "nat" && chain.base.hook === "postrouting" ? [] : undefined;
  }
  if (seen.has(chain.name)) return undefined;
  seen.add(chain.name);
  for (const from of table.chains) {
    for (const compiled of compiledRules(table, from)) {
      if (!leadsTo(table, compiled.rule, chain.name)) continue;
      const before = routeTo(table, from, seen);
      if (before !== undefined) return [...before, { chain: from, compiled }];
    }
  }
  return undefined;
}

/** Whether a rule jumps to the chain, directly or by a verdict map. */
export function leadsTo(table: Table, rule: Rule, chain: string): boolean {
  return rule.expressions.some((one) => {
    if (one.kind === "immediate") return "chain" in one.data && one.data.chain === chain;
    if (one.kind !== "lookup" || one.dreg !== 0) return false;
    const set = table.sets.find((set) => set.name === one.set);
    return (
      set?.elements.some(({ data }) => data !== undefined && "chain" in data && data.chain === chain) === true
    );
  });
}

function whyUnreachable(table: Table, chain: Chain): string {
  if (table.flags.includes("dormant")) return `table ${table.family} ${table.name} is dormant`;
  if (chain.base !== undefined) return `its chain is hooked to ${chain.base.hook} as ${chain.base.type}`;
  const callers = table.chains.filter((from) => from.rules.some((rule) => leadsTo(table, rule, chain.name)));
  if (callers.length === 0) return `nothing jumps to chain ${chain.name}`;
  return `only ${callers.map((one) => one.name).join(", ")} leads to chain ${chain.name}, and no hook leads there`;
}

/** The first rule on the way that matches and decides, other than the one wanted. */
function earlier(machine: Machine, table: Table, way: readonly Jump[]): Candidate["before"] {
  for (const { chain, compiled } of way) {
    for (const other of compiledRules(table, chain)) {
      if (other === compiled) break;
      const verdict = verdictOf(machine, other);
      if (verdict === undefined || verdict === "jump" || verdict === "continue") continue;
      return { chain, rule: other.rule, text: textOfRule(other.rule, table) };
    }
  }
  return undefined;
}

function verdictOf(machine: Machine, compiled: CompiledRule): string | undefined {
  return runRule(machine, compiled)?.verdict;
}

/** Runs all conditions of a rule, past those that fail. */
function missesOf(machine: Machine, table: Table, chain: Chain, compiled: CompiledRule): Miss[] {
  const { rule } = compiled;
  const misses: Miss[] = [];
  let begin = 0;
  for (const [index, expression] of rule.expressions.entries()) {
    const result = compiled.step(index)!(machine);
    if (!isCondition(expression)) continue;
    const part = rule.expressions.slice(begin, index + 1);
    begin = index + 1;
    if (result !== BREAK) continue;
    misses.push({
      rule,
      chain,
      condition: textOfRule({ handle: 0, expressions: part }, table),
      actual: actualOf(part, machine),
    });
  }
  return misses;
}

function isCondition(expression: Expression): boolean {
  return ["cmp", "range", "lookup", "match"].includes(expression.kind);
}

/** What the packet has where the condition looks. */
function actualOf(part: readonly Expression[], machine: Machine): string | undefined {
  const { packet } = machine;
  const [load] = part;
  if (load === undefined) return undefined;
  if (load.kind === "meta") {
    const known: Readonly<Record<string, string | undefined>> = {
      iifname: packet.iif,
      iif: packet.iif,
      oifname: packet.oif,
      oif: packet.oif,
      mark: `0x${packet.mark.toString(16)}`,
      l4proto: packet.protocol,
    };
    return known[load.key];
  }
  if (load.kind !== "payload") return undefined;
  if (load.base === "network") {
    const [source, destination] = packet.family === 4 ? [12, 16] : [8, 24];
    if (load.offset === source) return packet.source;
    return load.offset === destination ? packet.destination : undefined;
  }
  if (load.base !== "transport") return undefined;
  return load.offset === 0
    ? String(packet.sourcePort)
    : load.offset === 2
      ? String(packet.destinationPort)
      : undefined;
}
