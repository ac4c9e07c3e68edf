/** Keeps the bridge of this node's pods, with the first address of each podCIDR, as its Node says. */
import { parseCidr } from "../address/cidr.ts";
import type { ReconcileStep, Repair } from "../agent/reconcile/step.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { ensureBridge, missingGateways } from "../network/bridge.ts";
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
    const found = this.#missing(gateways);
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
    return isNew ? [] : found;
  }

  [Symbol.dispose](): void {
    this.#route.close();
  }

  #missing(gateways: readonly string[]): Repair[] {
    const link = this.#route.linkState(this.bridge);
    if (link === undefined)
      return [this.#repair(`bridge ${this.bridge}`, `the bridge ${this.bridge} is missing`)];
    const missing = missingGateways(
      link,
      this.#route.addresses({ interface: link.index }),
      gateways.map((text) => parseCidr(text, "keep")),
      // Whether another address is in the way is judged where it is made.
      { force: true },
    );
    return [
      ...(link.up ? [] : [this.#repair(`bridge ${this.bridge}`, `the bridge ${this.bridge} is down`)]),
      ...missing.map(({ address, prefixLength }) =>
        this.#repair(
          `address ${address}/${prefixLength} on ${this.bridge}`,
          `the gateway address ${address}/${prefixLength} is missing on ${this.bridge}`,
        ),
      ),
    ];
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

  #repair(object: string, found: string): Repair {
    return { step: this.name, object, found };
  }
}
