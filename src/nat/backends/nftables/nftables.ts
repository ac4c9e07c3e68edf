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
import { compareTable } from "./drift.ts";
import { CLAIMS, TABLE } from "./names.ts";
import { tableOf, type WantedTable } from "./ruleset.ts";
import { explained } from "./refusal.ts";
import { wantedText } from "./text.ts";
import { shaHex } from "../../../platform/bytes.ts";
import { contentsOf } from "./contents.ts";

/**
 * NAT in a table of our own, `inet wayout`, spoken to over netlink: no program is needed. The table is made anew in
 * one transaction whenever something differs, so that packets meet the old rules or the new ones and nothing between.
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
        const { generation, found, before, target, drifts } = this.#compared(wanted);
        if (drifts.length === 0) {
          for (const intent of intents) this.#note(generation, intent);
          return { changed: false, drifts };
        }
        this.#nftables.transaction(rebuild(withCounters(target, found)), doing);
        return { changed: true, drifts, before };
      }),
    );
  }

  verify(intent: NatIntent): NatDrift[] {
    if (this.#isKnownContent(intent)) return [];
    const wanted = normalizeIntent(intent);
    return explained(`checking the NAT rules of ${wanted.owner}`, () => {
      const { generation, drifts } = this.#compared([wanted]);
      if (drifts.length === 0) this.#note(generation, intent);
      return drifts;
    });
  }

  /** Our table as it is, beside what it shall be. */
  #compared(wanted: readonly NatIntent[]) {
    const { generation, tables } = this.#nftables.ruleset({ table: TABLE });
    const [found] = tables;
    const before = intentsIn(found);
    const target = tableOf(wanted.reduce(replacing, before));
    return { generation, found, before, target, drifts: compareTable(target, found) };
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
        const found = this.#nftables.table(TABLE);
        if (found === undefined) {
          this.#memory.forget();
          return false;
        }
        const intents = intentsIn(found);
        const left = owner === undefined ? [] : intents.filter((intent) => intent.owner !== owner);
        if (owner !== undefined && left.length === intents.length) return false;
        const changes = left.length === 0 ? destroyTable(TABLE) : rebuild(withCounters(tableOf(left), found));
        this.#nftables.transaction(changes, doing);
        if (left.length === 0) this.#memory.forget();
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

function intentsIn(table: Table | undefined): NatIntent[] {
  return intentsOfElements(table?.sets.find(({ name }) => name === CLAIMS.set)?.elements);
}

function intentsOfElements(elements: readonly SetElement[] | undefined): NatIntent[] {
  return intentsOfClaims((elements ?? []).flatMap(({ comment }) => comment ?? []));
}

function rebuild(wanted: WantedTable): Transaction {
  return [...destroyTable(TABLE), addTable(TABLE), ...contentsOf(TABLE, wanted)];
}
