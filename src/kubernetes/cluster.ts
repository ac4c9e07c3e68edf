/**
 * Room `kubernetes/`: what the API server says of this node and of the others, and what follows for the node's network:
 * the bridge of its pods, routes to the pods of other nodes, who is translated, and the CNI configuration.
 *
 *     API server ── WatchedList ──► Cluster (the last view that can be trusted) ──► steps of the agent
 *
 * In: Nodes of an API server; where it is and who we are there.
 * Out: the view; steps that the agent's reconciler runs; conditions and events for the API server.
 * Touches: the network to the API server; the bridge and its addresses; routes with a protocol number of our own; the
 *   directories of CNI, /run/wayout/cluster.
 */
import { hostname } from "node:os";
import { VERSION } from "../version.ts";
import type { ApiAccess } from "./access.ts";
import { ApiClient } from "./api-client.ts";
import { clusterNodeOf, isSameNode, type ClusterNode } from "./cluster-node.ts";
import { WatchedList, type Pace } from "./watched-list.ts";
import { present } from "../present.ts";

/** What is believed of the cluster. */
export interface ClusterView {
  readonly own: ClusterNode;
  /** All the other nodes. */
  readonly peers: readonly ClusterNode[];
}

export interface ClusterOptions {
  readonly access: ApiAccess;
  /** This node's name in the cluster. */
  readonly nodeName: string;
  /** Hears that view or trouble are others now. */
  readonly changed: () => void;
  readonly pace?: Pace;
}

/** kubelet's own rule where nothing else is said. */
export function defaultNodeName(): string {
  return process.env["NODE_NAME"] ?? hostname().toLowerCase();
}

export class Cluster {
  readonly client: ApiClient;
  readonly #nodes: WatchedList<ClusterNode>;
  #view: ClusterView | undefined;
  #unheard: string | undefined = "no list of the cluster's nodes has come yet";
  #doubt: string | undefined;

  constructor(private readonly options: ClusterOptions) {
    this.client = new ApiClient(options.access, `wayout-agent/${VERSION}`);
    this.#nodes = new WatchedList(this.client, {
      path: "/api/v1/nodes",
      read: clusterNodeOf,
      same: isSameNode,
      changed: (nodes) => this.#listed(nodes),
      trouble: (message) => {
        this.#unheard = message;
        options.changed();
      },
      ...present({ pace: options.pace }),
    });
  }

  /** undefined until a list came that can be trusted. */
  get view(): ClusterView | undefined {
    return this.#view;
  }

  /** Why the API server is not heard now; the view stays as it was. */
  get unheard(): string | undefined {
    return this.#unheard;
  }

  /** Why what it says is not followed, although it is heard. */
  get doubt(): string | undefined {
    return this.#doubt;
  }

  async stop(): Promise<void> {
    await this.#nodes.stop();
  }

  #listed(nodes: ReadonlyMap<string, ClusterNode>): void {
    this.#unheard = undefined;
    const { view, doubt } = trusted(nodes, this.options.nodeName, this.#view);
    this.#view = view;
    this.#doubt = doubt;
    this.options.changed();
  }
}

/**
 * What of a complete list is believed. A list without this very node is of another cluster, of a server that lost its
 * memory, or of a moment in which the node is registered anew: nothing follows from it.
 */
export function trusted(
  nodes: ReadonlyMap<string, ClusterNode>,
  nodeName: string,
  before: ClusterView | undefined,
): { readonly view: ClusterView | undefined; readonly doubt: string | undefined } {
  const listed = nodes.get(nodeName);
  if (listed === undefined) {
    const doubt = `the API server's list of ${nodes.size} nodes lacks this one, ${nodeName}: nothing is changed for it`;
    return { view: before, doubt };
  }
  const peers = [...nodes.values()].filter(({ name }) => name !== nodeName);
  const lost = listed.podCidrs.length === 0 && (before?.own.podCidrs.length ?? 0) > 0;
  const own = lost ? { ...listed, podCidrs: before!.own.podCidrs } : listed;
  const doubt = lost
    ? `this node has no podCIDR any more; ${own.podCidrs.join(" and ")} is kept until it has another`
    : undefined;
  return { view: { own, peers }, doubt };
}
