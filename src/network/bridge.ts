/** The bridge that the pods of one network share. */
import { command } from "../text/command.ts";
import { cidrsOverlap, parseCidr, type Cidr } from "../address/cidr.ts";
import { ipBytes } from "../address/ip.ts";
import { macForIp } from "../address/mac.ts";
import { WayoutError } from "../error.ts";
import { addAddressRequest, type AddressSpec, type HeldAddress } from "../linux/route/address.ts";
import type { Ipv6Setting } from "../linux/route/interface-settings.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import { createBridgeRequest, setBridgeRequest } from "../linux/route/link-requests.ts";
import { randomBytes } from "../kernel/calls.ts";
import type { LinkRtnetlink } from "../kernel/route/link-rtnetlink.ts";
import { NetlinkError } from "../linux/netlink/netlink-error.ts";
import { preferSysctl, writeSysctl } from "../kernel/sysctl.ts";
import { networkFailure } from "./failure.ts";
import { checkInterfaceName } from "./interface-name.ts";
import { Undo } from "./undo.ts";

export interface BridgeIntent {
  readonly name: string;
  /** The node's own addresses on it, with prefix: "10.0.0.254/24". Empty for a layer 2 network. */
  readonly gateways: readonly string[];
  /** For a bridge that is made new; one that is there keeps its own. */
  readonly mtu?: number;
  readonly promiscuous?: boolean;
  readonly vlanFiltering?: boolean;
  /** The VLAN of untagged frames on new ports; 0 for none. Absent leaves the kernel's (1). */
  readonly defaultVlan?: number;
  /** Take other subnets' addresses off the bridge instead of refusing. */
  readonly force?: boolean;
}

export interface EnsuredBridge {
  readonly link: LinkState;
  /** Whether this call made the bridge. */
  readonly created: boolean;
  /** The gateway addresses, of those asked for, that this call added. */
  readonly added: readonly string[];
}

/**
 * Makes the bridge be as wanted, whatever of it is there. Two callers at once both succeed. When a step fails, what
 * this call made is taken away again.
 * @throws WayoutError not-a-bridge, bridge-has-other-subnet, bad-interface-name, bad-address, kernel-lacks-feature…
 */
export function ensureBridge(node: LinkRtnetlink, intent: BridgeIntent): EnsuredBridge {
  const doing = `preparing bridge ${intent.name}`;
  checkInterfaceName(intent.name, doing);
  const undo = new Undo();
  try {
    const gateways = intent.gateways.map((text) => parseCidr(text, "keep"));
    const { link, created } = findOrCreate(node, intent, gateways, undo);
    openToIpv6(node, link, gateways, undo);
    const added = ensureGateways(node, link, gateways, intent, created, undo);
    settle(node, link, intent, !created && added.length > 0, undo);
    return { link: created || added.length > 0 ? reread(node, link) : link, created, added };
  } catch (error) {
    throw networkFailure(doing, error, undo.run());
  }
}

/**
 * Removes a bridge that no interface is in any more. False when there is none or it is in use.
 * @throws WayoutError not-a-bridge
 */
export function removeBridge(node: LinkRtnetlink, name: string): boolean {
  const link = node.linkState(name);
  if (link === undefined) return false;
  if (link.kind !== "bridge") throw notABridge(`removing bridge ${name}`, link);
  if (hasPorts(node, link)) return false;
  return node.deleteLink(link.index);
}

function hasPorts(node: LinkRtnetlink, bridge: LinkState): boolean {
  return node.linkStates().some((link) => link.master === bridge.index);
}

function findOrCreate(
  node: LinkRtnetlink,
  intent: BridgeIntent,
  gateways: readonly Cidr[],
  undo: Undo,
): { readonly link: LinkState; readonly created: boolean } {
  const { name } = intent;
  const there = node.linkState(name);
  if (there !== undefined) return { link: checked(there, intent), created: false };
  const created = create(node, intent, gateways, undo);
  const link = node.linkState(name);
  if (link === undefined) throw new Error(`${name} was made, and is gone again`);
  return { link: checked(link, intent), created };
}

/** False when another caller made it between our two questions. */
function create(node: LinkRtnetlink, intent: BridgeIntent, gateways: readonly Cidr[], undo: Undo): boolean {
  const remove = (): boolean => removeBridge(node, intent.name);
  try {
    node.connection.request(createBridgeRequest(creation(intent, gateways)));
    undo.note(`bridge ${intent.name}`, remove);
    return true;
  } catch (error) {
    // Not the kernel's refusal but an answer that got lost: the bridge may be there.
    if (!(error instanceof NetlinkError)) undo.note(`bridge ${intent.name}`, remove);
    if (isThere(error)) return false;
    throw error;
  }
}

