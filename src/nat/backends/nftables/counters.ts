/** Counters that go on when the table is made anew. Pure. */
import { elementOf } from "../../../linux/nftables/commands.ts";
import type { Expression, StatefulExpression } from "../../../linux/nftables/expressions.ts";
import type { Table } from "../../../linux/nftables/ruleset.ts";
import { elementKey, ruleKey } from "./drift.ts";
import type { WantedTable } from "./ruleset.ts";

/** The wanted table, with every counter where the same rule, or the same source, has it now. */
export function withCounters(wanted: WantedTable, found: Table | undefined): WantedTable {
  if (found === undefined) return wanted;
  return {
    sets: wanted.sets.map(({ spec, elements }) => {
      if (spec.expressions === undefined) return { spec, elements };
      const before = found.sets.find(({ name }) => name === spec.set)?.elements ?? [];
      const counters = new Map(before.map((element) => [elementKey(element), element.expressions]));
      return {
        spec,
        elements: elements.map((element) => {
          const expressions = counters.get(elementKey(elementOf(spec, element)));
          return expressions?.every(isCounter) === true ? { ...element, expressions } : element;
        }),
      };
    }),
    chains: wanted.chains.map((chain) => {
      const before = found.chains.find(({ name }) => name === chain.name)?.rules ?? [];
      const same = new Map(before.map(({ expressions }) => [ruleKey(expressions), expressions]));
      // Equal up to the counters' values, so the old expressions may stand for the new.
      return { ...chain, rules: chain.rules.map((rule) => same.get(ruleKey(rule)) ?? rule) };
    }),
  };
}

function isCounter(expression: Expression | StatefulExpression): boolean {
  return expression.kind === "counter";
}
