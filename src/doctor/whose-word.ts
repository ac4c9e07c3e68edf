/**
 * Whose word it is that an address is a pod's. A pod gives itself what addresses and routes it likes; the node is only
 * changed for what its runtime's result, our own record or the node's own tables say, too. Otherwise the pod is mended.
 */
import { addressOf, familyOf, isDefaultCidr, type IpFamily } from "../address/ip.ts";
import { isLinkLocalAddress } from "../address/special-purpose.ts";
import { cidrContains, cidrOf, cidrText, parseCidr } from "../address/cidr.ts";
import { command } from "../text/command.ts";
import type { Route } from "../linux/route/route.ts";
import type { CheckContext, Found } from "./check.ts";
import type { Finding, Fix } from "./finding.ts";

/**
 * A finding whose fixes change the node stands on what the pod says of itself: its address, its gateway. Where nobody
 * but the pod says so the node stays as it is, and the pod gets back what it was given. Every finding goes through here.
 */
export function onOthersWord(context: CheckContext, found: Finding): Finding {
  if (!found.fix.some((one) => one.place === "node" && !isOfRecord(one))) return found;
  const claim = claimOf(context);
  if (claim === undefined) return found;
  const { name, expected } = context.pod;
  const commands = found.fix.map((one) => one.command).join(" && ");
  // Where nobody says anything a person may know better; what contradicts a record is not even spelled.
  const otherwise =
    expected === undefined ? `, or, if it is right, change the node (as in: ${commands})` : "";
  return {
    ...found,
    fix: restored(context).filter((one) => one !== undefined),
    advice: [...(found.advice ?? []), `only ${name} itself says that ${claim}: correct it there${otherwise}`],
  };
}

/** Our own rules, as our own record has them: the pod has no say in it. */
function isOfRecord({ repair }: Fix): boolean {
  return repair?.kind === "restore-nat";
}

/** What the pod says of itself, and nobody else does; undefined when others say it, too. */
function claimOf(context: CheckContext): string | undefined {
  const { sent, gateway } = context.path;
  if (gateway !== undefined && !isVouchedGateway(context, gateway)) return `${gateway} is its gateway`;
  if (sent !== undefined && !isVouched(context, sent.source)) return `${sent.source} is its address`;
  return undefined;
}

/**
 * Given to it, or in a network that the node has where the pod's links end. Where none was given a link-local one is a
 * placeholder (Calico's 169.254.1.1): the link itself is what stands behind it.
 */
function isVouchedGateway(context: CheckContext, gateway: string): boolean {
  const given = context.pod.expected?.gateways.filter((one) => familyOf(one) === familyOf(gateway)) ?? [];
  if (given.some((one) => addressOf(one) === gateway) || networkOnNode(context, gateway) !== undefined)
    return true;
  return given.length === 0 && isLinkLocalAddress(gateway);
}

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

/**
 * What changes the node for the pod's MAC address. Where the runtime's result has another, the pod gets that back; where
 * it says nothing of it, it is a person's to decide.
 */
export function forMac(
  context: CheckContext,
  fix: Fix | undefined,
  advice: readonly string[] = [],
): Pick<Found, "fix" | "advice"> {
  const { pod, path } = context;
  const mac = path.podLink?.mac;
  const given = pod.expected?.mac;
  if (pod.expected === undefined || given === mac) return { fix: [fix], advice };
  if (given === undefined || path.podLink === undefined) {
    return { advice: [...advice, `only ${pod.name} itself says that its MAC address is ${mac}`] };
  }
  return {
    fix: [context.fix("pod", command`ip link set dev ${path.podLink.name} address ${given}`)],
    advice: [`${pod.name} was given ${given}, and has ${mac}`],
  };
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
  // The other family's route is as the pod has it, unless it went with the address.
  const isAsked = (gateway: string): boolean =>
    familyOf(gateway) === context.family || lacking.some((cidr) => familyOf(cidr) === familyOf(gateway));
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
    ...gateways.filter(isAsked).map((gateway) => {
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

/** The network with this address that the node has where the pod's links lead to, or routes to there. */
function networkOnNode(context: CheckContext, address: string): string | undefined {
  const { node } = context;
  const links = nodeLinksOf(context);
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

/** The node's links that the pod's are on or lead to, and the bridges that these are ports of. */
function nodeLinksOf(context: CheckContext): ReadonlySet<number> {
  const on = (context.inside?.view.state.links ?? []).flatMap((link) => context.nodeLinkOf(link) ?? []);
  return new Set(on.flatMap(({ index, master }) => (master === undefined ? [index] : [index, master])));
}

/** A routing daemon holds the node's part of the pod network by a route that refuses what no pod has (Calico's bird). */
function isOwnBlock({ type, protocol }: Route): boolean {
  return type === "blackhole" && (protocol === "bird" || protocol === "zebra");
}
