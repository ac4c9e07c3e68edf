/** What a network has once, however many pods hang on it. */
import type { IpFamily } from "../address/ip.ts";
import { FORWARDING_SYSCTL } from "../forwarding/switches.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import type { LinkTable } from "../kernel/route/link-table.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import { removeBridge } from "../network/network.ts";
import type { AddressManagement } from "./address-management.ts";
import type { NatWish } from "./configuration.ts";
import type { CniContext } from "./context.ts";
import { isLabelOf } from "./label.ts";
import { lockNetwork } from "./network-lock.ts";
import { removeNat } from "./network-nat.ts";

/** The families whose packets this bridge does not forward, of those that it should. */
export function notForwarded(families: readonly IpFamily[], bridge: LinkState): IpFamily[] {
  const missing: IpFamily[] = [];
  for (const family of families) {
    const own = family === 4 ? bridge.ipv4?.forwarding : bridge.ipv6?.forwarding;
    if (own === 0 || readSysctl(undefined, FORWARDING_SYSCTL[family]) === "0") missing.push(family);
  }
  return missing;
}

/** Two small files are read when all is well, however many interfaces the node has. */
export async function ensureForwarding(families: readonly IpFamily[], bridge: LinkState): Promise<void> {
  const missing = notForwarded(families, bridge);
  if (missing.length === 0) return;
  const { enableForwarding } = await import("../forwarding/forwarding.ts");
  enableForwarding(undefined, { ipv4: missing.includes(4), ipv6: missing.includes(6) });
}

/** Every host end of this network's links. Reads all links of the node. */
export function linksOf(network: string, node: LinkTable): LinkState[] {
  return node.linkStates().filter(({ alias }) => isLabelOf(network, alias));
}

/**
 * Takes away what belongs to the network as a whole, when nobody is attached any more: its NAT rules, and those
 * links (its bridge, a VLAN's gateway) that were `made` just now by a call that failed. A bridge that has served stays,
 * as the reference plugin's does. Returns whether there were rules.
 */
export async function leaveNetwork(
  { header, node, namespace }: CniContext,
  backend: NatWish["backend"],
  ipam: AddressManagement | undefined,
  made: readonly string[] = [],
): Promise<boolean> {
  if (made.length === 0 && ipam === undefined) return false;
  if ((ipam?.held() ?? 0) > 0) return false;
  using _lock = lockNetwork(header.network, "alone");
  if ((ipam?.held() ?? 0) > 0 || linksOf(header.network, node).length > 0) return false;
  for (const name of made) {
    const kind = node.linkState(name)?.kind;
    if (kind === "veth") node.deleteLink(name);
    else removeBridge(node, name);
  }
  return ipam !== undefined && (await removeNat(header.network, backend, namespace));
}
