/** Keeps the rules: ours are compared with what is wanted and written anew where they differ; the twin follows. */
import { removeElsewhere } from "../../nat/installed.ts";
import { openNat } from "../../nat/open.ts";
import { applyAllAndSettle } from "../../nat/settle-flows.ts";
import { driftText, type NatBackend, type NatDrift } from "../../nat/backend.ts";
import { BACKENDS, type NatBackendName } from "../../nat/backends/backends.ts";
import { NAT_PRIORITY } from "../../nat/backends/nftables/names.ts";
import type { NftablesTwin } from "../../nat/backends/nftables/twin.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import type { NatIntent } from "../../nat/intent.ts";
import type { Desired, DesiredNat } from "../desired.ts";
import type { ReconcileStep, Repair } from "./step.ts";

export class NatStep implements ReconcileStep, Disposable {
  readonly name = "nat";
  readonly #open = new Map<NatBackendName, NatBackend>();
  /** By owner, what was last brought into force of those who tell changes themselves. */
  readonly #inForce = new Map<string, DesiredNat>();

  constructor(
    private readonly node: NetworkNamespace,
    private readonly wanted: () => Desired,
    private readonly twin: NftablesTwin | undefined,
  ) {}

  run(): Repair[] {
    const { nat } = this.wanted();
    const repairs = [...Map.groupBy(nat, ({ backend }) => backend)].flatMap(([backend, wishes]) => {
      const intents = wishes.map(({ intent }) => intent);
      const drifts = this.#applied(this.#backend(backend), intents);
      const isNews = wishes.filter((wish) => this.#isNew(wish)).length > 0;
      // A new wish was not taken away by anyone: it was not there before.
      return isNews ? [] : drifts.map((drift) => this.#repair(drift));
    });
    this.#hold(nat);
    return repairs;
  }

  [Symbol.dispose](): void {
    for (const backend of this.#open.values()) backend[Symbol.dispose]();
  }

  /** What one owner wants and cannot have takes nothing away from the others. */
  #applied(backend: NatBackend, intents: readonly NatIntent[]): readonly NatDrift[] {
    try {
      return applyAllAndSettle(backend, this.node, intents).drifts;
    } catch (error) {
      if (intents.length > 1) {
        for (const intent of intents) {
          try {
            applyAllAndSettle(backend, this.node, [intent]);
          } catch {
            // One of them is what is told below.
          }
        }
      }
      throw error;
    }
  }

  /** Notes that it is in force now. */
  #isNew(wish: DesiredNat): boolean {
    if (wish.tellsChanges !== true) return false;
    const { owner } = wish.intent;
    const before = this.#inForce.get(owner);
    this.#inForce.set(owner, wish);
    // Its rules in another backend are those of the wish before, of this agent or the one before it.
    if (wish.backend !== before?.backend) removeElsewhere(this.node, owner, wish.backend);
    return wish.intent !== before?.intent;
  }

  /**
   * Whichever backend has rules of type nat: a flush takes the tables of iptables-nft as well, and the hooks of nf_nat with
   * them. Programs have no such hook.
   */
  #hold(nat: readonly DesiredNat[]): void {
    const translating = nat.filter(({ backend }) => BACKENDS[backend].postrouting !== undefined);
    this.twin?.hold(
      translating.map(({ intent }) => intent),
      Math.max(
        NAT_PRIORITY,
        ...translating.map(({ backend }) => BACKENDS[backend].postrouting ?? NAT_PRIORITY),
      ),
    );
  }

  #repair(drift: NatDrift): Repair {
    return { step: this.name, object: drift.object, found: driftText(drift) };
  }

  #backend(name: NatBackendName): NatBackend {
    let backend = this.#open.get(name);
    if (backend === undefined) this.#open.set(name, (backend = openNat(name, this.node)));
    return backend;
  }
}
