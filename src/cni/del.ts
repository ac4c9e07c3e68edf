/** DEL: takes an attachment away as far as it is there. Repeatable; needs neither the namespace nor a whole configuration. */
import { disconnectPod, hostVethName } from "../network/network.ts";
import type { CniContext } from "./context.ts";
import { MacSpoofing } from "./mac-spoofing.ts";
import { leaveNetwork } from "./network-state.ts";
import { openPodIfThere } from "./pod-namespace.ts";

/**
 * First the link, then what speaks of it: while an address is still in use it must not be given to anybody else.
 * @throws the first failure, after everything else was tried
 */
export function del(context: CniContext): void {
  const { call, header, namespace } = context;
  const ipam = context.addresses(true);
  using pod = openPodIfThere(call.netns, namespace);
  const failures: unknown[] = [];
  const attempt = (step: () => void): void => {
    try {
      step();
    } catch (error) {
      failures.push(error);
    }
  };
  attempt(() => disconnectPod(context.node, pod, context.linkNames));
  attempt(() => ipam?.del());
  if (header.fields.raw("macspoofchk") === true) {
    attempt(() => {
      using spoofing = new MacSpoofing(namespace);
      spoofing.release([hostVethName(header.network, call.container, call.interfaceName)]);
    });
  }
  attempt(() => leaveNetwork(context, backendOf(context), ipam));
  if (failures.length > 0) throw failures[0];
}

export function backendOf({ header }: CniContext): "nftables" | "iptables" {
  return header.fields.raw("ipMasqBackend") === "iptables" ? "iptables" : "nftables";
}
