import { rethrowMistake } from "../../../error.ts";
import { NetworkNamespace } from "../../../kernel/namespace.ts";
import type { NetlinkTransport } from "../../../kernel/netlink/transport.ts";
import { addTable, destroyTable, type Transaction } from "../../../linux/nftables/commands.ts";
import { Nftables } from "../../../kernel/nftables/nftables.ts";
import type { SetElement, Table } from "../../../linux/nftables/ruleset.ts";
import { VERSION } from "../../../version.ts";
import type { AppliedNat, NatBackend, NatDrift } from "../../backend.ts";
import { intentsOfClaims } from "../../claim.ts";
import { GenerationMemory } from "../../generation-memory.ts";
import { intentText, normalizeIntent, replacing, type NatIntent } from "../../intent.ts";
import { withNatLock, withNatLockToRemove } from "../../lock.ts";
import { withCounters } from "./counters.ts";
import { differenceOf, type TableDifference } from "./drift.ts";
import { withKeptClaims } from "./kept-claims.ts";
import { CLAIMS, TABLE } from "./names.ts";
import { tableOf, type WantedTable } from "./ruleset.ts";
import { explained } from "./refusal.ts";
import { wantedText } from "./text.ts";
import { shaHex } from "../../../platform/bytes.ts";
import { contentsOf, elementChanges } from "./contents.ts";

/**
 * NAT in a table of our own, `inet wayout`, spoken to over netlink: no program is needed. Whatever differs is changed in
 * one transaction, so that packets meet the old rules or the new ones and nothing between: elements of sets by
 * themselves, which is what more and fewer prefixes are; where anything else differs, the table is made anew.
 */
export class NftablesNat implements NatBackend {
  readonly name = "nftables";
  readonly #namespace: NetworkNamespace;
  readonly #owned: boolean;
  readonly #nftables: Nftables;
  readonly #memory: GenerationMemory;

  /**
   * @param options.transport the way to the kernel, when it is not to be opened here
   * @throws WayoutError `no-nftables`
   */
  constructor(
    options: { readonly namespace?: NetworkNamespace; readonly transport?: NetlinkTransport } = {},
  ) {
    const { namespace, transport } = options;
    this.#owned = namespace === undefined;
    this.#namespace = namespace ?? NetworkNamespace.current();
    this.#nftables = explained("opening nf_tables", () =>
      transport === undefined ? Nftables.open(this.#namespace) : new Nftables(transport),
    );
    this.#memory = new GenerationMemory(this.#namespace);
  }

  apply(intent: NatIntent): AppliedNat {
    return this.applyAll([intent]);
  }

  applyAll(intents: readonly NatIntent[]): AppliedNat {
    if (intents.every((intent) => this.#isKnownContent(intent))) return { changed: false, drifts: [] };
    const wanted = intents.map(normalizeIntent);
    const doing = `writing the NAT rules of ${wanted.map(({ owner }) => owner).join(", ")}`;
    return explained(doing, () =>
      withNatLock(this.#namespace, doing, () => {
        const compared = this.#compared((before) => wanted.reduce(replacing, before));
        const { generation, before, drifts } = compared;
        if (drifts.length === 0) {
          for (const intent of intents) this.#note(generation, intent);
          return { changed: false, drifts };
        }
        this.#write(compared, doing);
        return { changed: true, drifts, before };
      }),
    );
  }

  verify(intent: NatIntent): NatDrift[] {
    if (this.#isKnownContent(intent)) return [];
    const wanted = normalizeIntent(intent);
    return explained(`checking the NAT rules of ${wanted.owner}`, () => {
      const { generation, drifts } = this.#compared((before) => replacing(before, wanted));
      if (drifts.length === 0) this.#note(generation, intent);
      return drifts;
    });
  }

  /** Our table as it is, beside what it shall be. @param wanted what owners want, from what they want by the kernel's word */
  #compared(wanted: (before: NatIntent[]) => NatIntent[]): Compared {
    const { generation, tables } = this.#nftables.ruleset({ table: TABLE });
    const [found] = tables;
    const before = intentsIn(found);
    const target = withKeptClaims(tableOf(wanted(before)), found);
    return { generation, found, before, target, ...differenceOf(target, found) };
  }

  #write({ generation, found, target, elements }: Compared, doing: string): void {
    if (elements !== undefined) {
      try {
        this.#nftables.transaction(elementChanges(elements), doing, { generation });
        return;
      } catch (error) {
        // The rules have changed meanwhile, or a set is not what it seemed: made anew, everything is right again.
        rethrowMistake(error);
      }
    }
    this.#nftables.transaction(rebuild(withCounters(target, found)), doing);
  }