/**
 * The MAC is pinned from the start: a bridge without one takes its lowest port's, and every pod's neighbour entry for
 * the gateway goes stale when that pod leaves. From the gateway's address it is also the same after a reboot.
 */
function creation(intent: BridgeIntent, gateways: readonly Cidr[]) {
  const gateway = gateways.find(({ family }) => family === 4) ?? gateways[0];
  const seed = gateway === undefined ? randomBytes(4) : ipBytes(gateway.address);
  return {
    name: intent.name,
    mac: macForIp(seed),
    up: true,
    ...(intent.mtu === undefined ? {} : { mtu: intent.mtu }),
    ...(intent.vlanFiltering === undefined ? {} : { vlanFiltering: intent.vlanFiltering }),
    ...(intent.defaultVlan === undefined ? {} : { defaultVlan: intent.defaultVlan }),
  };
}

function checked(link: LinkState, intent: BridgeIntent): LinkState {
  if (link.kind === "bridge") return link;
  throw notABridge(`preparing bridge ${intent.name}`, link);
}

function notABridge(doing: string, link: LinkState): WayoutError {
  return new WayoutError({
    code: "not-a-bridge",
    kind: "usage",
    doing,
    said: `${link.name} is ${link.kind === undefined ? "an interface" : `a ${link.kind} interface`}, not a bridge`,
    todo: "Choose another name for the bridge, or rename that interface.",
    details: { interface: link.name, kind: link.kind ?? null },
  });
}

/** Where new interfaces start with IPv6 switched off, an address would be refused ("IPv6 is disabled on this device"). */
function openToIpv6(node: LinkRtnetlink, link: LinkState, gateways: readonly Cidr[], undo: Undo): void {
  if (link.ipv6?.disable_ipv6 === 1 && gateways.some(({ family }) => family === 6)) {
    setIpv6(node, link, "disable_ipv6", "0", undo);
  }
}

function ipv6Setting(link: LinkState, setting: Ipv6Setting): string {
  return `net.ipv6.conf.${link.name}.${setting}`;
}

function setIpv6(
  node: LinkRtnetlink,
  link: LinkState,
  setting: Ipv6Setting,
  value: string,
  undo: Undo,
): void {
  const name = ipv6Setting(link, setting);
  const previous = writeSysctl(node.namespace, name, value);
  undo.note(`${name} = ${value}`, () => writeSysctl(node.namespace, name, previous));
}

/**
 * Adds the gateway addresses that are missing and returns them.
 * @throws WayoutError bridge-has-other-subnet unless the intent is to `force` it
 */
export function ensureGateways(
  node: LinkRtnetlink,
  link: LinkState,
  gateways: readonly Cidr[],
  intent: Pick<BridgeIntent, "force">,
  created: boolean,
  undo: Undo,
): string[] {
  if (gateways.length === 0) return [];
  const there = created ? [] : node.heldAddresses(link.index);
  const missing = missingGateways(link, there, gateways, intent);
  if (missing.length === 0) return [];
  for (const gateway of missing) {
    for (const other of there.filter((address) => isInTheWay(address, gateway, gateways))) {
      undo.note(`absence of ${other.address}`, () => giveBack(node, other));
      node.deleteAddress(other);
    }
  }
  const errors = addMissing(node, link, missing, undo);
  for (const error of errors.values()) if (!isThere(error)) throw error;
  return missing
    .filter((_, index) => !errors.has(index))
    .map(({ address, prefixLength }) => `${address}/${prefixLength}`);
}

/**
 * The gateway addresses that an interface lacks, of those that it shall have.
 * @throws WayoutError bridge-has-other-subnet where one cannot be given beside what is there, unless it is forced
 */
export function missingGateways(
  link: LinkState,
  there: readonly HeldAddress[],
  gateways: readonly Cidr[],
  { force }: Pick<BridgeIntent, "force">,
): Cidr[] {
  const missing: Cidr[] = [];
  for (const gateway of gateways) if (!hasAddress(there, gateway)) missing.push(gateway);
  if (force === true) return missing;
  for (const gateway of missing) {
    for (const other of there)
      if (isInTheWay(other, gateway, gateways)) throw otherSubnet(link, other, gateway);
  }
  return missing;
}

