/** Causes that several entries hide behind. */

/** A pod whose own side is broken: what comes behind cannot be judged by its symptoms. */
export const NO_POD_LINK = ["pod-namespace-gone", "pod-interface-missing", "pod-link-down"] as const;
export const NO_POD_ADDRESS = [...NO_POD_LINK, "pod-no-address"] as const;
export const NO_VETH = [...NO_POD_LINK, "host-link-down", "bridge-down"] as const;
/** The node has no right way back to the pod. */
export const NO_WAY_BACK = [
  "rule-captures",
  "source-is-local",
  ...NO_VETH,
  "bridge-address-missing",
  "bridge-other-subnet",
  "host-link-not-enslaved",
] as const;
