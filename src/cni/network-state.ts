/** What a network has once, however many pods hang on it: forwarding and NAT. Verified cheaply, repaired when needed. */
import type { IpFamily } from "../address/ip.ts";
import { FORWARDING_SYSCTL, enableForwarding } from "../forwarding/forwarding.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { Link } from "../kernel/route/link.ts";
import type { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import type { NatIntent } from "../nat/intent.ts";
import { openNat } from "../nat/open.ts";
import { removeBridge } from "../network/network.ts";
import type { AddressManagement } from "./address-management.ts";
import type { NatWish } from "./configuration.ts";
import type { CniContext } from "./context.ts";
import { isLabelOf } from "./label.ts";
import { NetworkLock } from "./network-lock.ts";
import { natOwner } from "./plan.ts";

/** The families whose packets this bridge does not forward, of those that it should. */
export function notForwarded(families: readonly IpFamily[], bridge: Link): IpFamily[] {
  return families.filter((family) => {
    const own = family === 4 ? bridge.ipv4?.forwarding : bridge.ipv6?.forwarding;
    return own === 0 || readSysctl(undefined, FORWARDING_SYSCTL[family]) === "0";
  });
}

/** Two small files are read when all is well, however many interfaces the node has. */
export function ensureForwarding(families: readonly IpFamily[], bridge: Link): void {
  const missing = notForwarded(families, bridge);
  if (missing.length === 0) return;
  enableForwarding(undefined, { ipv4: missing.includes(4), ipv6: missing.includes(6) });
}

/** Makes the network's NAT rules be there. No transaction when they are. */
export function ensureNat(backend: NatWish["backend"], intent: NatIntent, node: NetworkNamespace): void {
  using nat = openNat(backend, node);
  if (nat.verify(intent).length > 0) nat.apply(intent);
}

/** What is not as the intent wants it, in words; empty when all is well. */
export function natDrifts(backend: NatWish["backend"], intent: NatIntent, node: NetworkNamespace): string[] {
  using nat = openNat(backend, node);
  return nat.verify(intent).map(({ text }) => text);
}

/** Every host end of this network's links. Reads all links of the node. */
export function linksOf(network: string, node: Rtnetlink): Link[] {
  return node.links({ statistics: false }).filter(({ alias }) => isLabelOf(network, alias));
}

/**
 * Takes away what belongs to the network as a whole, when nobody is attached any more: its NAT rules, and its bridge
 * when it was `made` just now by a call that failed. A bridge that has served stays, as the reference plugin's does.
 */
export function leaveNetwork(
  { header, node, namespace }: CniContext,
  backend: NatWish["backend"],
  ipam: AddressManagement | undefined,
  made?: string,
): void {
  if (made === undefined && ipam === undefined) return;
  if (ipam?.inUse() === true) return;
  using _lock = new NetworkLock(header.network, "alone");
  if (ipam?.inUse() === true || linksOf(header.network, node).length > 0) return;
  if (ipam !== undefined) {
    using nat = openNat(backend, namespace);
    nat.remove(natOwner(header.network));
  }
  if (made !== undefined) removeBridge(node, made);
}
