/** STATUS: whether an ADD would work, and whether those who are attached still have what they need. Asked every few seconds. */
import { WayoutError } from "../error.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import { readConfiguration, type NetworkConfiguration } from "./configuration.ts";
import type { CniContext } from "./context.ts";
import { entrances } from "./entrance.ts";
import { natProblems } from "./network-nat.ts";
import { notForwarded } from "./network-state.ts";
import { vlanGatewayName } from "./vlan.ts";

/** @throws WayoutError `not-available` (50), `limited-connectivity` (51), or what the configuration lacks */
export async function status(context: CniContext): Promise<void> {
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
  // Without a carrier it has no port that is up: nobody is attached whom a missing rule could hurt, and ADD mends it.
  if (!link.flags.includes("LOWER_UP")) return;
  const subnets = ipam?.subnets ?? [];
  const problems = [
    ...(configuration.isGateway
      ? notForwarded(subnets.some((cidr) => cidr.includes(":")) ? [4, 6] : [4], link).map(
          (family) => `IPv${family} forwarding is off`,
        )
      : []),
    ...(await natProblems(
      { network, wish: configuration.nat, subnets, from: entrancesOf(configuration, link, context) },
      context.namespace,
    )),
  ];
  if (problems.length > 0) {
    throw new WayoutError({
      code: "limited-connectivity",
      kind: "broken",
      doing: `looking after network ${network}`,
      said: problems.join("; "),
      todo: "The next ADD repairs it; `wayout agent` does so at once.",
    });
  }
}

/** As an ADD has them, which makes the gateway of a VLAN before it asks. */
function entrancesOf(configuration: NetworkConfiguration, bridge: LinkState, { node }: CniContext): string[] {
  const inVlan = configuration.vlan > 0 ? node.linkState(vlanGatewayName(configuration)) : undefined;
  return entrances(configuration, inVlan ?? bridge, node);
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
