/** Causes that several entries hide behind. */

/** A pod whose own side is broken: what comes behind cannot be judged by its symptoms. */
export const NO_POD_LINK = ["pod-namespace-gone", "pod-interface-missing", "pod-link-down"] as const;
export const NO_POD_ADDRESS = [...NO_POD_LINK, "pod-no-address"] as const;
export const NO_CABLE = [...NO_POD_LINK, "host-link-down", "bridge-down"] as const;
