/** Keeps the bridge of this node's pods, with the first address of each podCIDR, as its Node says. */
import type { ReconcileStep, Repair } from "../agent/reconcile/step.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { ensureBridge } from "../network/bridge.ts";
import { bridgeProblems } from "../ways-out/expected.ts";
import type { ClusterView } from "./cluster.ts";
import { gatewaysOf } from "./pod-network.ts";

export interface BridgeStepListener {
  /** The node has other podCIDRs than before: pods with addresses of those are cut off. */
  readonly moved: (from: readonly string[], to: readonly string[]) => void;
}

export class PodBridgeStep implements ReconcileStep, Disposable {
  readonly name = "pod-bridge";
  readonly #route: Rtnetlink;
  /** As it was made last by this agent: what differs from that is a repair. */
  #made: string | undefined;

  /** @param before the gateways that our CNI configuration has given the bridge: only those give way to others */
  constructor(
    node: NetworkNamespace,
    private readonly bridge: string,
    private readonly view: () => ClusterView | undefined,
    private readonly before: () => readonly string[],
    private readonly told: BridgeStepListener,
  ) {
    this.#route = Rtnetlink.open(node);
  }

  run(): Repair[] {
    const podCidrs = this.view()?.own.podCidrs ?? [];
    if (podCidrs.length === 0) return [];
    const gateways = gatewaysOf(podCidrs);
    const link = this.#route.linkState(this.bridge);
    const found = bridgeProblems(this.#route, link, { bridge: this.bridge, gateways });
    const isNew = this.#made !== gateways.join();
    if (found.length === 0) {
      this.#made = gateways.join();
      return [];
    }
    const earlier = this.before();
    const hasMoved = earlier.some((one) => !gateways.includes(one));
    ensureBridge(this.#route, { name: this.bridge, gateways, force: hasMoved });
    if (hasMoved) this.#dropEarlier(earlier, gateways);
    this.#made = gateways.join();
    return isNew
      ? []
      : found.map(({ object, problem }) => ({ step: this.name, object, found: problem.text }));
  }

  [Symbol.dispose](): void {
    this.#route.close();
  }

  /** IPv6 lets both stand beside each other; the earlier prefix may be another node's by now. */
  #dropEarlier(earlier: readonly string[], gateways: readonly string[]): void {
    const link = this.#route.linkState(this.bridge);
    if (link === undefined) return;
    for (const address of this.#route.addresses({ interface: link.index })) {
      const text = `${address.address}/${address.prefixLength}`;
      if (earlier.includes(text) && !gateways.includes(text)) this.#route.deleteAddress(address);
    }
    this.told.moved(earlier, gateways);
  }
}
