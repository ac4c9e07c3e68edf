/**
 * A network's NAT rules: made by its first pod, gone with its last. Each ADD makes sure of them without reading them: the
 * ruleset is still of the generation in which they were seen in order, or our table is still the very one.
 */
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { NetworkConfiguration } from "./configuration.ts";
import type { NatBackend, NatDrift, RuleMemory } from "../nat/backend.ts";
import { BACKENDS, isLack, openBackend, translating, type NatBackendName } from "../nat/backends/backends.ts";
import { GenerationMemory } from "../nat/generation-memory.ts";
import type { NatIntent } from "../nat/intent.ts";
import { readWants, wantsText, type NetworkWants } from "../nat/network-wants.ts";
import { removedText } from "../nat/removed.ts";
import { formerNetworkOwner, networkOwner } from "../naming/names.ts";

/** Makes the rules be there. No transaction when they are, and in the usual case nobody reads them. */
export async function ensureNat(wanted: NetworkWants, namespace: NetworkNamespace): Promise<void> {
  const { memory } = BACKENDS[wanted.backend];
  const problems = await lookAfter(wanted, namespace, async (nat, intent) => {
    // To apply is to compare first, under a lock. Where nothing is remembered each ADD asks, and needs none.
    if (memory === undefined && nat.verify(intent).length === 0) return [];
    const { applyAndSettle } = await import("../nat/settle-flows.ts");
    // Connections that began while there were no rules would leave with their pods' addresses to their end.
    return applyAndSettle(nat, namespace, intent).drifts;
  });
  if (problems.length === 0) return;
  new GenerationMemory(namespace).drop((finding) => finding === removedText(networkOwner(wanted.network)));
  // Seen once more, they are remembered: the next call need not look, and the doctor knows that there were rules.
  if (memory !== undefined) await natDrifts(wanted, namespace);
}

/** Whether a person took the network's rules away (`wayout nat remove`), and no ADD has made them again since. */
export function isNatRemoved(network: string, namespace: NetworkNamespace): boolean {
  return new GenerationMemory(namespace).findings().includes(removedText(networkOwner(network)));
}

/** The subnets that the network had translated when that was last found in order. */
export function rememberedSubnets(network: string, namespace: NetworkNamespace): readonly string[] {
  const findings = new GenerationMemory(namespace).findings();
  return [
    ...new Set(findings.map(readWants).flatMap((wants) => (wants?.network === network ? wants.subnets : []))),
  ];
}

/** What is not as the network wants it; empty when all is well. */
export async function natDrifts(
  wanted: NetworkWants,
  namespace: NetworkNamespace,
): Promise<readonly NatDrift[]> {
  return await lookAfter(wanted, namespace, (nat, intent) => nat.verify(intent));
}

/** Looks at the rules, unless they are remembered as in order; remembers them when they are. */
async function lookAfter(
  wanted: NetworkWants,
  namespace: NetworkNamespace,
  look: (nat: NatBackend, intent: NatIntent) => readonly NatDrift[] | Promise<readonly NatDrift[]>,
): Promise<readonly NatDrift[]> {
  if (wanted.translations.size === 0) return [];
  const { memory } = BACKENDS[wanted.backend];
  const remembered = memory === undefined ? undefined : new Remembered(memory, wanted, namespace);
  const generation = remembered?.generation();
  if (generation !== undefined && (await remembered!.holds(generation))) return [];
  using nat = await openBackend(wanted.backend, namespace);
  const intent = await intentOf(wanted, nat);
  const problems = intent === undefined ? [] : await look(nat, intent);
  if (problems.length === 0 && generation !== undefined) await remembered!.note(generation);
  return problems;
}

/**
 * Takes the network's rules away, if this node can have any: also those in the other backend, of a network whose
 * configuration named that one when its pods came. Returns whether there were some.
 */
