/** What a network has once, however many pods are attached to it. */
import type { NatBackendName } from "../nat/backends/backends.ts";
import type { IpFamily } from "../address/ip.ts";
import { forwardingForbidden } from "../forwarding/forbidden.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import { addRouteRequest } from "../linux/route/route.ts";
import { isAbsent, type LinkRtnetlink } from "../kernel/route/link-rtnetlink.ts";
import { isThere, joinRequests } from "../network/link-ends.ts";
import { ensureBridge, removeBridge } from "../network/network.ts";
import type { AddressManagement } from "./address-management.ts";
import type { NetworkConfiguration } from "./configuration.ts";
import type { CniContext } from "./context.ts";
import { isLabelOf } from "../naming/names.ts";
import { lockNetwork } from "./network-lock.ts";
import { removeNat } from "./network-nat.ts";
import { bridgeIntent, type AttachmentPlan } from "./plan.ts";
import { endAllUse } from "./used-addresses.ts";
import { ensureVlanGateway, portVlans, withVlans } from "./vlan.ts";

/** What an ADD makes sure of for the network as a whole. */
export interface EnsuredNetwork {
  readonly configuration: NetworkConfiguration;
  readonly plan: AttachmentPlan;
  /** Of its pods, as far as they are known. */
  readonly subnets: readonly string[];
}

/** The bridge, and with a VLAN the interface that holds the gateways' addresses there. */
export interface GatewaySide {
  readonly bridge: LinkState;
  readonly gateway: LinkState | undefined;
}

/**
 * Makes the node's side of a network be as its pods need it, whatever of it is there.
 * @param made gets the names of the links that this call made, the bridge last
 */
export function ensureGatewaySide(
  node: LinkRtnetlink,
  configuration: NetworkConfiguration,
  plan: AttachmentPlan,
  made: string[],
): GatewaySide {
  return withVlans(configuration, () => {
    const { link: bridge, created } = ensureBridge(node, bridgeIntent(configuration, plan.gateways));
    if (created) made.push(bridge.name);
    if (hasNoPorts(bridge)) rejoin(configuration, bridge, node);
    const gateway = ensureVlanGateway(node, configuration, bridge, plan.gateways);
    if (gateway?.created === true) made.unshift(gateway.link.name);
    leadTo(plan.bridgedSubnets, gateway?.link ?? bridge, node);
    return { bridge, gateway: gateway?.link };
  });
}

/** Without a carrier a bridge has no port that is up. */
export function hasNoPorts({ up, flags }: LinkState): boolean {
  return up && !flags.includes("LOWER_UP");
}

/** Host ends of this network that are in no bridge: when theirs is deleted the kernel lets them go. */
export function unjoined(network: string, node: LinkRtnetlink): LinkState[] {
  return node
    .linkStatesSeen()
    .filter(({ alias, master }) => master === undefined && isLabelOf(network, alias));
}

/** Pods whose bridge was deleted get it back as soon as it is there again. */
function rejoin(configuration: NetworkConfiguration, bridge: LinkState, node: LinkRtnetlink): void {
  const { hairpin, portIsolation: isolated } = configuration;
  const port = { ...(hairpin ? { hairpin } : {}), ...(isolated ? { isolated } : {}) };
  const requests = unjoined(configuration.network, node).flatMap(({ index }) =>
    joinRequests(index, { ...port, ...portVlans(configuration, bridge) }, bridge),
  );
  // Its pod may end just now.
  for (const error of node.batchResults(requests).values()) if (!isAbsent(error)) throw error;
}

/** Routes to pods whose gateway's address leads to no subnet. Another route to them is as good. */
function leadTo(subnets: readonly string[], { index }: LinkState, node: LinkRtnetlink): void {
  if (subnets.length === 0) return;
  const requests = subnets.map((destination) =>
    addRouteRequest({ destination, interface: index, scope: "link" }),
  );
  for (const error of node.batchResults(requests).values()) if (!isThere(error)) throw error;
}

/** Two small files are read when all is well, however many interfaces the node has. */
export async function ensureForwarding(families: readonly IpFamily[], bridge: LinkState): Promise<void> {
  const missing = forwardingForbidden(families, bridge);
  if (missing.length === 0) return;
  const { enableForwarding } = await import("../forwarding/forwarding.ts");
  const isMissing = (wanted: IpFamily): boolean => missing.some(({ family }) => family === wanted);
  enableForwarding(undefined, { ipv4: isMissing(4), ipv6: isMissing(6) });
}

/** Every host end of this network's links. Reads all links of the node. */
export function linksOf(network: string, node: LinkRtnetlink): LinkState[] {
  return node.linkStates().filter(({ alias }) => isLabelOf(network, alias));
}

/**
 * Takes away what belongs to the network as a whole, when nobody is attached any more: its NAT rules, and those
 * links (its bridge, a VLAN's gateway) that were `made` just now by a call that failed. A bridge that has served stays,
 * as the reference plugin's does. Returns whether there were rules.
 */
export async function leaveNetwork(
  { header, node, namespace }: CniContext,
  backend: NatBackendName,
  ipam: AddressManagement | undefined,
  made: readonly string[] = [],
): Promise<boolean> {
  if (made.length === 0 && ipam === undefined) return false;
  if ((ipam?.held() ?? 0) > 0) return false;
  using _lock = lockNetwork(header.network, namespace, "alone");
  if ((ipam?.held() ?? 0) > 0 || linksOf(header.network, node).length > 0) return false;
  for (const name of made) {
    const kind = node.linkState(name)?.kind;
    if (kind === "veth") node.deleteLink(name);
    else removeBridge(node, name);
  }
  await endAllUse(header.network, namespace);
  return ipam !== undefined && (await removeNat(header.network, backend, namespace));
}
