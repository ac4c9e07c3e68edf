/**
 * Room `naming/`: the names by which things that outlive a process are found again: veths, their aliases, owners of
 * NAT rules, chains. Other versions of wayout read them, so they are part of what docs/state.md promises, and
 * test/naming pins them.
 *
 * In: network, container, interface, owner.
 * Out: names that fit the kernel's limits, always the same for the same input.
 * Touches: nothing.
 */
import { INTERFACE_NAME_BYTES } from "../linux/link-layer.ts";
import { shaHex } from "../platform/bytes.ts";
import { wyhash } from "./wyhash.ts";
import { xxHash64 } from "./xxhash64.ts";

/** One interface of one container. */
export interface NamedOwner {
  readonly container: string;
  readonly interfaceName: string;
}

// ── The node's end of a pod's link ───────────────────────────────────────────────────────────────────────────────

const VETH_PREFIX = "wout";
/** RFC 4648 base32, lower case: letters and digits that are safe in an interface name. */
const LETTERS = "abcdefghijklmnopqrstuvwxyz234567";

/**
 * The same for the same network, container and interface, 15 bytes. The 55 bits of hash in it make two alike on one node
 * as unlikely as one in 10^10, with a thousand pods. Nobody gains by making two alike on purpose, so the hash need not
 * resist it.
 */
export function hostVethName(network: string, container: string, interfaceName: string): string {
  const named = `${network}\0${container}\0${interfaceName}`;
  if (lastVeth.named !== named) lastVeth = { named, name: vethName(xxHash64(named)) };
  return lastVeth.name;
}

/** A plugin call asks for one and the same name at several places. */
let lastVeth = { named: "", name: "" };

/** Five bits a letter, the lowest first. */
function vethName(hash: bigint): string {
  let rest = hash;
  let name = VETH_PREFIX;
  while (name.length < INTERFACE_NAME_BYTES) {
    name += LETTERS[Number(rest & 31n)];
    rest >>= 5n;
  }
  return name;
}

/** Between the name of a file and the pid of who writes its next text beside it, to be renamed. */
export const BESIDE = ".new-";

// ── Owners of NAT rules ──────────────────────────────────────────────────────────────────────────────────────────

/** Longest that an owner's name may be, so that every claim fits a comment (nat/claim.ts). */
const MOST_OWNER = 80;
const HASH_DIGITS = 16;

/** `cni/blue`: the owner for something with a name of its own. A name too long for an owner is cut, and kept apart by its hash. */
export function ownerName(kind: string, name: string): string {
  return shortened(kind, name, xxHash64);
}

function shortened(kind: string, name: string, hash: (text: string) => bigint): string {
  const whole = `${kind}/${name}`;
  if (whole.length <= MOST_OWNER) return whole;
  const digits = hash(name).toString(16).padStart(HASH_DIGITS, "0");
  return `${whole.slice(0, MOST_OWNER - HASH_DIGITS - 1)}-${digits}`;
}

const NETWORK = "cni";

/** The owner of a CNI network's rules: `cni/blue`. */
export function networkOwner(network: string): string {
  return ownerName(NETWORK, network);
}

/**
 * The same, and what it was called by versions that took the runtime's hash for long names: undefined for all others.
 * Only for finding what they have made.
 */
export function formerNetworkOwner(network: string): string | undefined {
  const former = shortened(NETWORK, network, wyhash);
  return former === networkOwner(network) ? undefined : former;
}

export function isNetworkOwner(owner: string): boolean {
  return owner.startsWith(`${NETWORK}/`);
}

/** The owner of the rules of a bridge that `attach` made. Characters that an owner may not have are written as their code. */
export function bridgeOwner(bridge: string): string {
  const plain = bridge.replace(
    /[^A-Za-z0-9_-]/g,
    (character) => `.${character.codePointAt(0)!.toString(16)}`,
  );
  return `attach/${plain}`;
}

// ── Aliases of links ─────────────────────────────────────────────────────────────────────────────────────────────

/** IFALIASZ (include/uapi/linux/if.h) less the NUL, and less one: the kernel refuses 255 bytes that a NUL follows. */
const ALIAS_BYTES = 254;

/**
 * What the node's end of a pod's link says of itself: "cni/NETWORK CONTAINER INTERFACE", cut where the kernel's room ends.
 * The kernel itself remembers whose it is, and forgets in time.
 */
export function labelOf(network: string, owner: NamedOwner): string {
  return `${networkOwner(network)} ${owner.container} ${owner.interfaceName}`.slice(0, ALIAS_BYTES);
}

/** Whether an alias says that the link belongs to this network. */
export function isLabelOf(network: string, alias: string | undefined): boolean {
  if (alias === undefined) return false;
  if (alias.startsWith(`${networkOwner(network)} `)) return true;
  const former = formerNetworkOwner(network);
  return former !== undefined && alias.startsWith(`${former} `);
}

/** The attachment that an alias names; undefined for another program's alias. */
export function readLabel(
  alias: string,
): { readonly network: string; readonly owner: NamedOwner } | undefined {
  const match = /^cni\/(\S+) (\S+) (\S+)$/.exec(alias);
  if (match === null) return undefined;
  return { network: match[1]!, owner: { container: match[2]!, interfaceName: match[3]! } };
}

// ── Chains of iptables ───────────────────────────────────────────────────────────────────────────────────────────

/** An owner's own chain: at most 28 characters (XT_EXTENSION_MAXNAMELEN - 1), the same for the same owner. */
export function iptablesChain(owner: string): string {
  return `WAYOUT-${shaHex("sha256", owner).slice(0, 16)}`;
}

// ── Routes to the pods of other nodes ────────────────────────────────────────────────────────────────────────────

/**
 * RTPROT_* of our routes: a list of routes shows whose they are, and of those that an earlier run left behind none is
 * overlooked. A number that neither the kernel nor iproute2 gives a name to.
 */
export const ROUTE_PROTOCOL = "119";
