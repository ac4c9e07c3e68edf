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
