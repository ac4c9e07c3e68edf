import type { BridgeVlan } from "../linux/route/bridge.ts";
import type { RouteScope } from "../linux/route/constants.ts";

/** How a pod is attached to its node. */
export interface PodLinkIntent {
  /** With container and interfaceName it makes the host end's name, and appears in messages. */
  readonly network: string;
  readonly container: string;
  /** Name of the interface in the pod. */
  readonly interfaceName: string;
  /** Name on the host; hostVethName(network, container, interfaceName) when absent. */
  readonly hostName?: string;
  /** What the host's end says of itself (`ip link` shows it), at most 254 bytes; there from the first moment. */
  readonly alias?: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** With prefix: "10.0.0.1/24". */
  readonly addresses: readonly string[];
  readonly routes: readonly PodRoute[];
  /** Index of the bridge the host's end joins. */
  readonly bridge?: number;
  /** Without a bridge: the node's own addresses on its end, without prefix. The pod is routed, not bridged. */
  readonly gateways?: readonly string[];
  readonly hairpin?: boolean;
  readonly isolated?: boolean;
  readonly vlans?: readonly BridgeVlan[];
  /** Take the port out of this VLAN, which the bridge has put it in. */
  readonly dropDefaultVlan?: number;
  /** Let the pod check that its IPv6 addresses are free, and wait for it. Default: they are ours to give. */
  readonly duplicateAddressDetection?: boolean;
  /** Leave the pod's interface down, without addresses and routes. */
  readonly leaveDown?: boolean;
  /** false where another program sets the pod's loopback up, as container runtimes do. Default: set it up. */
  readonly raiseLoopback?: boolean;
  /** Complete a link that is there already between these two names, instead of refusing. Default: refuse. */
  readonly adopt?: boolean;
}

export interface PodRoute {
  readonly destination: string;
  /** Absent: on the link. */
  readonly gateway?: string;
  readonly onlink?: boolean;
  readonly mtu?: number;
  readonly advmss?: number;
  readonly priority?: number;
  readonly table?: number;
  readonly scope?: RouteScope;
}
