/**
 * Room `rules/`: every NAT rule of a node in the order in which packets meet it, its owner, and whether a packet can
 * reach it. One shape for nf_tables, iptables-nft and iptables-legacy (see listing-nftables.ts).
 *
 * In: tables as they were read.
 * Out: rules in order, with owner, translation, and the reason where one is dead.
 * Touches: nothing, except read-listing.ts, which reads the rulesets.
 */
import type { Owner } from "../naming/products.ts";
import { ownerOf } from "./owner.ts";
import { present } from "../present.ts";

export type RulesetKind = "nftables" | "iptables-nft" | "iptables-legacy";

/** A table that takes part in NAT. */
export interface NatTable {
  readonly kind: RulesetKind;
  /** `ip`, `ip6` or `inet`. */
  readonly family: string;
  readonly name: string;
  /** The kernel skips a dormant table. */
  readonly dormant: boolean;
  readonly chains: readonly NatChain[];
}

export interface NatChain {
  readonly name: string;
  /** Absent: reached by jumps only. */
  readonly base?: {
    readonly type: string;
    readonly hook: string;
    readonly priority: number;
    readonly policy: string;
  };
  readonly rules: readonly NatRule[];
}

export interface Counter {
  readonly packets: number;
  readonly bytes: number;
}

export interface NatRule {
  readonly text: string;
  readonly handle?: number;
  readonly comment?: string;
  readonly counter?: Counter;
  /** Rewrites the packet, and how. */
  readonly translates?: "masquerade" | "snat" | "dnat" | "redirect" | "netmap";
  /** Chains it may jump or go to: several for a verdict map. */
  readonly targets: readonly string[];
  /** Whether every packet that comes here is decided here: no later rule of the chain sees any. */
  readonly endsChain: boolean;
  /** What a map that the rule asks holds, where that says more than the rule. */
  readonly elements?: readonly NatElement[];
}

/** One entry of a map: a source, and what becomes of it. */
export interface NatElement {
  readonly key: string;
  readonly leadsTo: string;
  readonly counter?: Counter;
  /** Of ours: which owner asked for it. */
  readonly owner?: string;
  /** Its author's own: kube-proxy names the Service. */
  readonly comment?: string;
}

export interface DeadRule {
  readonly code: "dormant-table" | "unreferenced-chain" | "no-base-chain" | "wrong-hook" | "shadowed";
  readonly reason: string;
}

/** A rule where packets meet it. */
export interface ListedRule {
  readonly kind: RulesetKind;
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  /** 1 for the chain's first rule. */
  readonly position: number;
  /** How many jumps lead here from the base chain. */
  readonly depth: number;
  readonly text: string;
  readonly handle?: number;
  readonly counter?: Counter;
  readonly translates?: NonNullable<NatRule["translates"]>;
  readonly owner?: Owner;
  readonly dead?: DeadRule;
  readonly elements?: readonly NatElement[];
}

/** A base chain of type nat and everything that is reached from it. */
export interface ListedChain {
  readonly kind: RulesetKind;
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  readonly hook: string;
  readonly priority: number;
  readonly policy: string;
  readonly rules: readonly ListedRule[];
}

export interface NatListing {
  /** In packets' order: by hook, then by priority. */
  readonly chains: readonly ListedChain[];
  /** Rules that no packet can reach, because nothing leads to their chain. */
  readonly unreached: readonly ListedRule[];
}

/** A forwarded packet meets prerouting and postrouting, one for the node prerouting and input, one from it the others. */
const HOOK_ORDER = ["prerouting", "input", "output", "postrouting"];

export function natListing(tables: readonly NatTable[]): NatListing {
  const chains: ListedChain[] = [];
  const unreached: ListedRule[] = [];
  for (const table of tables) {
    const walk = new Walk(table);
    for (const chain of table.chains)
      if (chain.base?.type === "nat") chains.push(walk.base(chain, chain.base));
    unreached.push(...walk.unreached());
  }
  chains.sort((a, b) => HOOK_ORDER.indexOf(a.hook) - HOOK_ORDER.indexOf(b.hook) || a.priority - b.priority);
  return { chains, unreached };
}

/** One table, walked as packets walk it. A chain that several rules lead to is listed once below each base chain. */
class Walk {
  readonly #chains: ReadonlyMap<string, NatChain>;
  /** Chains that some walk came to. */
  readonly #seen = new Set<string>();
  /** Chains that packets come to. One of them is not listed under a dead rule that leads there, too. */
  readonly #alive = new Set<string>();

