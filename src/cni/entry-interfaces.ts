/** By which interfaces a network's pods come to the node: only what comes from there is theirs to have translated. */
import type { LinkRtnetlink } from "../kernel/route/link-rtnetlink.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import type { NetworkConfiguration } from "./configuration.ts";

/**
 * The bridge, or its gateway in the VLAN, and the VRF it belongs to, under whose name the kernel knows what comes from
 * there. Empty when it is not known: where the node is no gateway, another interface may lead the pods out.
 * @param holder the interface that has, or would have, the gateway's addresses
 */
export function entryInterfaces(
  { isGateway, nat }: Pick<NetworkConfiguration, "isGateway" | "nat">,
  holder: LinkState,
  node: LinkRtnetlink,
): string[] {
  if (nat.translations.size === 0 || !tellsEntrance()) return [];
  if (!isGateway && node.addresses({ interface: holder.index }).length === 0) return [];
  const master = holder.master === undefined ? undefined : node.linkState(holder.master);
  return master?.kind === "vrf" ? [holder.name, master.name] : [holder.name];
}

/** Since Linux 5.7 postrouting knows by which interface a packet came (28f8bfd1ac94). */
function tellsEntrance(): boolean {
  const [major = "", minor = ""] = (readSysctl(undefined, "kernel.osrelease") ?? "").split(".");
  return Number(major) > 5 || (Number(major) === 5 && Number(minor) >= 7);
}
