/**
 * Room `network/`: a pod's link to its node, as the rooms above use it: bridge, veth pair, addresses and routes.
 *
 * In: intents: a bridge with gateways, a link with addresses and routes.
 * Out: links that were made whole, or nothing; what was removed.
 * Touches: links, addresses, routes and IPv6 settings in the node's and the pod's namespace.
 */

/** A pod's link to its node, as the rooms above use it. */
export { ensureBridge, removeBridge, type BridgeIntent, type EnsuredBridge } from "./bridge.ts";
export { checkInterfaceName, isInterfaceName } from "./interface-name.ts";
export {
  connectPod,
  disconnectPod,
  removeHostEnd,
  removePodEnd,
  type PodLink,
  type PodLinkIntent,
  type PodRoute,
  type UnknownEnd,
} from "./pod-link.ts";
