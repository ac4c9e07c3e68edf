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
import { POLICY_OWNER } from "../../policy/policy.ts";
import type { Desired, DesiredNat } from "../desired.ts";
import type { ReconcileStep, Repair } from "./step.ts";

export class NatStep implements ReconcileStep, Disposable {
  readonly name = "nat";
  readonly #open = new Map<NatBackendName, NatBackend>();
  /** The policy as it was last brought into force. */
  #policy: DesiredNat | undefined;

  constructor(
    private readonly node: NetworkNamespace,
    private readonly wanted: () => Desired,
    private readonly twin: NftablesTwin | undefined,
  ) {}

  run(): Repair[] {
    const { nat } = this.wanted();
    const policy = nat.find(({ intent }) => intent.owner === POLICY_OWNER);
    const drifts = [...Map.groupBy(nat, ({ backend }) => backend)].flatMap(([backend, wishes]) => {
      const intents = wishes.map(({ intent }) => intent);
      return this.#applied(this.#backend(backend), intents);
    });
    this.#hold(nat);
    const isNew = policy !== undefined && policy.intent !== this.#policy?.intent;
    // Its rules in another backend are those of the policy before, of this agent or the one before it.
    if (policy !== undefined && policy.backend !== this.#policy?.backend)
      removeElsewhere(this.node, POLICY_OWNER, policy.backend);
    this.#policy = policy;
    // What is other than a new policy wants was taken away by nobody.
    return isNew ? [] : drifts.map((drift) => this.#repair(drift));
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

  /** Whichever backend has them: a flush takes the tables of iptables-nft as well, and the hooks of nf_nat with them. */
  #hold(nat: readonly DesiredNat[]): void {
    const translating = nat.filter(({ backend }) => BACKENDS[backend].translates);
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
