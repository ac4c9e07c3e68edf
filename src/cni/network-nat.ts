/**
 * A network's NAT rules: made by its first pod, gone with its last. Each ADD makes sure of them without reading them,
 * as long as the ruleset is of the generation in which they were last seen in order.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { NetlinkConnection } from "../kernel/netlink/connection.ts";
import { NETLINK_NETFILTER, openTransport } from "../kernel/netlink/transport.ts";
import { rulesetGeneration } from "../kernel/nftables/generation.ts";
import type { NatBackend } from "../nat/backend.ts";
import { ownerName, type NatIntent } from "../nat/intent.ts";
import type { NatWish } from "./configuration.ts";
import { RUN_DIRECTORY } from "./network-lock.ts";

/** What a network wants of NAT. */
export interface NetworkNat {
  readonly network: string;
  readonly wish: NatWish;
  /** The subnets of its pods, as far as they are known here. */
  readonly subnets: readonly string[];
}

/** The owner that a network's NAT rules carry. */
export function natOwner(network: string): string {
  return ownerName("cni", network);
}

/** Makes the rules be there. No transaction when they are, and nothing but one number is read in the usual case. */
export async function ensureNat(wanted: NetworkNat, namespace: NetworkNamespace): Promise<void> {
  if (wanted.wish.translations.size === 0) return;
  const memory = new VerifiedRules(wanted, namespace);
  const generation = memory.generation();
  if (memory.covers(generation)) return;
  using nat = await openBackend(wanted.wish, namespace);
  const intent = await intentOf(wanted, nat);
  if (intent === undefined) return;
  if (nat.verify(intent).length === 0) memory.keep(generation);
  else nat.apply(intent);
}

/** What is not as the network wants it, in words; empty when all is well. */
export async function natProblems(wanted: NetworkNat, namespace: NetworkNamespace): Promise<string[]> {
  if (wanted.wish.translations.size === 0) return [];
  const memory = new VerifiedRules(wanted, namespace);
  if (memory.covers(memory.generation())) return [];
  using nat = await openBackend(wanted.wish, namespace);
  const intent = await intentOf(wanted, nat);
  return intent === undefined ? [] : nat.verify(intent).map(({ text }) => text);
}

/** Takes the network's rules away. */
export async function removeNat(
  network: string,
  backend: NatWish["backend"],
  namespace: NetworkNamespace,
): Promise<void> {
  using nat = await openBackend({ backend }, namespace);
  nat.remove(natOwner(network));
  rmSync(memoryPath(network), { force: true });
}

/** Loaded only when rules are looked at: in the steady state they are not. */
async function openBackend(
  { backend }: Pick<NatWish, "backend">,
  namespace: NetworkNamespace,
): Promise<NatBackend> {
  const { openNat } = await import("../nat/open.ts");
  return openNat(backend, namespace);
}

/**
 * Together with what pods of this network want that were attached with other subnets: under an older configuration,
 * or by an IPAM plugin that gives each pod its own.
 */
async function intentOf(wanted: NetworkNat, nat: NatBackend): Promise<NatIntent | undefined> {
  const { natIntent } = await import("./nat-intent.ts");
  const owner = natOwner(wanted.network);
  const earlier = nat.intents().find((intent) => intent.owner === owner);
  return natIntent(owner, wanted.wish, wanted.subnets, earlier);
}

function memoryPath(network: string): string {
  return `${RUN_DIRECTORY}/${network}.nat`;
}

/** Where it is noted in which generation of which namespace's ruleset these very rules were seen in order. */
class VerifiedRules {
  readonly #path: string;

  constructor(
    private readonly wanted: NetworkNat,
    private readonly namespace: NetworkNamespace,
  ) {
    this.#path = memoryPath(wanted.network);
  }

  /** undefined when the rules are not in nf_tables, or not only there. */
  generation(): number | undefined {
    if (this.wanted.wish.backend !== "nftables") return undefined;
    using connection = new NetlinkConnection(openTransport(NETLINK_NETFILTER, { namespace: this.namespace }));
    try {
      return rulesetGeneration(connection);
    } catch {
      // A kernel without nf_tables: opening the backend says so in better words.
      return undefined;
    }
  }

  covers(generation: number | undefined): boolean {
    if (generation === undefined) return false;
    try {
      return readFileSync(this.#path, "utf8") === this.#text(generation);
    } catch {
      return false;
    }
  }

  /** Only saves time, so a failure to write it is none. */
  keep(generation: number | undefined): void {
    if (generation === undefined) return;
    try {
      mkdirSync(RUN_DIRECTORY, { recursive: true, mode: 0o755 });
      writeFileSync(`${this.#path}.${process.pid}`, this.#text(generation));
      renameSync(`${this.#path}.${process.pid}`, this.#path);
    } catch {
      rmSync(`${this.#path}.${process.pid}`, { force: true });
    }
  }

  #text(generation: number): string {
    const { wish, subnets } = this.wanted;
    const wants = [[...wish.translations], wish.nonMasqueradeCidrs, subnets];
    return `${this.namespace.cookie} ${generation} ${JSON.stringify(wants)}\n`;
  }
}