  constructor(readonly table: NatTable) {
    this.#chains = new Map(table.chains.map((chain) => [chain.name, chain]));
    for (const chain of table.chains) {
      if (chain.base?.type === "nat" && this.#deadBase(chain, chain.base) === undefined) this.#enliven(chain);
    }
  }

  #enliven(chain: NatChain): void {
    if (this.#alive.has(chain.name)) return;
    this.#alive.add(chain.name);
    for (const rule of chain.rules) {
      for (const next of this.#targetsOf(rule)) this.#enliven(next);
      if (rule.endsChain) return;
    }
  }

  #targetsOf({ targets }: NatRule): NatChain[] {
    return targets.flatMap((target) => this.#chains.get(target) ?? []);
  }

  #deadBase(chain: NatChain, base: NonNullable<NatChain["base"]>): DeadRule | undefined {
    const { family, name: table } = this.table;
    if (this.table.dormant) {
      return { code: "dormant-table", reason: `table ${family} ${table} is dormant: the kernel skips it` };
    }
    const named = HOOK_ORDER.find((hook) => hook === chain.name.toLowerCase());
    if (named === undefined || named === base.hook) return undefined;
    return { code: "wrong-hook", reason: `chain ${chain.name} is hooked to ${base.hook}, not to ${named}` };
  }

  base(chain: NatChain, base: NonNullable<NatChain["base"]>): ListedChain {
    const { kind, family, name: table } = this.table;
    const dead = this.#deadBase(chain, base);
    const rules = [...this.#walk(chain, 0, dead, new Set())];
    return {
      kind,
      family,
      table,
      chain: chain.name,
      hook: base.hook,
      priority: base.priority,
      policy: base.policy,
      rules,
    };
  }

  /** @param listed chains that this walk has come to */
  *#walk(
    chain: NatChain,
    depth: number,
    inherited: DeadRule | undefined,
    listed: Set<string>,
  ): Generator<ListedRule> {
    if (listed.has(chain.name)) return;
    listed.add(chain.name);
    this.#seen.add(chain.name);
    let dead = inherited;
    for (const [index, rule] of chain.rules.entries()) {
      yield this.#listed(chain, index, depth, dead);
      for (const next of this.#targetsOf(rule)) {
        if (dead === undefined || !this.#alive.has(next.name)) {
          yield* this.#walk(next, depth + 1, dead, listed);
        }
      }
      if (dead === undefined && rule.endsChain) {
        dead = { code: "shadowed", reason: `rule ${index + 1} of ${chain.name} decides every packet before` };
      }
    }
  }

  /** Chains that no walk came to, when they belong to NAT. */
  *unreached(): Generator<ListedRule> {
    const hasNat = this.table.chains.some(({ base }) => base?.type === "nat");
    // What base chains of other types lead to is not NAT's, but not unreached either.
    for (const chain of this.table.chains) {
      if (chain.base !== undefined && chain.base.type !== "nat") this.#mark(chain);
    }
    for (const chain of this.table.chains) {
      if (this.#seen.has(chain.name) || chain.rules.length === 0) continue;
      if (!this.#translates(chain, new Set())) continue;
      const isHookName = HOOK_ORDER.includes(chain.name.toLowerCase());
      const { family, name } = this.table;
      const dead: DeadRule =
        isHookName || !hasNat
          ? {
              code: "no-base-chain",
              reason: isHookName
                ? `chain ${chain.name} is hooked to nothing`
                : `table ${family} ${name} has no chain that is hooked for NAT`,
            }
          : { code: "unreferenced-chain", reason: `nothing leads to chain ${chain.name}` };
      yield* this.#walk(chain, 0, dead, this.#seen);
    }
  }

  #mark(chain: NatChain): void {
    if (this.#seen.has(chain.name)) return;
    this.#seen.add(chain.name);
    for (const next of chain.rules.flatMap((rule) => this.#targetsOf(rule))) this.#mark(next);
  }

  #translates(chain: NatChain, seen: Set<string>): boolean {
    if (seen.has(chain.name)) return false;
    seen.add(chain.name);
    return chain.rules.some(
      (rule) =>
        rule.translates !== undefined || this.#targetsOf(rule).some((next) => this.#translates(next, seen)),
    );
  }

  #listed(chain: NatChain, index: number, depth: number, dead: DeadRule | undefined): ListedRule {
    const { text, handle, comment, counter, translates, targets, elements } = chain.rules[index]!;
    const { kind, family, name: table } = this.table;
    const [target] = targets;
    const owner = ownerOf(
      present({
        family,
        table,
        chain: chain.name,
        text,
        target,
        comment,
      }),
    );
    return present({
      kind,
      family,
      table,
      chain: chain.name,
      position: index + 1,
      depth,
      text,
      handle,
      counter,
      translates,
      owner,
      dead,
      elements,
    });
  }
}
