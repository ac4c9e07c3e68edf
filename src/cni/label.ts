/** The alias that the host's end of a pod's link carries: the kernel itself remembers whose it is, and forgets in time. */
import type { Owner } from "../ipam/assignment.ts";
import { networkOwner } from "../nat/owner-name.ts";

/** IFALIASZ (include/uapi/linux/if.h) less the NUL, and less one: the kernel refuses 255 bytes that a NUL follows. */
const ALIAS_BYTES = 254;

/** "cni/NETWORK CONTAINER INTERFACE", cut where the kernel's room ends. */
export function labelOf(network: string, owner: Owner): string {
  return `${networkOwner(network)} ${owner.container} ${owner.interfaceName}`.slice(0, ALIAS_BYTES);
}

/** Whether an alias says that the link belongs to this network. */
export function isLabelOf(network: string, alias: string | undefined): boolean {
  return alias?.startsWith(`${networkOwner(network)} `) === true;
}

/** The attachment that an alias names; undefined for an alias of somebody else. */
export function readLabel(alias: string): { readonly network: string; readonly owner: Owner } | undefined {
  const match = /^cni\/(\S+) (\S+) (\S+)$/.exec(alias);
  if (match === null) return undefined;
  return { network: match[1]!, owner: { container: match[2]!, interfaceName: match[3]! } };
}
