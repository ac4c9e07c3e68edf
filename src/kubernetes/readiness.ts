/**
 * Whether this node can be told ready without lying: its own chain was proven by a packet, and, where other nodes are there
 * that say they are ready, one of them has answered. Once it was so, silent peers are told, and change nothing: the node's
 * pods must not be moved because others are gone.
 */
import { addressOf, familyOf, type IpFamily } from "../address/ip.ts";
import { messageOf } from "../error.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { addressIn, type ClusterNode } from "./cluster-node.ts";
import type { ClusterView } from "./cluster.ts";
import type { PluginConfiguration } from "./cni-step.ts";
import { gatewaysOf } from "./pod-network.ts";
import { answering, probeChain } from "./probe.ts";

const UNPROVEN_EVERY_MS = 2_000;
const PEERS_EVERY_MS = 30_000;
const PEERS_TRIED = 3;
/** So many times in a row no peer has answered before that is told: one lost packet is none of our business. */
const SILENT_TIMES = 3;

export interface ReadinessState {
  /** Latched: once proven, only another podCIDR takes it back. */
  readonly ready: boolean;
  /** Why it is not ready, or not well; undefined when all is well. */
  readonly problem: string | undefined;
  readonly reason: "Ready" | "NoPodCidr" | "ChainUnproven" | "PeersSilent";
}

export interface ReadinessOptions {
  readonly node: NetworkNamespace;
  readonly view: () => ClusterView | undefined;
  readonly plugin: () => PluginConfiguration | undefined;
  readonly binDirectory: string;
  /** Why the steps before do not stand yet; undefined: they do. */
  readonly obstacle: () => string | undefined;
  /** Peers to whose pods routes lead. */
  readonly isRouted: (node: ClusterNode) => boolean;
  readonly changed: (state: ReadinessState) => void;
  readonly random?: () => number;
}

export class Readiness {
  #state: ReadinessState = { ready: false, problem: "nothing was tried yet", reason: "ChainUnproven" };
  /** The podCIDRs of which the chain was proven. */
  #proven: string | undefined;
  #ready: string | undefined;
  #silent = 0;
  /** The podCIDRs of the last try with packets, and until when that is not repeated. */
  #tried: string | undefined;
  #notBefore = 0;
  #nextPeers = 0;
  #running: Promise<void> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;

  constructor(private readonly options: ReadinessOptions) {}

  get state(): ReadinessState {
    return this.#state;
  }

  /** Whether the chain of these podCIDRs was proven: the CNI configuration may be written. */
  get isChainProven(): boolean {
    return this.#proven !== undefined && this.#proven === this.#podCidrs();
  }

  /** Tries at once what is not proven yet; one try at a time. */
  wake(): void {
    if (this.#stopped || this.#running !== undefined) return;
    clearTimeout(this.#timer);
    this.#running = this.#try()
      .catch((error: unknown) =>
        this.#becomes({ ready: false, problem: messageOf(error), reason: "ChainUnproven" }),
      )
      .finally(() => {
        this.#running = undefined;
        if (this.#stopped) return;
        this.#timer = setTimeout(() => this.wake(), this.#state.ready ? PEERS_EVERY_MS : UNPROVEN_EVERY_MS);
      });
  }

  /**
   * Something may be another by now. Only what is not ready is worth trying again, and what was tried with packets waits:
   * the try itself makes links, which are changes.
   */
  changed(): void {
    if (this.#state.ready && this.#ready === this.#podCidrs()) return;
    if (performance.now() >= this.#notBefore || this.#tried !== this.#podCidrs()) this.wake();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  #podCidrs(): string | undefined {
    const podCidrs = this.options.view()?.own.podCidrs ?? [];
    return podCidrs.length === 0 ? undefined : podCidrs.join();
  }

  async #try(): Promise<void> {
    const podCidrs = this.#podCidrs();
    const view = this.options.view();
    const plugin = this.options.plugin();
    // Nothing is known of the cluster yet: there is nothing to say either.
    if (view === undefined) return;
    if (podCidrs === undefined || plugin === undefined) {
      this.#ready = undefined;
      const problem =
        "this node has no podCIDR yet: the controller manager gives it one (--allocate-node-cidrs)";
      return this.#becomes({ ready: false, problem, reason: "NoPodCidr" });
    }
    const unproven = (problem: string): void =>
      this.#becomes({ ready: false, problem, reason: "ChainUnproven" });
    if (this.#proven !== podCidrs) {
      const obstacle = this.options.obstacle();
      if (obstacle !== undefined) return unproven(obstacle);
      this.#tried = podCidrs;
      this.#notBefore = performance.now() + UNPROVEN_EVERY_MS;
      const { node, binDirectory } = this.options;
      const problem = await probeChain(node, plugin, binDirectory, this.#ownAddresses(view));
      if (problem !== undefined) return unproven(problem);
      if (this.#podCidrs() !== podCidrs) return;
      this.#proven = podCidrs;
    }
    await this.#tryPeers(view, podCidrs);
  }

  async #tryPeers(view: ClusterView, podCidrs: string): Promise<void> {
    this.#notBefore = performance.now() + UNPROVEN_EVERY_MS;
    const silent = await this.#silentPeers(view);
    if (silent === undefined) {
      this.#silent = 0;
      this.#ready = podCidrs;
      return this.#becomes({ ready: true, problem: undefined, reason: "Ready" });
    }
    this.#silent++;
    const isReady = this.#ready === podCidrs;
    if (isReady && this.#silent < SILENT_TIMES) return;
    this.#becomes({ ready: isReady, problem: silent, reason: "PeersSilent" });
  }

  /** The address of the node in each family of its pods, else the bridge's: what a pod asks. */
  #ownAddresses({ own }: ClusterView): string[] {
    return gatewaysOf(own.podCidrs).map((gateway) => {
      const family = familyOf(gateway);
      return addressIn(own, family) ?? addressOf(gateway);
    });
  }

  /** A sentence when there are ready peers in a family and none of those tried has answered. */
  async #silentPeers(view: ClusterView): Promise<string | undefined> {
    for (const gateway of gatewaysOf(view.own.podCidrs)) {
      const family = familyOf(gateway);
      const tried = this.#some(view.peers, family);
      if (tried.length === 0) continue;
      const addresses = tried.map((peer) => addressIn(peer, family)!);
      const answered = await answering(this.options.node, family, addresses, gateway);
      if (answered.size > 0) continue;
      const named = tried.map((peer, index) => `${peer.name} (${addresses[index]})`).join(", ");
      return `no other node answers to ${addressOf(gateway)}, this node's address among its pods: tried ${named}. Either they have no route to it, or something between drops it`;
    }
    return undefined;
  }

  /** Others each time, so that one that is dead is not asked for ever. */
  #some(peers: readonly ClusterNode[], family: IpFamily): ClusterNode[] {
    const candidates = peers.filter(
      (peer) => peer.ready && addressIn(peer, family) !== undefined && this.options.isRouted(peer),
    );
    const start = this.#nextPeers++ * PEERS_TRIED;
    return candidates
      .map((_, index) => candidates[(start + index) % candidates.length]!)
      .slice(0, PEERS_TRIED);
  }

  #becomes(state: ReadinessState): void {
    const isNews = JSON.stringify(state) !== JSON.stringify(this.#state);
    this.#state = state;
    if (isNews) this.options.changed(state);
  }
}
