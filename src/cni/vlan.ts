/**
 * VLANs of a bridge, as the bridge plugin has them since 1.8: a pod's frames without a tag belong to `vlan`, and those
 * with a tag may be of `vlanTrunk`. A trunk without `vlan` has VLAN 1 for frames without a tag.
 */
import { parseCidr } from "../address/cidr.ts";
import { WayoutError } from "../error.ts";
import { NetlinkError } from "../linux/netlink/netlink-error.ts";
import type { BridgeVlan } from "../linux/route/bridge.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import type { LinkRtnetlink } from "../kernel/route/link-rtnetlink.ts";
import { ensureGateways } from "../network/bridge.ts";
import { networkFailure } from "../network/failure.ts";
import { vlanRequests } from "../network/link-ends.ts";
import { checkInterfaceName } from "../network/network.ts";
import { Undo } from "../network/undo.ts";
import type { NetworkConfiguration } from "./configuration.ts";
import { hostVethName } from "../naming/names.ts";

/** The VLAN that a bridge puts every new port in (BR_DEFAULT_PVID of net/bridge/br_private.h). */
const DEFAULT_VLAN = 1;

/** What a pod's port on a bridge gets, in the words of a pod link; empty without VLANs. */
export function portVlans(
  { vlan, vlanTrunk, preserveDefaultVlan }: PortVlans,
  bridge: LinkState,
): { readonly vlans?: readonly BridgeVlan[]; readonly dropDefaultVlan?: number } {
  if (vlan === 0 && vlanTrunk.length === 0) return {};
  const native = vlan === 0 ? DEFAULT_VLAN : vlan;
  const vlans: BridgeVlan[] = vlanTrunk.map((range) => ({ ...range, pvid: false, untagged: false }));
  // Last: a VLAN that the trunk has as well is then the one of frames without a tag.
  vlans.push({ first: native, last: native, pvid: true, untagged: true });
  // 0: the bridge puts new ports in none.
  const given = bridge.bridge?.defaultVlan ?? DEFAULT_VLAN;
  return preserveDefaultVlan || given === 0 ? { vlans } : { vlans, dropDefaultVlan: given };
}

type PortVlans = Pick<NetworkConfiguration, "vlan" | "vlanTrunk" | "preserveDefaultVlan">;

/** Runs what needs a bridge with VLANs, and says plainly when it is the kernel that has none. */
export function withVlans<T>({ vlan, vlanTrunk }: NetworkConfiguration, make: () => T): T {
  try {
    return make();
  } catch (error) {
    const wanted = vlan > 0 || vlanTrunk.length > 0;
    if (!wanted || !(error instanceof WayoutError) || error.code !== "kernel-lacks-feature") throw error;
    throw new WayoutError({
      code: "kernel-lacks-feature",
      kind: "machine",
      doing: error.doing,
      said: `${vlan > 0 ? "vlan" : "vlanTrunk"} needs bridge VLAN filtering, and the kernel refused it: ${error.said}`,
      todo: "Use a kernel with CONFIG_BRIDGE_VLAN_FILTERING, or leave vlan and vlanTrunk out of the configuration.",
      cause: error,
    });
  }
}

/** The name of the interface that holds a VLAN's gateway addresses: "cni0.100". */
export function vlanGatewayName({ bridge, vlan }: NetworkConfiguration): string {
  return `${bridge}.${vlan}`;
}

/** Where a VLAN's gateway addresses are. */
export interface VlanGateway {
  readonly link: LinkState;
  /** Whether this call made it. */
  readonly created: boolean;
}

/**
 * With `vlan`, the gateway's addresses are on an interface of their own in that VLAN: one end of a veth pair whose
 * other end is a port of the bridge. undefined where the addresses are the bridge's own.
 */
export function ensureVlanGateway(
  node: LinkRtnetlink,
  configuration: NetworkConfiguration,
  bridge: LinkState,
  gateways: readonly string[],
): VlanGateway | undefined {
  if (configuration.vlan === 0 || gateways.length === 0) return undefined;
  const name = vlanGatewayName(configuration);
  const doing = `preparing the gateway ${name}`;
  checkInterfaceName(name, doing);
  const there = node.linkState(name);
  if (there !== undefined && there.kind !== "veth") {
    throw new WayoutError({
      code: "bridge-conflict",
      kind: "usage",
      doing,
      said: `there is another interface of that name (${there.kind ?? "a device"})`,
    });
  }
  // It is set up last: one that is down may be of a run that was killed half-way.
  const created = there?.up !== true && makePair(node, configuration, bridge, name, doing);
  const gateway = there ?? node.linkState(name);
  if (gateway === undefined) throw new Error(`${name} was made, and is gone again`);
  const undo = new Undo();
  try {
    if (!gateway.up) node.setLink(gateway.index, { up: true });
    const addresses = gateways.map((text) => parseCidr(text, "keep"));
    ensureGateways(node, gateway, addresses, { force: configuration.forceAddress }, created, undo);
  } catch (error) {
    if (created) undo.note(`interface ${name}`, () => node.deleteLink(name));
    throw networkFailure(doing, error, undo.run());
  }
  return { link: node.linkState(gateway.index) ?? gateway, created };
}

/** Completes a pair that is there; then false. When a step fails, the pair is taken away again. */
function makePair(
  node: LinkRtnetlink,
  configuration: NetworkConfiguration,
  bridge: LinkState,
  name: string,
  doing: string,
): boolean {
  const port = hostVethName(bridge.name, "gateway", String(configuration.vlan));
  const undo = new Undo();
  try {
    const created = unlessThere(() => node.createVeth({ name: port, master: bridge.index, peer: { name } }));
    if (created) undo.note(`interface ${port}`, () => node.deleteLink(port));
    const link = node.linkState(port);
    if (link === undefined) throw new Error(`${port} was made, and is gone again`);
    node.batch(vlanRequests(link.index, portVlans({ ...configuration, vlanTrunk: [] }, bridge)));
    node.setLink(link.index, { up: true });
    return created;
  } catch (error) {
    throw networkFailure(doing, error, undo.run());
  }
}

/** Another pod's ADD does the same at the same time; false when it was first. */
function unlessThere(make: () => void): boolean {
  try {
    make();
    return true;
  } catch (error) {
    if (!(error instanceof NetlinkError && error.code === "EEXIST")) throw error;
    return false;
  }
}
