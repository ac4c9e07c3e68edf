/** What a rule's text depends on besides the rule: its family, the table's sets and chains, names of interfaces. */
import type { Chain, Family, NftSet, Table } from "../ruleset.ts";
import type { Names } from "./format.ts";

export interface TextOptions extends Names {
  /** Leaves out what changes by itself: counters, used quotas, elements' remaining time. */
  readonly stateless?: boolean;
  /** Adds `# handle N` to everything that has one. */
  readonly handles?: boolean;
}

/** A table looked at while it is printed. */
export class Scope {
  readonly family: Family;
  readonly #sets: ReadonlyMap<string, NftSet>;
  readonly #chains: ReadonlyMap<string, Chain>;

  constructor(
    readonly table: Pick<Table, "family" | "sets" | "chains">,
    readonly options: TextOptions = {},
  ) {
    this.family = table.family;
    this.#sets = new Map(table.sets.map((set) => [set.name, set]));
    this.#chains = new Map(table.chains.map((chain) => [chain.name, chain]));
  }

  set(name: string): NftSet | undefined {
    return this.#sets.get(name);
  }

  /** A chain that stands within a rule (`jump { … }`); undefined for one with a name of its own. */
  inlineChain(name: string): Chain | undefined {
    const chain = this.#chains.get(name);
    return chain?.flags.includes("binding") === true ? chain : undefined;
  }
}
