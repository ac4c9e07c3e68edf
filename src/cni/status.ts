/**
 * STATUS: whether an ADD would work. A runtime that hears no calls no ADD any more, so what the next ADD would put back
 * for those who are attached is put back here; only what no ADD could mend is told. Asked every few seconds.
 */
import { parseCidr } from "../address/cidr.ts";
import { messageOf, WayoutError } from "../error.ts";
import type { Address } from "../linux/route/address.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import { missingGateways } from "../network/bridge.ts";
import type { AddressManagement } from "./address-management.ts";
import { answering } from "./answer.ts";
import { readConfiguration, type NetworkConfiguration } from "./configuration.ts";
import type { CniContext } from "./context.ts";
import { entrances } from "./entrance.ts";
import { natProblems, rememberedSubnets } from "./network-nat.ts";
import type { NetworkWants } from "../nat/network-wants.ts";
import { notForwarded, type NetworkState } from "./network-state.ts";
import { familyOf, planAttachment } from "./plan.ts";
import { vlanGatewayName } from "./vlan.ts";

export const answer = answering(status);

/** @throws WayoutError `not-available` (50), `limited-connectivity` (51), or what the configuration lacks */
async function status(context: CniContext): Promise<void> {
  const configuration = readConfiguration(context.header, {});
  const ipam = context.addresses();
  const { network, bridge } = configuration;
  try {
    ipam?.status();
  } catch (error) {
    // A delegate tells with its own code what it lacks.
    if (!(error instanceof WayoutError) || error.code === "delegate-failed") throw error;
    throw unavailable(network, error.message, error.todo);
  }
  const link = context.node.linkState(bridge);
  if (link === undefined) return;
  if (link.kind !== "bridge") {
    throw unavailable(network, `${bridge} is no bridge but ${link.kind ?? "another interface"}`);
  }
  const there = gatewaysThere(context, configuration, link);
  const state = expectedState(context, configuration, ipam, there);
  const lacksAddress = lacksGateway(state, link, there);
  // Without a carrier it has no port that is up: nobody is attached whom a missing rule could hurt.
  if (link.up && !link.flags.includes("LOWER_UP")) return;
  const isWhole =
    link.up &&
    !lacksAddress &&
    notForwarded(state.plan.forwarded, link).length === 0 &&
    (await natProblems(natOf(context, state, link), context.namespace)).length === 0;
  if (isWhole) return;
  const { putBack } = await import("./put-back.ts");
  try {
    await putBack(context, state);
  } catch (error) {
    throw new WayoutError({
      code: "limited-connectivity",
      kind: "broken",
      doing: `putting back what pods of network ${network} need`,
      said: messageOf(error),
      ...(error instanceof WayoutError && error.todo !== undefined ? { todo: error.todo } : {}),
      cause: error,
    });
  }
}

/** What the next ADD would make sure of. Another plugin's addresses are known by what earlier ADDs wanted translated. */
function expectedState(
  { namespace }: CniContext,
  configuration: NetworkConfiguration,
  ipam: AddressManagement | undefined,
  there: readonly Address[],
): NetworkState {
  const addresses = ipam?.samples(there.map(({ address }) => address)) ?? [];
  const plan = planAttachment(configuration, { addresses, routes: [], dns: {} });
  if (ipam === undefined || ipam.subnets.length > 0) {
    return { configuration, plan, subnets: ipam?.subnets ?? [] };
  }
  const subnets = rememberedSubnets(configuration.network, namespace);
  const forwarded = configuration.isGateway ? [...new Set(subnets.map(familyOf))] : [];
  return { configuration, plan: { ...plan, forwarded }, subnets };
}

function natOf({ node }: CniContext, state: NetworkState, bridge: LinkState): NetworkWants {
  const { configuration, subnets } = state;
  const { network, nat, vlan } = configuration;
  const inVlan = vlan > 0 ? node.linkState(vlanGatewayName(configuration)) : undefined;
  return { network, ...nat, subnets, from: entrances(configuration, inVlan ?? bridge, node) };
}

/** The addresses of the interface that holds the gateways'. */
function gatewaysThere(
  { node }: CniContext,
  configuration: NetworkConfiguration,
  bridge: LinkState,
): readonly Address[] {
  if (!configuration.isGateway) return [];
  const holder = configuration.vlan > 0 ? node.linkState(vlanGatewayName(configuration)) : bridge;
  return holder === undefined ? [] : node.addresses({ interface: holder.index });
}

/** @throws WayoutError `not-available` where every ADD would be refused for the address that is there */
function lacksGateway(
  { configuration, plan }: NetworkState,
  bridge: LinkState,
  there: readonly Address[],
): boolean {
  const gateways = plan.gateways.map((text) => parseCidr(text, "keep"));
  try {
    return missingGateways(bridge, there, gateways, { force: configuration.forceAddress }).length > 0;
  } catch (error) {
    if (!(error instanceof WayoutError)) throw error;
    throw unavailable(configuration.network, error.message, error.todo);
  }
}

function unavailable(network: string, said: string, todo?: string): WayoutError {
  return new WayoutError({
    code: "not-available",
    kind: "broken",
    doing: `looking after network ${network}`,
    said,
    ...(todo === undefined ? {} : { todo }),
  });
}
