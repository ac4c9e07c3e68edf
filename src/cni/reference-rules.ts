/**
 * What the reference plugins leave in the ruleset for each pod: a node that came from them has pods whose DEL comes to
 * us. Their rules carry comments with the pod's names, by which, and by nothing else, they are known:
 *
 *     iptables   a chain CNI-HASH and a jump to it, `name: "NETWORK" id: "CONTAINER"`
 *     nftables   a rule of table inet cni_plugins_masquerade, `HASH-HASH, net: NETWORK, if: INTERFACE, id: CONTAINER`
 *     macspoofchk  chains and a jump in table bridge nat, `macspoofchk-CONTAINER-INTERFACE`
 */
import { Nftables } from "../kernel/nftables/nftables.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { AddressOwner } from "../ipam/assignment.ts";
import { SystemError } from "../linux/errno.ts";
import { deleteChain, deleteRule, flushChain, type Transaction } from "../linux/nftables/commands.ts";
import type { ChainRef, Rule } from "../linux/nftables/ruleset.ts";
import { restoreNat, saveNat } from "../nat/backends/iptables/program.ts";
import { commentOf } from "../rules/rule-comment.ts";
import { shaHex } from "../platform/bytes.ts";

const FAMILIES = ["ip", "ip6"] as const;
const MASQUERADE_RULES: ChainRef = { family: "inet", table: "cni_plugins_masquerade", chain: "masq_checks" };
/** Hexadecimal digits of the hashes in the names. */
const CHAIN_HASH = 24;
const COMMENT_HASH = 16;
/** include/uapi/linux/netfilter/nf_tables.h, less the NUL. */
const NFT_NAME_MAXLEN = 255;

/** The per-pod rules of the reference plugins, in the calling thread's namespace or another. */
export class ReferenceRules implements Disposable {
  /** undefined on a kernel without nf_tables, which can have rules of iptables-legacy all the same. */
  readonly #nftables: Nftables | undefined;

  constructor(private readonly namespace: NetworkNamespace) {
    this.#nftables = openNftables(namespace);
  }

  /** Takes away what is there for a pod. False when there was nothing. */
  remove(network: string, owner: AddressOwner): boolean {
    const changes = [
      ...FAMILIES.flatMap((family) => this.#masqueradeChain(family, network, owner)),
      ...this.#masqueradeRules(network, owner),
      ...this.#macChecks(owner),
    ];
    if (changes.length > 0) {
      this.#nftables?.transaction(changes, `removing the rules of another plugin for ${owner.container}`);
    }
    const inLegacy = ([4, 6] as const).filter((family) => this.#removeLegacy(family, network, owner));
    return changes.length > 0 || inLegacy.length > 0;
  }

  /** The pods of a network that have such rules. The iptables ones name no interface. */
  owners(network: string): AddressOwner[] {
    const jumps = FAMILIES.flatMap((family) =>
      this.#rulesOf({ family, table: "nat", chain: "POSTROUTING" }).flatMap((rule) => commentOf(rule) ?? []),
    );
    const saved = ([4, 6] as const).flatMap((family) =>
      saveNat(this.namespace, "legacy", family).split("\n"),
    );
    const printed = saved.flatMap(
      (line) => /--comment "(.*)" -j CNI-/.exec(line)?.[1]?.replaceAll("\\", "") ?? [],
    );
    const masquerading = this.#rulesOf(MASQUERADE_RULES).flatMap(({ comment = "" }) => {
      const [, hash, interfaceName, container] = /^([0-9a-f]+)-.*, if: (.*), id: (.*)$/.exec(comment) ?? [];
      return container === undefined || hash !== hashOf(network, COMMENT_HASH)
        ? []
        : [{ container, interfaceName: interfaceName! }];
    });
    const named = [...jumps, ...printed].flatMap((comment) => {
      const [, of, container] = /^name: "(.*)" id: "(.*)"$/.exec(comment) ?? [];
      return of === network ? [{ container: container!, interfaceName: "" }] : [];
    });
    const distinct = new Map([...named, ...masquerading].map((owner) => [JSON.stringify(owner), owner]));
    return [...distinct.values()];
  }

  [Symbol.dispose](): void {
    this.#nftables?.close();
  }

  #masqueradeChain(family: "ip" | "ip6", network: string, { container }: AddressOwner): Transaction {
    const chain = { family, table: "nat", chain: chainName(network, container) };
    if (this.#nftables?.getChain(chain) === undefined) return [];
    const postrouting = { ...chain, chain: "POSTROUTING" };
    return [
      ...this.#deletions(postrouting, (comment) => comment === chainComment(network, container)),
      flushChain(chain),
      deleteChain(chain),
    ];
  }

  #masqueradeRules(network: string, { container, interfaceName }: AddressOwner): Transaction {
    const pod = hashOf(`${interfaceName}:${container}`, COMMENT_HASH);
    const begin = `${hashOf(network, COMMENT_HASH)}-${pod}`;
    return this.#deletions(MASQUERADE_RULES, (comment) => comment.startsWith(begin));
  }

  #macChecks({ container, interfaceName }: AddressOwner): Transaction {
    const prerouting: ChainRef = { family: "bridge", table: "nat", chain: "PREROUTING" };
    const chain = { ...prerouting, chain: `cni-br-iface-${container}-${interfaceName}` };
    const macs = { ...chain, chain: `${chain.chain}-mac` };
    // What has no room in the kernel's names was never made.
    if (macs.chain.length > NFT_NAME_MAXLEN || this.#nftables?.getChain(chain) === undefined) return [];
    const chains = this.#nftables?.getChain(macs) === undefined ? [chain] : [chain, macs];
    return [
      ...this.#deletions(prerouting, (comment) => comment === `macspoofchk-${container}-${interfaceName}`),
      ...chains.map(flushChain),
      ...chains.map(deleteChain),
    ];
  }

  #deletions(chain: ChainRef, isMeant: (comment: string) => boolean): Transaction {
    return this.#rulesOf(chain)
      .filter((rule) => isMeant(commentOf(rule) ?? ""))
      .map(({ handle }) => deleteRule({ ...chain, handle }));
  }

  #rulesOf(chain: ChainRef): Rule[] {
    return this.#nftables?.chainRules(chain) ?? [];
  }

  #removeLegacy(family: 4 | 6, network: string, { container }: AddressOwner): boolean {
    const saved = saveNat(this.namespace, "legacy", family).split("\n");
    const chain = chainName(network, container);
    if (!saved.some((line) => line.startsWith(`:${chain} `))) return false;
    const jumps = saved.filter((line) => line.startsWith("-A POSTROUTING ") && line.endsWith(` -j ${chain}`));
    const gone = jumps.map((line) => line.replace("-A", "-D"));
    const lines = ["*nat", ...gone, `-F ${chain}`, `-X ${chain}`, "COMMIT", ""];
    restoreNat(this.namespace, "legacy", family, lines.join("\n"));
    return true;
  }
}

function openNftables(namespace: NetworkNamespace): Nftables | undefined {
  let nftables: Nftables | undefined;
  try {
    nftables = Nftables.open(namespace);
    nftables.generation();
    return nftables;
  } catch (error) {
    nftables?.close();
    if (error instanceof SystemError && error.code === "EPERM") throw error;
    return undefined;
  }
}

function chainName(network: string, container: string): string {
  return `CNI-${hashOf(network + container, CHAIN_HASH)}`;
}

function chainComment(network: string, container: string): string {
  return `name: "${network}" id: "${container}"`;
}

function hashOf(text: string, digits: number): string {
  return shaHex("sha512", text).slice(0, digits);
}
