/**
 * Whose word it is that an address is a pod's. A pod gives itself what addresses and routes it likes; the node is only
 * changed for what its runtime's result, our own record or the node's own tables say, too. Otherwise the pod is mended.
 */
import { addressOf, familyOf, isDefaultCidr, type IpFamily } from "../address/ip.ts";
import { cidrContains, cidrOf, cidrText, parseCidr } from "../address/cidr.ts";
import { command } from "../text/command.ts";
import type { Route } from "../linux/route/route.ts";
import type { CheckContext } from "./check.ts";
import type { Fix } from "./finding.ts";

/** Whether others than the pod say that it has this address. */
export function isVouched(context: CheckContext, address: string | undefined): boolean {
  if (address === undefined) return false;
  const { pod, snapshot } = context;
  const promised = promisedTo(context, familyOf(address));
  if (promised.length > 0) return promised.some((cidr) => addressOf(cidr) === address);
  const others = snapshot.pods.filter((one) => one !== pod);
  if (others.some((one) => one.expected?.addresses.some((cidr) => addressOf(cidr) === address))) return false;
  return networkOnNode(context, address) !== undefined;
}

/** Whether others than the pod say that this is its gateway; with the prefix that the gateway then has. */
export function vouchedGateway({ pod }: CheckContext, gateway: string): string | undefined {
  if (pod.expected?.gateways.some((one) => addressOf(one) === gateway) !== true) return undefined;
  const own = pod.expected.addresses
    .map((text) => parseCidr(text, "keep"))
    .find((cidr) => cidrContains(cidr, gateway));
  return own === undefined ? undefined : `${gateway}/${own.prefixLength}`;
}

/** The pod's network, as the node or the runtime has it; undefined when only the pod says so. */
export function vouchedNetwork(context: CheckContext, address: string): string | undefined {
  if (!isVouched(context, address)) return undefined;
  const promised = promisedTo(context, familyOf(address));
  return (
    networkOnNode(context, address) ??
    promised
      .map((cidr) => cidrText(parseCidr(cidr, "keep")))
      .find((cidr) => cidrContains(parseCidr(cidr), address))
  );
}

/** What changes the node for this address of the pod; when only the pod says that it has it, what mends the pod. */
export function forAddress(
  context: CheckContext,
  address: string | undefined,
  fixes: () => readonly (Fix | undefined)[],
): readonly (Fix | undefined)[] {
  return isVouched(context, address) ? fixes() : restored(context);
}

/**
 * Gives the pod back what its runtime or our record says that it has, beside what it gave itself: whose that is, nobody
 * knows. Nothing where nobody says anything.
 */
export function restored(context: CheckContext): (Fix | undefined)[] {
  const { pod, inside } = context;
  const link = inside?.view.link(pod.expected?.name ?? "");
  if (pod.expected === undefined || inside === undefined || link === undefined) return [];
  const { addresses, gateways } = pod.expected;
  const has = inside.view.state.addresses.filter((one) => one.interface === link.index);
  const lacking = addresses.filter((cidr) => !has.some((one) => one.address === addressOf(cidr)));
  return [
    ...lacking.map((address) =>
      context.fix("pod", command`ip addr add ${address} dev ${link.name}`, {
        kind: "add-address",
        place: "pod",
        link: link.name,
        address,
      }),
    ),
    ...gateways.map((gateway) => {
      const own = addresses.find((cidr) => familyOf(cidr) === familyOf(gateway));
      return context.defaultRoute(
        addressOf(gateway),
        link.name,
        own === undefined ? undefined : addressOf(own),
      );
    }),
  ];
}

function promisedTo({ pod }: CheckContext, family: IpFamily): readonly string[] {
  return (pod.expected?.addresses ?? []).filter((cidr) => familyOf(cidr) === family);
}

/** The network with this address that the node has on the link by which the pod's packets come in, or routes to it. */
function networkOnNode({ node, path }: CheckContext, address: string): string | undefined {
  const links = new Set([path.inLink?.index, path.hostLink?.index].filter((index) => index !== undefined));
  const { addresses, routes } = node.view.state;
  const own = addresses.find(
    (one) =>
      links.has(one.interface) &&
      one.scope === "global" &&
      cidrContains(cidrOf(one.address, one.prefixLength), address),
  );
  if (own !== undefined) return cidrText(cidrOf(own.address, own.prefixLength));
  return routes.find(
    (route) =>
      ((links.has(route.interface ?? -1) && route.type === "unicast") || isOwnBlock(route)) &&
      !isDefaultCidr(route.destination) &&
      cidrContains(parseCidr(route.destination), address),
  )?.destination;
}

/** A routing daemon holds the node's part of the pod network by a route that refuses what no pod has (Calico's bird). */
function isOwnBlock({ type, protocol }: Route): boolean {
  return type === "blackhole" && (protocol === "bird" || protocol === "zebra");
}
