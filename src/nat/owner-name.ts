/** By what name an owner of NAT rules goes. */

/** Longest that an owner's name may be, so that every claim fits a comment (claim.ts). */
const MOST_OWNER = 80;

/** `cni/blue`: the owner for something with a name of its own. A name too long for an owner is cut, and kept apart by
 * its hash. */
export function ownerName(kind: string, name: string): string {
  const whole = `${kind}/${name}`;
  if (whole.length <= MOST_OWNER) return whole;
  return `${whole.slice(0, MOST_OWNER - 17)}-${Bun.hash(name).toString(16).padStart(16, "0")}`;
}

const NETWORK = "cni";

/** The owner of a CNI network's rules: `cni/blue`. */
export function networkOwner(network: string): string {
  return ownerName(NETWORK, network);
}

export function isNetworkOwner(owner: string): boolean {
  return owner.startsWith(`${NETWORK}/`);
}
