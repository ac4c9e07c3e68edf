/** Causes that several entries hide behind. */

/** A pod whose own side is broken: what comes behind cannot be judged by its symptoms. */
export const NO_POD_LINK = ["pod-namespace-gone", "pod-interface-missing", "pod-link-down"] as const;
export const NO_POD_ADDRESS = [...NO_POD_LINK, "pod-no-address"] as const;
export const NO_VETH = [...NO_POD_LINK, "host-link-down", "bridge-down"] as const;
/** The pod sends by another link, or with another source, than it should: what the node does with that is the effect. */
export const POD_SENDS_AMISS = [
  "pod-rule-captures",
  "pod-route-captures",
  "pod-nat-foreign-address",
  "pod-address-unusable",
] as const;
/** The node has no right way back to the pod. */
export const NO_WAY_BACK = [
  "rule-captures",
  ...POD_SENDS_AMISS,
  "source-is-local",
  ...NO_VETH,
  "bridge-address-missing",
  "bridge-other-subnet",
  "host-link-not-enslaved",
] as const;
