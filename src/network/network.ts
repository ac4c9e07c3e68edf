import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { Address } from "../kernel/route/address.ts";
import type { BridgeVlan } from "../kernel/route/bridge.ts";
import type { Link } from "../kernel/route/link.ts";
import type { Rtnetlink } from "../kernel/route/rtnetlink.ts";

/** The bridge that pods of one network share. */
export interface BridgeIntent {
  readonly name: string;
  /** The node's own addresses on it, with prefix: "10.0.0.254/24". Empty for a layer 2 network. */
  readonly gateways: readonly string[];
  readonly mtu?: number;
  readonly promiscuous?: boolean;
  readonly vlanFiltering?: boolean;
  /** 0 takes the default VLAN away; absent leaves the kernel's (1). */
  readonly defaultVlan?: number;
  /** Take other subnets' addresses of the same family off the bridge instead of refusing. */
  readonly force?: boolean;
}

export interface EnsuredBridge {
  readonly link: Link;
  /** Whether this call made the bridge, and which gateway addresses it added. */
  readonly created: boolean;
  readonly added: readonly string[];
}

/** How a pod hangs on its node. */
export interface PodLinkIntent {
  /** For the host veth's name and for messages. */
  readonly network: string;
  readonly container: string;
  /** Name of the interface in the pod. */
  readonly interfaceName: string;
  /** Name on the host; hostVethName(network, container, interfaceName) when absent. */
  readonly hostName?: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** With prefix: "10.0.0.1/24". */
  readonly addresses: readonly string[];
  readonly routes: readonly PodRoute[];
  /** Index of the bridge; absent makes a point-to-point link with a host route per address. */
  readonly bridge?: number;
  readonly hairpin?: boolean;
  readonly isolated?: boolean;
  readonly vlans?: readonly BridgeVlan[];
  /** Also take the port out of the bridge's default VLAN. */
  readonly dropDefaultVlan?: number;
  /** Let the pod check that its IPv6 addresses are free, and wait for it. Default: they are ours to give. */
  readonly duplicateAddressDetection?: boolean;
  /** Leave the pod's interface down and without addresses. */
  readonly leaveDown?: boolean;
}

export interface PodRoute {
  readonly destination: string;
  /** Absent: on the link. */
  readonly gateway?: string;
  readonly mtu?: number;
  readonly advmss?: number;
  readonly priority?: number;
  readonly table?: number;
  readonly scope?: "global" | "link" | "host";
}

export interface PodLink {
  readonly host: Link;
  readonly pod: Link;
  readonly addresses: readonly Address[];
}

/** Deterministic, at most 15 bytes: "wo" and 13 letters of a hash. */
export declare function hostVethName(network: string, container: string, interfaceName: string): string;

/** Makes the bridge be as wanted, whatever of it is there; two callers at once both succeed. @throws WayoutError */
export declare function ensureBridge(node: Rtnetlink, intent: BridgeIntent): EnsuredBridge;

/** Makes the link, or nothing: what was made is undone when a step fails. @throws WayoutError */
export declare function connectPod(node: Rtnetlink, pod: NetworkNamespace, intent: PodLinkIntent): PodLink;

/** Takes the link away. False when there was none. @param pod undefined when the namespace is gone */
export declare function disconnectPod(
  node: Rtnetlink,
  pod: NetworkNamespace | undefined,
  intent: Pick<PodLinkIntent, "network" | "container" | "interfaceName" | "hostName">,
): boolean;