export async function removeNat(
  network: string,
  backend: NatBackendName,
  namespace: NetworkNamespace,
): Promise<boolean> {
  const elsewhere = await removeElsewhere(network, backend, namespace);
  const here = await ifAble(async () => {
    using nat = await openBackend(backend, namespace);
    const removed = nat.remove(networkOwner(network));
    const former = formerNetworkOwner(network);
    if (former !== undefined) nat.remove(former);
    new GenerationMemory(namespace).drop(
      (finding) => readWants(finding)?.network === network || finding === removedText(networkOwner(network)),
    );
    return removed;
  });
  return here || elsewhere;
}

/** The same in backends that the network does not have (any more). While pods are there they may hold what those need. */
async function removeElsewhere(
  network: string,
  backend: NatBackendName,
  namespace: NetworkNamespace,
): Promise<boolean> {
  let removed = false;
  for (const other of translating()) {
    if (other === backend) continue;
    const here = await ifAble(async () => {
      if (!(await mayHold(other, namespace))) return false;
      using nat = await openBackend(other, namespace);
      return nat.remove(networkOwner(network));
    });
    removed ||= here;
  }
  return removed;
}

/** Whether the network has rules. */
export async function hasNat(network: string, namespace: NetworkNamespace): Promise<boolean> {
  for (const name of translating()) {
    const has = await ifAble(async () => {
      using nat = await openBackend(name, namespace);
      return nat.intents().some(({ owner }) => owner === networkOwner(network));
    });
    if (has) return true;
  }
  return false;
}

/** To ask a backend may cost more than all the rest of a DEL; some can tell for less that they have nothing. */
async function mayHold(backend: NatBackendName, namespace: NetworkNamespace): Promise<boolean> {
  const ask = await BACKENDS[backend].mayHold?.();
  return ask?.(namespace) ?? true;
}

/** False where there can be no rules: an ADD that failed for that is followed by a DEL, which must not fail for ever. */
async function ifAble(answer: () => Promise<boolean>): Promise<boolean> {
  try {
    return await answer();
  } catch (error) {
    if (isLack(error)) return false;
    throw error;
  }
}

/**
 * Together with what pods of this network want that were attached with other subnets: under an older configuration,
 * or by an IPAM plugin that gives each pod its own.
 */
async function intentOf(wanted: NetworkWants, nat: NatBackend): Promise<NatIntent | undefined> {
  const { networkIntent } = await import("../nat/network-intent.ts");
  const owner = networkOwner(wanted.network);
  const earlier = nat.intents().find((intent) => intent.owner === owner);
  return networkIntent(wanted, earlier);
}

/** What is remembered of these very rules, from one call to the next. */
class Remembered {
  readonly #notes: GenerationMemory;
  readonly #finding: string;

  constructor(
    private readonly memory: RuleMemory,
    wanted: NetworkWants,
    private readonly namespace: NetworkNamespace,
  ) {
    this.#notes = new GenerationMemory(namespace);
    this.#finding = wantsText(wanted);
  }

  generation(): number | undefined {
    return this.memory.generation(this.namespace);
  }

  async holds(generation: number): Promise<boolean> {
    if (this.#notes.holds(generation, this.#finding)) return true;
    if (!this.#notes.mayCarry(this.#finding)) return false;
    return this.#notes.carries(generation, await this.#fingerprint(generation), this.#finding);
  }

  /** @param generation from before the rules were read: what changed since is then noticed next time */
  async note(generation: number): Promise<void> {
    const table = this.#notes.tableAt(generation) ?? (await this.#fingerprint(generation));
    this.#notes.note(generation, table, this.#finding);
  }

  async #fingerprint(generation: number): Promise<string | undefined> {
    return await this.memory.fingerprint(this.namespace, generation);
  }
}

/** @throws WayoutError with the code of the backend's `lack`, where a network that translates could not have it */
export async function requireBackend(
  { network, nat }: NetworkConfiguration,
  namespace: NetworkNamespace,
): Promise<void> {
  if (nat.translations.size === 0) return;
  const required = await BACKENDS[nat.backend].require?.();
  required?.(namespace, `looking after network ${network}`);
}
