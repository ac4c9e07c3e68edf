/** A pod: any network namespace that lives on this node, with every name it answers to. */
export interface Pod {
  /** What a person would call it: "ns-blue", "default/web-1", a container's name, "pid:4711". */
  readonly name: string;
  /** Everything else it answers to: container ids, paths, names of its containers. */
  readonly aliases: readonly string[];
  /** Who told us about it first. */
  readonly source: PodSource;
  /** A path that opens its namespace now. */
  readonly path: string;
  /** The kernel's number for the namespace. */
  readonly inode: number;
  /** A process that lives in it; absent when it is held by a name only. */
  readonly pid?: number;
  readonly kubernetes?: { readonly namespace: string; readonly name: string; readonly uid?: string };
  /** Ids of its containers, the sandbox included. */
  readonly containerIds: readonly string[];
  /** What CNI plugins promised it, one entry an interface; empty when none did. */
  readonly attachments: readonly PodAttachment[];
}

export type PodSource = "netns" | "cni" | "podman" | "containerd" | "process";

/** One interface of a pod, as its CNI plugin reported it. */
export interface PodAttachment {
  readonly network: string;
  readonly containerId: string;
  /** Name of the interface in the pod. */
  readonly interface: string;
  /** Path of the namespace it was made in. */
  readonly netns: string;
  /** With prefix length. */
  readonly addresses: readonly string[];
  readonly gateways: readonly string[];
  /** Of the interface in the pod; absent where the result has none. */
  readonly mac?: string;
  /** Interfaces on the node's side, as the plugin listed them (bridge, host veth). */
  readonly hostInterfaces: readonly string[];
  /** The default gateways that its routes name, of its own addresses' families. */
  readonly defaultGateways: readonly string[];
  /** The bridge that its plugin was told to use, and whether the node has the gateways' addresses there. */
  readonly bridge?: { readonly name: string; readonly isGateway: boolean };
  /** Type of the plugin that was told to masquerade what it sends (ipMasq); absent when none was, or nobody says. */
  readonly masqueradedBy?: string;
}
