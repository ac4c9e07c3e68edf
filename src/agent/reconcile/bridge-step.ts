/**
 * Keeps what attached namespaces stand on: the bridge, its addresses, and their ports in it, as `attach` wrote them down.
 * A pod's own side is not the agent's, nor is a veth that is gone: only a new attach can make another.
 */
import type { NetworkRecord, NodeRecord } from "../../attachment/record.ts";
import { AttachmentStore } from "../../attachment/store.ts";
import { WayoutError } from "../../error.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import { Rtnetlink } from "../../kernel/route/rtnetlink.ts";
import { ensureBridge } from "../../network/bridge.ts";
import { bridgeProblems } from "../../ways-out/expected.ts";
import { notEnslaved, type NodeProblem } from "../../ways-out/problem.ts";
import type { ReconcileStep, Repair } from "./step.ts";

export class BridgeStep implements ReconcileStep, Disposable {
  readonly name = "network";
  readonly #store: AttachmentStore;
  readonly #route: Rtnetlink;
  #read: { readonly version: string; readonly record: NodeRecord } | undefined;

  constructor(node: NetworkNamespace) {
    this.#store = new AttachmentStore(node);
    this.#route = Rtnetlink.open(node);
  }

  run(): Repair[] {
    if (this.#compared(this.#record(), false).length === 0) return [];
    // Attach and detach change both the record and the links: while one is at work, neither is what it will be.
    const found = this.#store.ifUnlocked(() => this.#compared(this.#store.read(), true)) ?? [];
    return found.map(({ object, problem }) => ({ step: this.name, object, found: problem.text }));
  }

  [Symbol.dispose](): void {
    this.#route.close();
  }

  /** Read again when it changed: those of hundreds of pods are long, and checked field by field. */
  #record(): NodeRecord {
    const { version } = this.#store;
    if (this.#read?.version !== version) this.#read = { version, record: this.#store.read() };
    return this.#read.record;
  }

  #compared(record: NodeRecord, mend: boolean): NodeProblem[] {
    return record.networks.flatMap((network) => {
      const ports = record.attachments
        .filter(({ bridge, phase }) => bridge === network.bridge && phase === "attached")
        .map(({ hostInterface }) => hostInterface);
      if (ports.length === 0) return [];
      return [...this.#bridge(network, mend), ...this.#ports(network.bridge, ports, mend)];
    });
  }

  #bridge(network: NetworkRecord, mend: boolean): NodeProblem[] {
    const { bridge, gateways, before } = network;
    const link = this.#route.linkState(bridge);
    if (link === undefined && before !== undefined) throw goneBridge(bridge);
    const found = bridgeProblems(this.#route, link, network);
    if (mend && found.length > 0) ensureBridge(this.#route, { name: bridge, gateways });
    return found;
  }

  #ports(bridge: string, names: readonly string[], mend: boolean): NodeProblem[] {
    const index = this.#route.linkState(bridge)?.index;
    const there = new Set(index === undefined ? [] : this.#route.portNames(index));
    return names.flatMap((name) => {
      if (there.has(name)) return [];
      const link = this.#route.linkState(name);
      if (link === undefined || link.master === index) return [];
      if (mend && index !== undefined) this.#route.setLink(link.index, { master: index, up: true });
      return [{ object: `port ${name} of ${bridge}`, problem: notEnslaved(name, bridge) }];
    });
  }
}

function goneBridge(bridge: string): WayoutError {
  return new WayoutError({
    code: "bridge-gone",
    kind: "broken",
    doing: `keeping the bridge ${bridge}`,
    said: "it is gone, and wayout did not make it: the program that made it knows its settings",
    todo: `Make it again; its address and its ports are then put back. Or detach its pods: wayout list names them.`,
  });
}
