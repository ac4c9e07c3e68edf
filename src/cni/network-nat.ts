/**
 * A network's NAT rules: made by its first pod, gone with its last. Each ADD makes sure of them without reading them: the
 * ruleset is still of the generation in which they were seen in order, or our table is still the very one.
 */
import { WayoutError } from "../error.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { NetlinkConnection } from "../kernel/netlink/connection.ts";
import { NETLINK_NETFILTER, openTransport } from "../kernel/netlink/transport.ts";
import { rulesetGeneration } from "../linux/nftables/generation.ts";
import type { NatBackend, NatDrift } from "../nat/backend.ts";
import { GenerationMemory } from "../nat/generation-memory.ts";
import type { NatIntent } from "../nat/intent.ts";
import { readWants, removedText, wantsText, type NetworkWants } from "../nat/network-wants.ts";
import { networkOwner } from "../nat/owner-name.ts";
import type { NatWish } from "./configuration.ts";

/** What a network wants of NAT. */
export interface NetworkNat {
  readonly network: string;
  readonly wish: NatWish;
  /** The subnets of its pods, as far as they are known here. */
  readonly subnets: readonly string[];
  /** The interfaces by which its pods come (entrance.ts). */
  readonly from: readonly string[];
}

/** Makes the rules be there. No transaction when they are, and in the usual case nobody reads them. */
export async function ensureNat(wanted: NetworkNat, namespace: NetworkNamespace): Promise<void> {
  const problems = await lookAfter(wanted, namespace, async (nat, intent) => {
    const found = nat.verify(intent);
    if (found.length === 0) return found;
    const { applyAndSettle } = await import("../nat/settle-flows.ts");
    // Connections that began while there were no rules would leave with their pods' addresses to their end.
    applyAndSettle(nat, namespace, intent);
    return found;
  });
  if (problems.length === 0) return;
  new GenerationMemory(namespace).drop((finding) => finding === removedText(networkOwner(wanted.network)));
  // Seen once more, they are remembered: the next call need not look, and the doctor knows that there were rules.
  if (wanted.wish.backend === "nftables") await natProblems(wanted, namespace);
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

/** What is not as the network wants it, in words; empty when all is well. */
export async function natProblems(wanted: NetworkNat, namespace: NetworkNamespace): Promise<string[]> {
  const problems = await lookAfter(wanted, namespace, (nat, intent) => nat.verify(intent));
  return problems.map(({ text }) => text);
}

/** Looks at the rules, unless they are remembered as in order; remembers them when they are. */
async function lookAfter(
  wanted: NetworkNat,
  namespace: NetworkNamespace,
  look: (nat: NatBackend, intent: NatIntent) => readonly NatDrift[] | Promise<readonly NatDrift[]>,
): Promise<readonly NatDrift[]> {
  const { wish } = wanted;
  if (wish.translations.size === 0) return [];
  const remembered = wish.backend === "nftables" ? new Remembered(wanted, namespace) : undefined;
  const generation = remembered?.generation();
  if (generation !== undefined && (await remembered!.holds(generation))) return [];
  using nat = await openBackend(wish, namespace);
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
  backend: NatWish["backend"],
  namespace: NetworkNamespace,
): Promise<boolean> {
  const elsewhere = await removeElsewhere(network, backend, namespace);
  const here = await ifAble(async () => {
    using nat = await openBackend({ backend }, namespace);
    const removed = nat.remove(networkOwner(network));
    new GenerationMemory(namespace).drop(
      (finding) => readWants(finding)?.network === network || finding === removedText(networkOwner(network)),
    );
    return removed;
  });
  return here || elsewhere;
}

/** The same in the backend that the network does not have (any more). While pods are there it may hold what they need. */
async function removeElsewhere(
  network: string,
  backend: NatWish["backend"],
  namespace: NetworkNamespace,
): Promise<boolean> {
  const other = otherBackend(backend);
  return await ifAble(async () => {
    if (!(await mayHold(other, namespace))) return false;
    using nat = await openBackend({ backend: other }, namespace);
    return nat.remove(networkOwner(network));
  });
}

/** Whether the network has rules. */
export async function hasNat(
  network: string,
  backend: NatWish["backend"],
  namespace: NetworkNamespace,
): Promise<boolean> {
  for (const name of [backend, otherBackend(backend)]) {
    const has = await ifAble(async () => {
      using nat = await openBackend({ backend: name }, namespace);
      return nat.intents().some(({ owner }) => owner === networkOwner(network));
    });
    if (has) return true;
  }
  return false;
}

function otherBackend(backend: NatWish["backend"]): NatWish["backend"] {
  return backend === "nftables" ? "iptables" : "nftables";
}

/** To start the iptables programs costs more than all the rest of a DEL; the kernel tells for less that they have nothing. */
async function mayHold(backend: NatWish["backend"], namespace: NetworkNamespace): Promise<boolean> {
  if (backend === "nftables") return true;
  const { holdsRules } = await import("../nat/backends/iptables/traces.ts");
  return holdsRules(namespace);
}

/** False where there can be no rules: an ADD that failed for that is followed by a DEL, which must not fail for ever. */
async function ifAble(answer: () => Promise<boolean>): Promise<boolean> {
  try {
    return await answer();
  } catch (error) {
    if (error instanceof WayoutError && ["no-nftables", "no-iptables"].includes(error.code)) return false;
    throw error;
  }
}

/** Loaded only when rules are looked at, and then only the backend that is used. */
async function openBackend(
  { backend }: Pick<NatWish, "backend">,
  namespace: NetworkNamespace,
): Promise<NatBackend> {
  if (backend === "nftables")
    return new (await import("../nat/backends/nftables/nftables.ts")).NftablesNat({ namespace });
  return new (await import("../nat/backends/iptables/iptables.ts")).IptablesNat({ namespace });
}

/**
 * Together with what pods of this network want that were attached with other subnets: under an older configuration,
 * or by an IPAM plugin that gives each pod its own.
 */
async function intentOf(wanted: NetworkNat, nat: NatBackend): Promise<NatIntent | undefined> {
  const { networkIntent } = await import("../nat/network-intent.ts");
  const owner = networkOwner(wanted.network);
  const earlier = nat.intents().find((intent) => intent.owner === owner);
  return networkIntent(wantsOf(wanted), earlier);
}

/** The name that the nftables backend's table has. */
const TABLE = "wayout";

function wantsOf({ network, wish, subnets, from }: NetworkNat): NetworkWants {
  const { translations, nonMasqueradeCidrs } = wish;
  return { network, translations, nonMasqueradeCidrs, subnets, from };
}

/** What is remembered of these very rules, from one call to the next. */
class Remembered {
  readonly #memory: GenerationMemory;
  readonly #finding: string;

  constructor(
    wanted: NetworkNat,
    private readonly namespace: NetworkNamespace,
  ) {
    this.#memory = new GenerationMemory(namespace);
    this.#finding = wantsText(wantsOf(wanted));
  }

  /** undefined on a kernel without nf_tables: opening the backend says so in better words. */
  generation(): number | undefined {
    return this.#ask(rulesetGeneration);
  }

  async holds(generation: number): Promise<boolean> {
    if (this.#memory.holds(generation, this.#finding)) return true;
    return this.#memory.carries(generation, await this.#table(generation), this.#finding);
  }

  /** @param generation from before the rules were read: what changed since is then noticed next time */
  async note(generation: number): Promise<void> {
    this.#memory.note(generation, await this.#table(generation), this.#finding);
  }

  async #table(generation: number): Promise<string | undefined> {
    const { tableFingerprint } = await import("../kernel/nftables/fingerprint.ts");
    return this.#ask((connection) => tableFingerprint(connection, TABLE, generation));
  }

  #ask<T>(question: (connection: NetlinkConnection) => T): T | undefined {
    try {
      using connection = new NetlinkConnection(
        openTransport(NETLINK_NETFILTER, { namespace: this.namespace }),
      );
      return question(connection);
    } catch {
      return undefined;
    }
  }
}
