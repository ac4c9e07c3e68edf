/** One base chain and everything it jumps to, for one packet (nft_do_chain of net/netfilter/nf_tables_core.c). */
import { DEEPEST_JUMP } from "../../linux/nftables/enumerations.ts";
import type { BaseChain, Chain, Table } from "../../linux/nftables/ruleset.ts";
import type { Decision } from "./decision.ts";
import { BREAK, CONTINUE, type Machine, type StepVerdict } from "./machine.ts";
import { compiledRules, type CompiledRule } from "./rules.ts";
import { present } from "../../present.ts";

export interface ChainResult {
  readonly verdict: "accept" | "drop" | "queue" | "stolen";
  readonly by: Decision;
}

export type HookedChain = Chain & { readonly base: BaseChain };

interface Position {
  readonly chain: Chain;
  readonly rules: readonly CompiledRule[];
  readonly from: Decision["from"];
  next: number;
}

/** Runs a packet through a base chain. */
export function runChain(machine: Machine, table: Table, base: HookedChain): ChainResult {
  const stack: Position[] = [];
  let at = enter(table, base);
  let compiled: CompiledRule | undefined;
  machine.here = () =>
    present({
      table,
      chain: at.chain,
      base,
      rule: compiled?.rule,
      from: at.from,
    });
  for (;;) {
    compiled = at.rules[at.next++];
    if (compiled === undefined) {
      const back = stack.pop();
      if (back === undefined) return policy(table, base);
      at = back;
      continue;
    }
    const result = runRule(machine, compiled);
    if (result === undefined) continue;
    const by: Decision = present({
      table,
      chain: at.chain,
      base,
      rule: compiled.rule,
      action: result.action,
      from: at.from,
    });
    switch (result.verdict) {
      case "accept":
      case "stop":
        return { verdict: "accept", by };
      case "drop":
      case "queue":
      case "stolen":
        return { verdict: result.verdict, by };
      case "jump":
      case "goto": {
        const target = table.chains.find((chain) => chain.name === result.chain);
        if (target === undefined || stack.length >= DEEPEST_JUMP) return { verdict: "drop", by };
        if (result.verdict === "jump") stack.push(at);
        at = enter(table, target, { chain: at.chain, rule: compiled.rule });
        break;
      }
      case "return": {
        const back = stack.pop();
        if (back === undefined) return policy(table, base);
        at = back;
        break;
      }
      case "continue":
      case "break":
        break;
      default:
        machine.ask(`verdict ${result.verdict}`);
    }
  }
}

function enter(table: Table, chain: Chain, from?: Decision["from"]): Position {
  return { chain, rules: compiledRules(table, chain), from, next: 0 };
}

function policy(table: Table, base: HookedChain): ChainResult {
  return { verdict: base.base.policy, by: { table, chain: base, base } };
}

/** The verdict of a rule; undefined when it did not match or has none. */
export function runRule(machine: Machine, compiled: CompiledRule): StepVerdict | undefined {
  for (let index = 0; ; index++) {
    const step = compiled.step(index);
    if (step === undefined) return undefined;
    const result = step(machine);
    if (result === CONTINUE) continue;
    if (result === BREAK) return undefined;
    return result;
  }
}
