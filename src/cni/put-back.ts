/**
 * Puts back what the next ADD would put back for pods that are attached: our rules, forwarding, the bridge's addresses.
 * Nothing is made anew where nobody is attached, and no rules that a person took away.
 */
import { WayoutError } from "../error.ts";
import { monotonicMs } from "../kernel/calls.ts";
import { takeNatLock } from "../nat/lock.ts";
import type { CniContext } from "./context.ts";
import { entryInterfaces } from "./entry-interfaces.ts";
import { lockNetwork } from "./network-lock.ts";
import { ensureNat, isNatRemoved } from "./network-nat.ts";
import { ensureForwarding, ensureGatewaySide, linksOf, type EnsuredNetwork } from "./network-state.ts";

/** A kubelet waits for the answer of STATUS, and asks again in a few seconds. */
const TIMEOUT_MS = 500;

/** @throws whatever an ADD could not do either */
export async function putBack(context: CniContext, state: EnsuredNetwork): Promise<void> {
  const { configuration, plan, subnets } = state;
  const { network, nat } = configuration;
  const { node, namespace } = context;
  const began = monotonicMs();
  try {
    using _network = lockNetwork(network, namespace, "shared", TIMEOUT_MS);
    if (linksOf(network, node).length === 0) return;
    const doing = `putting back the NAT rules of network ${network}`;
    using _rules = takeNatLock(namespace, doing, Math.max(0, TIMEOUT_MS - (monotonicMs() - began)));
    const { bridge, gateway } = ensureGatewaySide(node, configuration, plan, []);
    const holder = gateway ?? bridge;
    const from = entryInterfaces(configuration, holder, node);
    if (!isNatRemoved(network, namespace)) await ensureNat({ network, ...nat, subnets, from }, namespace);
    await ensureForwarding(plan.forwarded, holder);
  } catch (error) {
    // Another call is at it just now; the next question finds what it left.
    if (!(error instanceof WayoutError && error.code === "busy")) throw error;
  }
}