/** The errors by index; EEXIST when another caller added the address meanwhile. */
function addMissing(
  node: LinkRtnetlink,
  link: LinkState,
  missing: readonly Cidr[],
  undo: Undo,
): Map<number, Error> {
  const specs = missing.map((gateway) => gatewayAddress(link, gateway));
  const remove = (spec: AddressSpec): void => {
    undo.note(`address ${spec.address} on ${link.name}`, () => node.deleteAddress(spec));
  };
  try {
    const errors = node.batchResults(specs.map((spec) => addAddressRequest(spec)));
    for (const [index, spec] of specs.entries()) if (!errors.has(index)) remove(spec);
    return errors;
  } catch (error) {
    // The answers got lost; the addresses may be there.
    for (const spec of specs) remove(spec);
    throw error;
  }
}

function isThere(error: unknown): boolean {
  return error instanceof NetlinkError && error.code === "EEXIST";
}

function gatewayAddress(link: LinkState, gateway: Cidr): AddressSpec {
  // Ours to give, so it needs no duplicate address detection, during which it would not answer.
  const { address, prefixLength } = gateway;
  return { interface: link.index, address, prefixLength, nodad: true };
}

function giveBack(node: LinkRtnetlink, address: HeldAddress): void {
  const { interface: index, prefixLength, scope } = address;
  try {
    node.addAddress({ interface: index, address: address.address, prefixLength, scope });
  } catch (error) {
    if (!isThere(error)) throw error;
  }
}

function hasAddress(addresses: readonly HeldAddress[], gateway: Cidr): boolean {
  for (const address of addresses) if (isSame(address, gateway)) return true;
  return false;
}

function isSame(address: HeldAddress, gateway: Cidr): boolean {
  return address.address === gateway.address && address.prefixLength === gateway.prefixLength;
}

/** IPv4: any other subnet, for pods of this one are not on it. IPv6 lives well with several that do not overlap. */
function isInTheWay(address: HeldAddress, gateway: Cidr, wanted: readonly Cidr[]): boolean {
  if (address.family !== gateway.family || address.scope !== "global") return false;
  if (wanted.some((other) => isSame(address, other))) return false;
  if (gateway.family === 4) return true;
  return cidrsOverlap(parseCidr(`${address.address}/${address.prefixLength}`, "keep"), gateway);
}

function otherSubnet(link: LinkState, other: HeldAddress, gateway: Cidr): WayoutError {
  const has = `${other.address}/${other.prefixLength}`;
  const wanted = `${gateway.address}/${gateway.prefixLength}`;
  return new WayoutError({
    code: "bridge-has-other-subnet",
    kind: "usage",
    doing: `preparing ${link.kind === "bridge" ? "bridge" : "the gateway"} ${link.name}`,
    said: `it has the address ${has}, and ${wanted} is wanted`,
    todo: `Use another bridge for this network, or delete the old address: ${command`ip address delete ${has} dev ${link.name}` ?? "ip address delete"} (forceAddress does that)`,
    details: { bridge: link.name, has, wanted },
  });
}

/** Everything else of the bridge that may differ from what is wanted; changes only what does. */
function settle(
  node: LinkRtnetlink,
  link: LinkState,
  intent: BridgeIntent,
  pinsMac: boolean,
  undo: Undo,
): void {
  const { vlanFiltering } = intent;
  const filters = link.bridge?.vlanFiltering ?? false;
  if (vlanFiltering !== undefined && vlanFiltering !== filters) {
    undo.note(`VLAN filtering of ${link.name}`, () => {
      node.connection.request(setBridgeRequest(link.index, { vlanFiltering: filters }));
    });
    node.connection.request(setBridgeRequest(link.index, { vlanFiltering }));
  }
  const wasPromiscuous = link.flags.includes("PROMISC");
  const promiscuous = wasPromiscuous || intent.promiscuous === true;
  if (!link.up || promiscuous !== wasPromiscuous || pinsMac) {
    undo.note(`state of ${link.name}`, () =>
      node.setLink(link.index, { up: link.up, promiscuous: wasPromiscuous }),
    );
    // The same MAC once more: what was set by hand is no longer changed by ports that come and go.
    node.setLink(link.index, { up: true, promiscuous, ...(pinsMac ? { mac: link.mac } : {}) });
  }
  // A router advertisement from a pod must not give the node a default route through that pod.
  if (link.ipv6 !== undefined && link.ipv6.accept_ra !== 0) {
    const name = ipv6Setting(link, "accept_ra");
    const previous = preferSysctl(node.namespace, name, "0");
    if (previous !== undefined) undo.note(`${name} = 0`, () => writeSysctl(node.namespace, name, previous));
  }
}

function reread(node: LinkRtnetlink, link: LinkState): LinkState {
  return node.linkState(link.index) ?? link;
}
