/**
 * STATUS: whether an ADD would work. A runtime that hears no calls no ADD any more, so what the next ADD would put back
 * for those who are attached is put back here; only what no ADD could mend is told. Asked every few seconds.
 */
import { prefixFamily } from "../address/ip.ts";
import { parseCidr, type Cidr } from "../address/cidr.ts";
import { messageOf, WayoutError } from "../error.ts";
import { FORWARDING_SYSCTL } from "../forwarding/switches.ts";
import type { AssignedAddress } from "../ipam/assignment.ts";
import { requireSettable } from "../kernel/sysctl.ts";
import { requireSharedRun } from "../kernel/shared-run.ts";
import type { HeldAddress } from "../linux/route/address.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import type { NetworkWants } from "../nat/network-wants.ts";
import { missingGateways } from "../network/bridge.ts";
import { isPromiscuous } from "../ways-out/expected.ts";
import {
  bridgeDown,
  forwardingProblems,
  natProblems,
  noBridge,
  noGateway,
  notEnslaved,
  notPromiscuous,
  type Problem,
} from "../ways-out/problem.ts";
import type { AddressManagement } from "./address-management.ts";
import { answering } from "./answer.ts";
import { readConfiguration, type NetworkConfiguration } from "./configuration.ts";
import type { CniContext } from "./context.ts";
import { entryInterfaces } from "./entry-interfaces.ts";
import { requireNotes } from "./network-lock.ts";
import { natDrifts, rememberedSubnets, requireBackend } from "./network-nat.ts";
import { hasNoPorts, unjoined, type EnsuredNetwork } from "./network-state.ts";
import { planAdd } from "./plan.ts";
import { vlanGatewayName } from "./vlan.ts";
import { requireMade } from "./waits-for.ts";

export const answer = answering(status);

/** @throws WayoutError `not-available` (50), `limited-connectivity` (51), or what the configuration lacks */
async function status(context: CniContext): Promise<void> {
  const configuration = readConfiguration(context.header, {});
  requireMade(configuration, "not-available");
  const ipam = context.addresses();
  const { network, bridge } = configuration;
  requireSharedRun(context.namespace, `looking after network ${network}`);
  try {
    ipam?.status();
    if (ipam !== undefined) requireNotes(network, context.namespace);
    await requireBackend(configuration, context.namespace);
  } catch (error) {
    // A delegate tells with its own code what it lacks.
    if (!(error instanceof WayoutError) || error.code === "delegate-failed") throw error;
    throw unavailable(network, error);
  }
  const link = context.node.linkState(bridge);
  if (link !== undefined && link.kind !== "bridge") throw unavailable(network, noBridge(bridge, link));
  if (link === undefined) {
    await lookAfterIdle(context, expectedState(context, configuration, ipam, []), ipam, link);
    return;
  }
  const holder = gatewayHolder(context, configuration, link);
  const isHeld = configuration.isGateway && holder !== undefined;
  const there = isHeld ? context.node.heldAddresses(holder.index) : [];
  const state = expectedState(context, configuration, ipam, there);
  const lacking = lackingGateways(state, link, there);
  if (hasNoPorts(link)) {
    await lookAfterIdle(context, state, ipam, link);
    return;
  }
  const problems = forwardingProblems(state.plan.forwarded, holder ?? link);
  if (!link.up) problems.push(bridgeDown(bridge));
  if (configuration.promiscuous && !isPromiscuous(link)) problems.push(notPromiscuous(bridge));
  for (const { address, prefixLength } of lacking)
    problems.push(noGateway(holder?.name ?? bridge, `${address}/${prefixLength}`));
  // What is put back for one of them is put back for all: the rules are only read when all else is well.
  if (problems.length === 0) {
    const drifts = await natDrifts(natOf(context, state, holder ?? link), context.namespace);
    if (drifts.length > 0) problems.push(...natProblems(drifts));
  }
  if (problems.length > 0) await mend(context, state, problems);
}