  /** It was found in force: the next caller need not read the table. */
  #note(generation: number, intent: NatIntent): void {
    const table = this.#memory.tableAt(generation) ?? this.#nftables.fingerprint(TABLE.table, generation);
    this.#memory.note(generation, table, findingOf(intent));
  }

  /** Whether this very intent was found in force, and nobody changed our table since. */
  #isKnownContent(intent: NatIntent): boolean {
    const finding = findingOf(intent);
    return explained(`checking the NAT rules of ${intent.owner}`, () => {
      const generation = this.#nftables.generation();
      if (this.#memory.holds(generation, finding)) return true;
      if (!this.#memory.mayCarry(finding)) return false;
      return this.#memory.carries(generation, this.#nftables.fingerprint(TABLE.table, generation), finding);
    });
  }

  remove(owner?: string): boolean {
    const doing = owner === undefined ? "removing our NAT rules" : `removing the NAT rules of ${owner}`;
    return explained(doing, () =>
      withNatLockToRemove(this.#namespace, doing, () => {
        const left = (before: readonly NatIntent[]): NatIntent[] =>
          owner === undefined ? [] : before.filter((intent) => intent.owner !== owner);
        const compared = this.#compared(left);
        const { found, before } = compared;
        if (found === undefined) {
          this.#memory.forget();
          return false;
        }
        const { length } = left(before);
        if (owner !== undefined && length === before.length) return false;
        if (length > 0) this.#write(compared, doing);
        else {
          this.#nftables.transaction(destroyTable(TABLE), doing);
          this.#memory.forget();
        }
        return true;
      }),
    );
  }

  intents(): NatIntent[] {
    return explained("reading our NAT rules", () => intentsOfElements(this.#nftables.elements(CLAIMS)));
  }

  describe(intent: NatIntent): string {
    const wanted = normalizeIntent(intent);
    return wantedText(tableOf(replacing(this.intents(), wanted)));
  }

  [Symbol.dispose](): void {
    this.#nftables.close();
    if (this.#owned) this.#namespace.close();
  }
}

/** The agent asks about the same intent every few seconds. */
const findings = new WeakMap<NatIntent, string>();

/** Another version of wayout may make another table of the same intent. */
function findingOf(intent: NatIntent): string {
  let finding = findings.get(intent);
  if (finding === undefined) {
    const text = intentText(intent);
    finding = `${VERSION} ${text.length} ${shaHex("sha256", text)}`;
    findings.set(intent, finding);
  }
  return finding;
}

/** What was found of our table, and how it differs from what it shall be. */
interface Compared extends TableDifference {
  readonly generation: number;
  readonly found: Table | undefined;
  /** What owners want by the kernel's word. */
  readonly before: NatIntent[];
  readonly target: WantedTable;
}

function intentsIn(table: Table | undefined): NatIntent[] {
  return intentsOfElements(table?.sets.find(({ name }) => name === CLAIMS.set)?.elements);
}

function intentsOfElements(elements: readonly SetElement[] | undefined): NatIntent[] {
  return intentsOfClaims((elements ?? []).flatMap(({ comment }) => comment ?? []));
}

function rebuild(wanted: WantedTable): Transaction {
  return [...destroyTable(TABLE), addTable(TABLE), ...contentsOf(TABLE, wanted)];
}
