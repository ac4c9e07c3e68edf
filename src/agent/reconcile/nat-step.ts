/** Keeps the rules: ours are compared with what is wanted and written anew where they differ; the twin follows. */
import { openNat } from "../../nat/open.ts";
import { applyAndSettle } from "../../nat/settle-flows.ts";
import { driftText, type NatBackend } from "../../nat/backend.ts";
import { BACKENDS, type NatBackendName } from "../../nat/backends/backends.ts";
import { NAT_PRIORITY } from "../../nat/backends/nftables/names.ts";
import type { NftablesTwin } from "../../nat/backends/nftables/twin.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import type { NatIntent } from "../../nat/intent.ts";
import type { Desired } from "../desired.ts";
import type { ReconcileStep, Repair } from "./step.ts";

export class NatStep implements ReconcileStep, Disposable {
  readonly name = "nat";
  readonly #open = new Map<NatBackendName, NatBackend>();
  /** By owner, of those who tell changes themselves. */
  readonly #inForce = new Map<string, NatIntent>();

  constructor(
    private readonly node: NetworkNamespace,
    private readonly wanted: () => Desired,
    private readonly twin: NftablesTwin | undefined,
  ) {}

  run(): Repair[] {
    const { nat } = this.wanted();
    const repairs = nat.flatMap(({ backend, intent, tellsChanges }) => {
      const { drifts } = applyAndSettle(this.#backend(backend), this.node, intent);
      if (tellsChanges === true) {
        const isNew = this.#inForce.get(intent.owner) !== intent;
        this.#inForce.set(intent.owner, intent);
        if (isNew) return [];
      }
      return drifts.map((drift): Repair => ({
        step: this.name,
        object: drift.object,
        found: driftText(drift),
      }));
    });
    // Whichever backend has them: a flush takes the tables of iptables-nft as well, and the hooks of nf_nat with them.
    const translating = nat.filter(({ backend }) => BACKENDS[backend].translates);
    this.twin?.hold(
      translating.map(({ intent }) => intent),
      Math.max(
        NAT_PRIORITY,
        ...translating.map(({ backend }) => BACKENDS[backend].postrouting ?? NAT_PRIORITY),
      ),
    );
    return repairs;
  }

  [Symbol.dispose](): void {
    for (const backend of this.#open.values()) backend[Symbol.dispose]();
  }

  #backend(name: NatBackendName): NatBackend {
    let backend = this.#open.get(name);
    if (backend === undefined) this.#open.set(name, (backend = openNat(name, this.node)));
    return backend;
  }
}
