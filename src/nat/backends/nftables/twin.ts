/**
 * A second table with the same translations, which only the process that made it can change (`flags owner`): what
 * others do with `nft flush ruleset`, or `delete table`, passes it by.
 *
 * When the last chain of type nat of a namespace goes, nf_nat takes its hooks away, and every translated connection is
 * cut at the next packet: the node's own TCP answers it with a reset. The rules may be back by the very next command,
 * and it is too late all the same. While the twin stands, the hooks stay, and so does every connection; new ones are
 * translated by it until ours is back. It stands just behind ours, whichever backend has them, so that it decides nothing while ours stands.
 *
 *     table inet wayout-twin {
 *       flags owner,persist        # Linux 5.12; persist: 6.9. Without persist it goes with its process
 *       …                          # as ruleset.ts has it, less the claims
 *       chain postrouting { type nat hook postrouting priority srcnat - 4; … }
 *     }
 */
import { NetlinkError } from "../../../linux/netlink/netlink-error.ts";
import { rethrowMistake } from "../../../error.ts";
import { addTable, deleteTable, elementOf } from "../../../linux/nftables/commands.ts";
import type { TableFlag } from "../../../linux/nftables/ruleset.ts";
import { Nftables } from "../../../kernel/nftables/nftables.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { intentText, normalizeIntent, replacing, type NatIntent } from "../../intent.ts";
import { CLAIMS, NAT_PRIORITY, TWIN } from "./names.ts";
import { tableOf, type WantedTable } from "./ruleset.ts";
import { contentsOf, elementChanges } from "./contents.ts";
import { differenceOf, type FoundTable } from "./drift.ts";

/** What the kernel may know of owned tables, the best first. */
const OWNERSHIP: readonly (readonly TableFlag[])[] = [["owner", "persist"], ["owner"]];

/** Held by one process, over a socket that stays open as long as this lives. */
export class NftablesTwin implements Disposable {
  readonly #nftables: Nftables;
  #held: Held | undefined;

  private constructor(
    nftables: Nftables,
    private readonly flags: readonly TableFlag[],
  ) {
    this.#nftables = nftables;
  }

  /** undefined where the kernel has no owned tables (before 5.12): a flush cuts flows there. */
  static open(namespace: NetworkNamespace): NftablesTwin | undefined {
    const nftables = Nftables.open(namespace);
    for (const flags of OWNERSHIP) {
      try {
        nftables.transaction([addTable(TWIN, { flags })], "making a table that only this process can change");
        return new NftablesTwin(nftables, flags);
      } catch (error) {
        if (error instanceof NetlinkError && ["EOPNOTSUPP", "EINVAL"].includes(error.code)) continue;
        nftables.close();
        throw error;
      }
    }
    nftables.close();
    return undefined;
  }

  /** Whether the table outlives this process. */
  get persists(): boolean {
    return this.flags.includes("persist");
  }

  /**
   * Makes the table hold these translations, in one transaction; nothing is written when it does already.
   * @param behind priority of the rules that it repeats
   */
  hold(intents: readonly NatIntent[], behind = NAT_PRIORITY): boolean {
    const wanted = intents.map(normalizeIntent).reduce<NatIntent[]>(replacing, []);
    if (this.#held?.behind === behind && areSame(wanted, this.#held.intents)) return false;
    const table = twinOf(tableOf(wanted), behind);
    this.#write(table);
    this.#held = { intents: wanted, behind, table };
    return true;
  }

  /** Nobody else changes it, so that what was written last is what is there. */
  #write(table: WantedTable): void {
    const doing = "writing the twin of our NAT rules";
    const { elements } = differenceOf(table, this.#held && asFound(this.#held.table), TWIN);
    if (elements !== undefined) {
      try {
        this.#nftables.transaction(elementChanges(elements), doing);
        return;
      } catch (error) {
        // Made anew, it is right whatever the kernel did not like.
        rethrowMistake(error);
      }
    }
    this.#nftables.transaction(
      [
        // To delete what may not be there yet, and to take over what an earlier process left.
        addTable(TWIN, { flags: this.flags }),
        deleteTable(TWIN),
        addTable(TWIN, { flags: this.flags }),
        ...contentsOf(TWIN, table),
      ],
      doing,
    );
  }

  /** Takes the table away: nothing shall be translated any more. */
  remove(): void {
    this.#nftables.transaction([deleteTable(TWIN)], "removing the twin of our NAT rules");
    this.#held = undefined;
  }

  /** The table stays where it may (`persists`), and the next process takes it over. */
  [Symbol.dispose](): void {
    this.#nftables.close();
  }
}

/** What was written last. */
interface Held {
  readonly intents: readonly NatIntent[];
  readonly behind: number;
  readonly table: WantedTable;
}

/** The same without the claims, and with its hook just behind. */
function twinOf({ sets, chains }: WantedTable, behind: number): WantedTable {
  return {
    sets: sets
      .filter(({ spec }) => spec.set !== CLAIMS.set)
      .map(({ spec, elements }) => ({ spec: { ...spec, ...TWIN }, elements })),
    chains: chains.map((chain) =>
      chain.base === undefined ? chain : { ...chain, base: { ...chain.base, priority: behind + 1 } },
    ),
  };
}

function asFound({ sets, chains }: WantedTable): FoundTable {
  return {
    flags: [],
    sets: sets.map(({ spec, elements }) => ({
      name: spec.set,
      elements: elements.map((element) => elementOf(spec, element)),
    })),
    chains: chains.map(({ rules, ...chain }) => ({
      ...chain,
      rules: rules.map((expressions) => ({ handle: 0, expressions })),
    })),
  };
}

/** Asked at every comparison, mostly of the very same values. */
function areSame(wanted: readonly NatIntent[], held: readonly NatIntent[]): boolean {
  return (
    wanted.length === held.length &&
    wanted.every((intent, index) => intent === held[index] || intentText(intent) === intentText(held[index]!))
  );
}
