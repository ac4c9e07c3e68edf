/** A table that is not there yet, as nft would list it. Pure. */
import { elementOf, setOf } from "../../../linux/nftables/commands.ts";
import type { Table } from "../../../linux/nftables/ruleset.ts";
import { tableText } from "../../../linux/nftables/text/ruleset.ts";
import { TABLE } from "./names.ts";
import type { WantedTable } from "./ruleset.ts";
import { present } from "../../../present.ts";

/** What `nft list table inet wayout` would print; `nft -f` takes it. */
export function wantedText(wanted: WantedTable): string {
  const table: Table = {
    family: TABLE.family,
    name: TABLE.table,
    handle: 0,
    flags: [],
    objects: [],
    flowtables: [],
    sets: wanted.sets.map(({ spec, elements }) => ({
      ...setOf(spec),
      elements: elements.map((element) => elementOf(spec, element)),
    })),
    chains: wanted.chains.map(({ name, base, rules }) =>
      present({
        name,
        handle: 0,
        flags: [],
        use: 0,
        base,
        rules: rules.map((expressions) => ({ handle: 0, expressions })),
      }),
    ),
  };
  return tableText(table, { stateless: true });
}
