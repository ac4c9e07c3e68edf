import {
  addChain,
  addElements,
  addRule,
  addSet,
  deleteFoundElements,
  type Transaction,
} from "../../../linux/nftables/commands.ts";
import type { TableRef } from "../../../linux/nftables/ruleset.ts";
import type { ElementDifference } from "./drift.ts";
import type { WantedTable } from "./ruleset.ts";

/**
 * The changes that fill an empty table with what is wanted there. Elements of a verdict map need their chains, rules their
 * sets.
 */
export function contentsOf(table: TableRef, { sets, chains }: WantedTable): Transaction {
  return [
    ...sets.map(({ spec }) => addSet(spec)),
    ...chains.map(({ name, base }) =>
      addChain({ ...table, chain: name }, base === undefined ? {} : { base }),
    ),
    ...sets.map(({ spec, elements }) => addElements(spec, elements)),
    ...chains.flatMap(({ name, rules }) =>
      rules.map((expressions) => addRule({ ...table, chain: name }, { expressions })),
    ),
  ];
}

/** The changes after which sets have the elements that they shall have, and those only. */
export function elementChanges(differences: readonly ElementDifference[]): Transaction {
  return differences.map(({ spec, strange, lacking }) => [
    ...deleteFoundElements(spec, strange),
    ...addElements(spec, lacking),
  ]);
}
