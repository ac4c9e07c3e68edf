/**
 * A network's NAT rules: made by its first pod, gone with its last. Each ADD makes sure of them without reading them: the
 * ruleset is still of the generation in which they were seen in order, or our table is still the very one.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { WayoutError } from "../error.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { NetlinkConnection } from "../kernel/netlink/connection.ts";
import { NETLINK_NETFILTER, openTransport } from "../kernel/netlink/transport.ts";
import { tableFingerprint } from "../kernel/nftables/fingerprint.ts";
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

/** Makes the rules be there. No transaction when they are, and in the usual case nobody reads them. */
export async function ensureNat(wanted: NetworkNat, namespace: NetworkNamespace): Promise<void> {
  if (wanted.wish.translations.size === 0) return;
  const memory = new VerifiedRules(wanted, namespace);
  const now = memory.look();
  if (memory.covers(now)) return;
  using nat = await openBackend(wanted.wish, namespace);
  const intent = await intentOf(wanted, nat);
  if (intent === undefined) return;
  if (nat.verify(intent).length === 0) memory.keep(now);
  else nat.apply(intent);
}

/** What is not as the network wants it, in words; empty when all is well. */
export async function natProblems(wanted: NetworkNat, namespace: NetworkNamespace): Promise<string[]> {
  if (wanted.wish.translations.size === 0) return [];
  const memory = new VerifiedRules(wanted, namespace);
  const now = memory.look();
  if (memory.covers(now)) return [];
  using nat = await openBackend(wanted.wish, namespace);
  const intent = await intentOf(wanted, nat);
  const problems = intent === undefined ? [] : nat.verify(intent).map(({ text }) => text);
  if (problems.length === 0) memory.keep(now);
  return problems;
}

/** Takes the network's rules away, if this node can have any. Returns whether there were some. */
export async function removeNat(
  network: string,
  backend: NatWish["backend"],
  namespace: NetworkNamespace,
): Promise<boolean> {
  const removed = await ifAble(async () => {
    using nat = await openBackend({ backend }, namespace);
    return nat.remove(natOwner(network));
  });
  rmSync(memoryPath(network), { force: true });
  return removed;
}

/** Whether the network has rules. */
export async function hasNat(
  network: string,
  backend: NatWish["backend"],
  namespace: NetworkNamespace,
): Promise<boolean> {
  return await ifAble(async () => {
    using nat = await openBackend({ backend }, namespace);
    return nat.intents().some(({ owner }) => owner === natOwner(network));
  });
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
  if (backend === "nftables") return new (await import("../nat/nftables.ts")).NftablesNat({ namespace });
  return new (await import("../nat/iptables.ts")).IptablesNat({ namespace });
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

/** The name that the nftables backend's table has. */
const TABLE = "wayout";

/** What can be seen of the ruleset without reading it. */
interface Sight {
  readonly generation: number;
  /** The table's digest, looked up only when the generation is another one. */
  readonly table: () => string | undefined;
}

/** Where it is noted how these very rules looked when they were last seen in order. */
class VerifiedRules {
  readonly #path: string;

  constructor(
    private readonly wanted: NetworkNat,
    private readonly namespace: NetworkNamespace,
  ) {
    this.#path = memoryPath(wanted.network);
  }

  /** undefined when the rules are not in nf_tables, or not only there. */
  look(): Sight | undefined {
    if (this.wanted.wish.backend !== "nftables") return undefined;
    const ask = <T>(question: (connection: NetlinkConnection) => T): T | undefined => {
      try {
        using connection = new NetlinkConnection(
          openTransport(NETLINK_NETFILTER, { namespace: this.namespace }),
        );
        return question(connection);
      } catch {
        // A kernel without nf_tables: opening the backend says so in better words.
        return undefined;
      }
    };
    const generation = ask(rulesetGeneration);
    if (generation === undefined) return undefined;
    return { generation, table: () => ask((connection) => tableFingerprint(connection, TABLE)) };
  }

  covers(sight: Sight | undefined): boolean {
    if (sight === undefined) return false;
    const [wants, generation, table] = this.#read();
    if (wants !== this.#wants) return false;
    if (generation === String(sight.generation)) return true;
    const same = table !== undefined && table !== "" && table === sight.table();
    if (same) this.#write(sight.generation, table);
    return same;
  }

  /** @param sight from before the rules were read: what changed since is then noticed next time */
  keep(sight: Sight | undefined): void {
    if (sight !== undefined) this.#write(sight.generation, sight.table() ?? "");
  }

  #read(): string[] {
    try {
      return readFileSync(this.#path, "utf8").split("\n");
    } catch {
      return [];
    }
  }

  /** Only saves time, so a failure to write it is none. */
  #write(generation: number, table: string): void {
    const beside = `${this.#path}.${process.pid}`;
    try {
      mkdirSync(RUN_DIRECTORY, { recursive: true, mode: 0o755 });
      writeFileSync(beside, `${this.#wants}\n${generation}\n${table}\n`);
      renameSync(beside, this.#path);
    } catch {
      rmSync(beside, { force: true });
    }
  }

  get #wants(): string {
    const { wish, subnets } = this.wanted;
    return JSON.stringify([this.namespace.cookie, [...wish.translations], wish.nonMasqueradeCidrs, subnets]);
  }
}
