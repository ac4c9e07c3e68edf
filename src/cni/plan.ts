/** From a configuration and the addresses assigned: what to make, and what to report. Pure. */
import { cidrContains, cidrOf, cidrText, parseCidr } from "../address/cidr.ts";
import { ipBits, ipFromNumber, type IpFamily, prefixFamily, DEFAULT_CIDR } from "../address/ip.ts";
import { isLinkLocalAddress } from "../address/special-purpose.ts";
import { RT_TABLE } from "../linux/route/constants.ts";
import type { AssignedRoute, Assignment } from "../ipam/assignment.ts";
import type { BridgeIntent, PodRoute } from "../network/network.ts";
import type { NetworkConfiguration } from "./configuration.ts";
import type { ResultAddress } from "./result.ts";

/** What an attachment needs, beyond what the configuration says as it stands. */
export interface AttachmentPlan {
  /** Addresses with the gateways that were worked out; without an interface index yet. */
  readonly ips: readonly ResultAddress[];
  /** As the result reports them. */
  readonly routes: readonly AssignedRoute[];
  /** The same with every gateway filled in, for the pod's namespace. */
  readonly podRoutes: readonly PodRoute[];
  /** The node's own addresses on the bridge, with prefix. */
  readonly gateways: readonly string[];
  /** Subnets behind the bridge that no gateway address leads to, since their gateway lies outside of them. */
  readonly bridgedSubnets: readonly string[];
  /** Families that the node must forward. */
  readonly forwarded: readonly IpFamily[];
}

export function planAdd(configuration: NetworkConfiguration, assignment: Assignment): AttachmentPlan {
  const { isGateway, isDefaultGateway } = configuration;
  const ips = assignment.addresses.map(({ address, gateway }): ResultAddress => {
    const given = gateway ?? (isGateway ? firstHost(address) : undefined);
    return { address, ...(given === undefined ? {} : { gateway: given }) };
  });
  const routes = [...assignment.routes];
  if (isDefaultGateway) {
    for (const ip of ips) {
      const dst = DEFAULT_CIDR[prefixFamily(ip.address)];
      if (ip.gateway !== undefined && !hasRouteTo(routes, dst)) routes.push({ dst, gw: ip.gateway });
    }
  }
  const gateways = isGateway ? ips.map(gatewayAddress) : [];
  const bridgedSubnets = new Set<string>();
  if (isGateway) for (const ip of ips) if (hasGatewayOutside(ip)) bridgedSubnets.add(subnetOf(ip.address));
  return {
    ips,
    routes,
    podRoutes: distinct(routes.map((route) => podRoute(route, ips))),
    gateways: [...new Set(gateways)],
    bridgedSubnets: [...bridgedSubnets],
    forwarded: isGateway ? [...new Set(ips.map((ip) => prefixFamily(ip.address)))] : [],
  };
}

/** A route of another table is for whom a rule sends there. */
function hasRouteTo(routes: readonly AssignedRoute[], dst: string): boolean {
  for (const { dst: there, table = RT_TABLE.main } of routes) {
    if (there === dst && table === RT_TABLE.main) return true;
  }
  return false;
}

/** A route that is written twice is one route; the kernel would refuse the second. */
function distinct(routes: readonly PodRoute[]): readonly PodRoute[] {
  if (routes.length < 2) return routes;
  const seen = new Set<string>();
  const kept: PodRoute[] = [];
  for (const route of routes) {
    const text = JSON.stringify(route);
    if (!seen.has(text)) kept.push(route);
    seen.add(text);
  }
  return kept;
}

/** A gateway outside of the subnet is a single address: as a subnet it would draw strangers' packets to the bridge. */
function gatewayAddress(ip: ResultAddress): string {
  const { family, prefixLength } = parseCidr(ip.address, "keep");
  const gateway = ip.gateway!;
  if (!hasGatewayOutside(ip)) return `${gateway}/${prefixLength}`;
  return `${gateway}/${family === 6 && isLinkLocalAddress(gateway) ? 64 : ipBits(family)}`;
}

function hasGatewayOutside({ address, gateway }: ResultAddress): boolean {
  return gateway !== undefined && !cidrContains(parseCidr(address, "keep"), gateway);
}

export function bridgeIntent(configuration: NetworkConfiguration, gateways: readonly string[]): BridgeIntent {
  const { bridge, mtu, promiscuous, vlan, vlanTrunk, forceAddress } = configuration;
  const filtered = vlan > 0 || vlanTrunk.length > 0;
  return {
    name: bridge,
    // With a VLAN the gateway lives on an interface of its own in that VLAN.
    gateways: vlan > 0 ? [] : gateways,
    ...(mtu === undefined ? {} : { mtu }),
    ...(promiscuous ? { promiscuous } : {}),
    ...(filtered ? { vlanFiltering: true } : {}),
    ...(forceAddress ? { force: true } : {}),
  };
}

/** The subnet of an address with prefix. */
export function subnetOf(address: string): string {
  return cidrText(parseCidr(address, "keep"));
}

function firstHost(address: string): string {
  const { address: host, prefixLength, family } = parseCidr(address, "keep");
  return ipFromNumber(family, cidrOf(host, prefixLength).first + 1n);
}

/** RT_SCOPE_* that a pod's route may have (include/uapi/linux/rtnetlink.h). */
const SCOPES: Readonly<Record<number, NonNullable<PodRoute["scope"]>>> = {
  0: "global",
  253: "link",
  254: "host",
};

function firstGateway(ips: readonly ResultAddress[], family: IpFamily): string | undefined {
  for (const { address, gateway } of ips) {
    if (gateway !== undefined && prefixFamily(address) === family) return gateway;
  }
  return undefined;
}

function isOutside(gateway: string, ips: readonly ResultAddress[]): boolean {
  for (const ip of ips) if (ip.gateway === gateway && hasGatewayOutside(ip)) return true;
  return false;
}

/** A route without a gateway takes that of the first address of its family; one of link scope needs none. */
function podRoute(route: AssignedRoute, ips: readonly ResultAddress[]): PodRoute {
  const family = prefixFamily(route.dst);
  const scope = route.scope === undefined ? undefined : SCOPES[route.scope];
  const gateway = route.gw ?? (scope === "link" || scope === "host" ? undefined : firstGateway(ips, family));
  const { mtu, advmss, priority, table } = route;
  // Only the network's own gateway is known to answer on the link; any other must be in a subnet of the pod's.
  const onlink =
    gateway !== undefined && isOutside(gateway, ips) && !(family === 6 && isLinkLocalAddress(gateway));
  return {
    destination: route.dst,
    ...(gateway === undefined ? {} : { gateway }),
    ...(onlink ? { onlink } : {}),
    ...(mtu === undefined ? {} : { mtu }),
    ...(advmss === undefined ? {} : { advmss }),
    ...(priority === undefined ? {} : { priority }),
    ...(table === undefined ? {} : { table }),
    ...(scope === undefined ? {} : { scope }),
  };
}
