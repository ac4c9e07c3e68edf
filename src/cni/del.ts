/** DEL: takes an attachment away as far as it is there. Repeatable; needs neither the namespace nor a whole configuration. */
import { disconnectPod, hostVethName } from "../network/network.ts";
import type { CniContext } from "./context.ts";
import { leaveNetwork } from "./network-state.ts";
import { openPodIfThere } from "./pod-namespace.ts";
import { noteUsed } from "./used-addresses.ts";

/**
 * First the link, then what speaks of it: while an address is still in use it must not be given to anybody else.
 * @throws the first failure, after everything else was tried
 */
export async function del(context: CniContext): Promise<void> {
  const { call, header, namespace } = context;
  const ipam = context.addresses(true);
  using pod = openPodIfThere(call.netns, namespace);
  const failures: unknown[] = [];
  const attempt = async (step: () => unknown): Promise<void> => {
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  };
  await attempt(() => disconnectPod(context.node, pod, context.linkNames));
  // Also of a pod that another plugin attached: who gets its address next must not inherit its connections.
  await attempt(() => noteUsed(header.network, ipam?.del() ?? []));
  if (header.fields.raw("macspoofchk") === true) {
    await attempt(async () => {
      const { MacSpoofing } = await import("./mac-spoofing.ts");
      using spoofing = new MacSpoofing(namespace);
      spoofing.release([hostVethName(header.network, call.container, call.interfaceName)]);
    });
  }
  await attempt(() => leaveNetwork(context, backendOf(context), ipam));
  if (failures.length > 0) throw failures[0];
}

export function backendOf({ header }: CniContext): "nftables" | "iptables" {
  return header.fields.raw("ipMasqBackend") === "iptables" ? "iptables" : "nftables";
}