/** Nobody is in the bridge whom a missing rule could hurt; but for pods whose bridge was deleted. */
async function lookAfterIdle(
  context: CniContext,
  state: EnsuredNetwork,
  ipam: AddressManagement | undefined,
  link: LinkState | undefined,
): Promise<void> {
  const { network, bridge } = state.configuration;
  const cutOff = unjoined(network, context.node);
  if (cutOff.length === 0) {
    requireForwarding(state.configuration, ipam?.samples([]) ?? []);
    return;
  }
  const problems = link === undefined ? [noBridge(bridge, link)] : [];
  problems.push(...cutOff.map(({ name }) => notEnslaved(name, bridge)));
  await mend(context, state, problems);
}

/**
 * Where nobody is attached nothing is switched on.
 * @throws WayoutError `not-available` where no ADD could switch it on
 */
function requireForwarding(configuration: NetworkConfiguration, addresses: readonly AssignedAddress[]): void {
  const { forwarded } = planAdd(configuration, { addresses, routes: [], dns: {} });
  try {
    for (const family of forwarded) requireSettable(undefined, FORWARDING_SYSCTL[family], "1");
  } catch (error) {
    throw error instanceof WayoutError ? unavailable(configuration.network, error) : error;
  }
}

/** @throws WayoutError `limited-connectivity` with what is wrong, and why it could not be put back */
async function mend(context: CniContext, state: EnsuredNetwork, problems: readonly Problem[]): Promise<void> {
  const { putBack } = await import("./put-back.ts");
  try {
    await putBack(context, state);
  } catch (error) {
    throw new WayoutError({
      code: "limited-connectivity",
      kind: "broken",
      doing: `putting back what pods of network ${state.configuration.network} need`,
      said: messageOf(error),
      ...(error instanceof WayoutError && error.todo !== undefined ? { todo: error.todo } : {}),
      details: { problems },
      cause: error,
    });
  }
}

/** What the next ADD would make sure of. Another plugin's addresses are known by what earlier ADDs wanted translated. */
function expectedState(
  { namespace }: CniContext,
  configuration: NetworkConfiguration,
  ipam: AddressManagement | undefined,
  there: readonly HeldAddress[],
): EnsuredNetwork {
  const addresses = ipam?.samples(there.map(({ address }) => address)) ?? [];
  const plan = planAdd(configuration, { addresses, routes: [], dns: {} });
  if (ipam === undefined || ipam.subnets.length > 0) {
    return { configuration, plan, subnets: ipam?.subnets ?? [] };
  }
  const subnets = rememberedSubnets(configuration.network, namespace);
  const forwarded = configuration.isGateway ? [...new Set(subnets.map(prefixFamily))] : [];
  return { configuration, plan: { ...plan, forwarded }, subnets };
}

function natOf({ node }: CniContext, state: EnsuredNetwork, holder: LinkState): NetworkWants {
  const { configuration, subnets } = state;
  const { network, nat } = configuration;
  return { network, ...nat, subnets, from: entryInterfaces(configuration, holder, node) };
}

/** The interface that has, or should have, the gateways' addresses; undefined where it is missing. */
function gatewayHolder(
  { node }: CniContext,
  configuration: NetworkConfiguration,
  bridge: LinkState,
): LinkState | undefined {
  return configuration.vlan > 0 ? node.linkState(vlanGatewayName(configuration)) : bridge;
}

/**
 * Gateway addresses that are missing.
 * @throws WayoutError `not-available` where every ADD would be refused for the address that is there
 */
function lackingGateways(
  { configuration, plan }: EnsuredNetwork,
  bridge: LinkState,
  there: readonly HeldAddress[],
): readonly Cidr[] {
  const gateways = plan.gateways.map((text) => parseCidr(text, "keep"));
  try {
    return missingGateways(bridge, there, gateways, { force: configuration.forceAddress });
  } catch (error) {
    if (!(error instanceof WayoutError)) throw error;
    throw unavailable(configuration.network, error);
  }
}

/** @param cause what every ADD would be refused with: its code is that of the problem */
function unavailable(network: string, cause: WayoutError | Problem): WayoutError {
  const { code } = cause;
  const text = cause instanceof WayoutError ? cause.message : cause.text;
  const todo = cause instanceof WayoutError ? cause.todo : undefined;
  return new WayoutError({
    code: "not-available",
    kind: "broken",
    doing: `looking after network ${network}`,
    said: text,
    ...(todo === undefined ? {} : { todo }),
    details: { problems: [{ code, text }] },
  });
}
