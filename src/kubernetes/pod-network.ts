/** The network of this node's pods, as its podCIDRs make it. Pure. */
import { parseCidr } from "../address/cidr.ts";
import { ipFromNumber } from "../address/ip.ts";

export interface PodNetwork {
  /** The network's name, by which runtimes and host-local know it. */
  readonly network: string;
  readonly bridge: string;
  /** MTU of the link that leads to the other nodes; undefined: the kernel's usual one. */
  readonly mtu: number | undefined;
}

/** The node's address among its pods, with prefix: the first of each podCIDR, as host-local leaves it free. */
export function gatewaysOf(podCidrs: readonly string[]): string[] {
  return podCidrs.map((text) => {
    const { family, first, prefixLength } = parseCidr(text);
    return `${ipFromNumber(family, first + 1n)}/${prefixLength}`;
  });
}
