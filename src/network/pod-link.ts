/** A pod's link to its node: a veth pair, one end in the pod, the other in a bridge (or alone, point-to-point). */
import { parseCidr, type Cidr } from "../address/cidr.ts";
import { ipBits } from "../address/ip.ts";
import { WayoutError } from "../error.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { AnyRequest } from "../kernel/netlink/connection.ts";
import { NetlinkError } from "../kernel/netlink/netlink-error.ts";
import { addAddressRequest } from "../kernel/route/address.ts";
import type { BridgeVlan } from "../kernel/route/bridge.ts";
import type { Scope } from "../kernel/route/constants.ts";
import type { Link } from "../kernel/route/link.ts";
import {
  addBridgeVlansRequest,
  createVethRequest,
  deleteBridgeVlansRequest,
  setBridgePortRequest,
  setLinkRequest,
} from "../kernel/route/link-requests.ts";
import { deleteNeighbourRequest } from "../kernel/route/neighbour.ts";
import { prependRouteRequest, replaceRouteRequest, type RouteSpec } from "../kernel/route/route.ts";
import { isAbsent, Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { writeSysctl } from "../kernel/sysctl.ts";
import { awaitDetection } from "./duplicate-detection.ts";
import { networkFailure } from "./failure.ts";
import { checkInterfaceName, hostVethName } from "./interface-name.ts";
import { Undo } from "./undo.ts";

/** How a pod hangs on its node. */
export interface PodLinkIntent {
  /** With container and interfaceName it makes the host end's name, and appears in messages. */
  readonly network: string;
  readonly container: string;
  /** Name of the interface in the pod. */
  readonly interfaceName: string;
  /** Name on the host; hostVethName(network, container, interfaceName) when absent. */
  readonly hostName?: string;
  /** What the host's end says of itself (`ip link` shows it), at most 255 bytes; there from the first moment. */
  readonly alias?: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** With prefix: "10.0.0.1/24". */
  readonly addresses: readonly string[];
  readonly routes: readonly PodRoute[];
  /** Index of the bridge the host's end joins. */
  readonly bridge?: number;
  /** Without a bridge: the node's own addresses on its end, without prefix. The pod is routed, not bridged. */
  readonly gateways?: readonly string[];
  readonly hairpin?: boolean;
  readonly isolated?: boolean;
  readonly vlans?: readonly BridgeVlan[];
  /** Take the port out of this VLAN, which the bridge has put it in. */
  readonly dropDefaultVlan?: number;
  /** Let the pod check that its IPv6 addresses are free, and wait for it. Default: they are ours to give. */
  readonly duplicateAddressDetection?: boolean;
  /** Leave the pod's interface down, without addresses and routes. */
  readonly leaveDown?: boolean;
  /** Complete a link that is there already between these two names, instead of refusing. Default: refuse. */
  readonly adopt?: boolean;
}

export interface PodRoute {
  readonly destination: string;
  /** Absent: on the link. */
  readonly gateway?: string;
  readonly onlink?: boolean;
  readonly mtu?: number;
  readonly advmss?: number;
  readonly priority?: number;
  readonly table?: number;
  readonly scope?: Scope;
}

export interface PodLink {
  /** Both ends as the kernel describes them, before they are set up. */
  readonly host: Link;
  readonly pod: Link;
  /** Whether this call made the pair; false when it was there and was completed. */
  readonly created: boolean;
  /** Whether the pod's loopback was down before. */
  readonly raisedLoopback: boolean;
}

const LOOPBACK_INDEX = 1;

/** The namespaces of one call, and what of it was parsed. */
interface Work {
  readonly node: Rtnetlink;
  readonly pod: Rtnetlink;
  readonly namespace: NetworkNamespace;
  readonly intent: PodLinkIntent;
  readonly hostName: string;
  readonly addresses: readonly Cidr[];
  readonly undo: Undo;
}

/**
 * Makes the link, or nothing: when a step fails, all that was made is taken away again.
 * @param podRoute a connection that is open in the pod's namespace already, to be used instead of a new one
 * @throws WayoutError interface-exists, interface-missing, bad-interface-name, bad-address, address-in-use,
 *   kernel-lacks-feature, no-privilege
 */
export function connectPod(
  node: Rtnetlink,
  namespace: NetworkNamespace,
  intent: PodLinkIntent,
  podRoute?: Rtnetlink,
): PodLink {
  const doing = `connecting ${intent.container} to network ${intent.network}`;
  const hostName = hostNameOf(intent);
  checkInterfaceName(intent.interfaceName, doing);
  checkInterfaceName(hostName, doing);
  const undo = new Undo();
  let pod = podRoute;
  try {
    const addresses = intent.addresses.map((text) => parseCidr(text, "keep"));
    pod ??= Rtnetlink.open(namespace);
    return build({ node, pod, namespace, intent, hostName, addresses, undo });
  } catch (error) {
    throw networkFailure(doing, error, undo.run());
  } finally {
    if (podRoute === undefined) pod?.close();
  }
}

/**
 * Takes the link away, with everything that hangs on it. False when there was none. An end that is no veth is left
 * alone: it is not ours.
 * @param namespace undefined when the pod's namespace is gone
 */
export function disconnectPod(
  node: Rtnetlink,
  namespace: NetworkNamespace | undefined,
  intent: Pick<PodLinkIntent, "network" | "container" | "interfaceName" | "hostName">,
): boolean {
  const doing = `disconnecting ${intent.container} from network ${intent.network}`;
  try {
    const host = node.link(hostNameOf(intent), { statistics: false });
    if (host?.kind === "veth" && node.deleteLink(host.index)) return true;
    if (namespace === undefined) return false;
    // The host's end may have been made under another name, by another plugin.
    using pod = Rtnetlink.open(namespace);
    const end = pod.link(intent.interfaceName, { statistics: false });
    return end?.kind === "veth" && pod.deleteLink(end.index);
  } catch (error) {
    throw networkFailure(doing, error);
  }
}

function hostNameOf(
  intent: Pick<PodLinkIntent, "network" | "container" | "interfaceName" | "hostName">,
): string {
  return intent.hostName ?? hostVethName(intent.network, intent.container, intent.interfaceName);
}

function build(work: Work): PodLink {
  const { node, pod, intent } = work;
  const raisedLoopback = raiseLoopback(work);
  const created = makePair(work);
  const host = present(node, work.hostName);
  const end = present(pod, intent.interfaceName);
  if (!created) checkAdoptable(work, host, end);
  settleHostEnd(work, host, created);
  if (intent.leaveDown === true) return { host, pod: end, created, raisedLoopback };
  settleSysctls(work, end);
  settlePodEnd(work, end, created);
  if (intent.duplicateAddressDetection === true) awaitDetection(pod, end);
  if (intent.bridge === undefined) settlePointToPoint(work, host);
  return { host, pod: end, created, raisedLoopback };
}

function raiseLoopback({ pod, undo }: Work): boolean {
  const loopback = pod.link(LOOPBACK_INDEX, { statistics: false });
  if (loopback === undefined || loopback.up) return false;
  undo.note("loopback being up", () => pod.setLink(LOOPBACK_INDEX, { up: false }));
  pod.setLink(LOOPBACK_INDEX, { up: true });
  return true;
}

/** Both ends in one message, each in its namespace and under its final name. False when they were there. */
function makePair(work: Work): boolean {
  const { node, pod, namespace, intent, hostName, undo } = work;
  const mtu = intent.mtu === undefined ? {} : { mtu: intent.mtu };
  const request = createVethRequest({
    name: hostName,
    ...mtu,
    ...(intent.bridge === undefined ? {} : { master: intent.bridge }),
    peer: {
      name: intent.interfaceName,
      namespaceFd: namespace.fd,
      ...mtu,
      ...(intent.mac === undefined ? {} : { mac: intent.mac }),
    },
  });
  // In one datagram, which the kernel carries out whole: a death in between leaves no end without its alias. It would
  // carry out the second part for a stranger's interface of that name, too, hence the look before.
  const label = intent.alias === undefined ? [] : [setLinkRequest(hostName, { alias: intent.alias })];
  const there = label.length > 0 && node.link(hostName, { statistics: false }) !== undefined;
  const errors = there ? undefined : createPair(work, [request, ...label]);
  const error = errors?.get(0);
  if (errors === undefined || error !== undefined) {
    if (error !== undefined && !isThere(error)) throw error;
    if (intent.adopt === true && node.link(hostName) !== undefined) return false;
    throw taken(
      pod.link(intent.interfaceName) === undefined ? hostName : intent.interfaceName,
      intent,
      error,
    );
  }
  undo.note(`interface ${hostName}`, () => node.deleteLink(hostName));
  for (const refusal of errors.values()) throw refusal;
  return true;
}

function createPair(work: Work, requests: readonly AnyRequest[]): Map<number, Error> {
  try {
    return work.node.batchResults(requests);
  } catch (error) {
    // No refusal, but an answer that got lost: the pair may be there.
    work.undo.note(`interface ${work.hostName}`, () => deletePair(work));
    throw error;
  }
}

/** Deletes the host's end if it is one end of a pair between just these two names. */
function deletePair(work: Work): void {
  const host = work.node.link(work.hostName, { statistics: false });
  const end = work.pod.link(work.intent.interfaceName, { statistics: false });
  if (host !== undefined && end !== undefined && isPair(work, host, end)) work.node.deleteLink(host.index);
}

function taken(name: string, intent: PodLinkIntent, cause: unknown): WayoutError {
  const where = name === intent.interfaceName ? `in ${intent.container}` : "on this node";
  return new WayoutError({
    code: "interface-exists",
    kind: "broken",
    doing: `connecting ${intent.container} to network ${intent.network}`,
    said: `there is an interface ${name} ${where} already`,
    todo: "Disconnect it first, or choose another interface name.",
    cause,
    details: { interface: name },
  });
}

function present(route: Rtnetlink, name: string): Link {
  const link = route.link(name, { statistics: false });
  if (link !== undefined) return link;
  throw new WayoutError({
    code: "interface-missing",
    kind: "broken",
    doing: `reading interface ${name}`,
    said: "it is not there",
    todo: "Somebody removed it meanwhile, or renamed it: try again.",
    details: { interface: name },
  });
}

/** What is to be completed must be one veth pair between just these two names. */
function checkAdoptable(work: Work, host: Link, end: Link): void {
  if (!isPair(work, host, end)) throw taken(host.name, work.intent, undefined);
}

function isPair({ node, namespace }: Work, host: Link, end: Link): boolean {
  return (
    host.kind === "veth" &&
    end.kind === "veth" &&
    host.link === end.index &&
    end.link === host.index &&
    (host.linkNamespaceId === undefined || host.linkNamespaceId === node.namespaceId(namespace.fd))
  );
}

/** The host's end: in its bridge, with its port settings, up. */
function settleHostEnd({ node, intent, addresses }: Work, host: Link, created: boolean): void {
  const requests: AnyRequest[] = [];
  if (!created && intent.bridge !== undefined && host.master !== intent.bridge) {
    requests.push(setLinkRequest(host.index, { master: intent.bridge }));
  }
  if (intent.bridge === undefined || (intent.hairpin === undefined && intent.isolated === undefined)) {
    requests.push(setLinkRequest(host.index, { up: true }));
  } else {
    const port = {
      ...(intent.hairpin === undefined ? {} : { hairpin: intent.hairpin }),
      ...(intent.isolated === undefined ? {} : { isolated: intent.isolated }),
    };
    requests.push(setBridgePortRequest(host.index, port, true));
  }
  if (intent.vlans !== undefined && intent.vlans.length > 0) {
    requests.push(addBridgeVlansRequest(host.index, intent.vlans));
  }
  if (intent.dropDefaultVlan !== undefined) {
    const vlan = {
      first: intent.dropDefaultVlan,
      last: intent.dropDefaultVlan,
      pvid: false,
      untagged: false,
    };
    requests.push(deleteBridgeVlansRequest(host.index, [vlan]));
  }
  const strict = requests.length;
  // An earlier pod's MAC under the same address would send the first packets to nobody.
  if (intent.bridge !== undefined) {
    for (const { address } of addresses) {
      requests.push(deleteNeighbourRequest({ interface: intent.bridge, address }));
    }
  }
  for (const [index, error] of node.batchResults(requests)) {
    if (index < strict || !isAbsent(error)) throw error;
  }
}

/** Unless it is wanted, the pod shall not wait a second for each of its IPv6 addresses, the link-local one included. */
function settleSysctls({ namespace, intent, addresses }: Work, end: Link): void {
  if (end.ipv6 === undefined || !addresses.some(({ family }) => family === 6)) return;
  const set = (name: string, value: string): string =>
    writeSysctl(namespace, `net.ipv6.conf.${end.name}.${name}`, value);
  // An address cannot be added where IPv6 is switched off, as some runtimes do by default.
  if (end.ipv6.disable_ipv6 === 1) set("disable_ipv6", "0");
  if (intent.duplicateAddressDetection !== true && end.ipv6.accept_dad !== 0) set("accept_dad", "0");
  if (end.ipv6.ndisc_notify !== 1) set("ndisc_notify", "1");
}

/** Everything inside the pod, in one datagram. What is adopted may have any of it already. */
function settlePodEnd(work: Work, end: Link, created: boolean): void {
  for (const error of work.pod.batchResults([...podRequests(work, end)]).values()) {
    if (created || !isThere(error)) throw error;
  }
}

function isThere(error: unknown): boolean {
  return error instanceof NetlinkError && error.code === "EEXIST";
}

function* podRequests({ intent, addresses }: Work, end: Link): Generator<AnyRequest> {
  // arp_notify, and ndisc_notify above: the kernel tells the neighbours whenever the MAC is set, as in the last step.
  yield setLinkRequest(end.index, { up: true, ipv4: { arp_notify: 1 } });
  for (const { family, address, prefixLength } of addresses) {
    yield addAddressRequest({
      interface: end.index,
      address,
      prefixLength,
      nodad: family === 6 && intent.duplicateAddressDetection !== true,
      // Point-to-point there is no neighbour on the link but the node.
      noPrefixRoute: intent.bridge === undefined,
    });
  }
  for (const gateway of intent.bridge === undefined ? (intent.gateways ?? []) : []) {
    yield prependRouteRequest({ destination: hostPrefix(gateway), interface: end.index, scope: "link" });
  }
  // A pod with several networks may have a default route from each; the latest comes first, as people are used to.
  for (const route of intent.routes) yield prependRouteRequest(routeSpec(route, end));
  yield setLinkRequest(end.index, { mac: intent.mac ?? end.mac });
}

function hostPrefix(address: string): string {
  return `${address}/${ipBits(address.includes(":") ? 6 : 4)}`;
}

function routeSpec(route: PodRoute, end: Link): RouteSpec {
  const metrics = {
    ...(route.mtu === undefined ? {} : { mtu: route.mtu }),
    ...(route.advmss === undefined ? {} : { advmss: route.advmss }),
  };
  return {
    destination: route.destination,
    interface: end.index,
    metrics,
    ...(route.gateway === undefined ? {} : { gateway: route.gateway }),
    ...(route.onlink === undefined ? {} : { onlink: route.onlink }),
    ...(route.priority === undefined ? {} : { metric: route.priority }),
    ...(route.table === undefined ? {} : { table: route.table }),
    ...(route.scope === undefined ? {} : { scope: route.scope }),
  };
}

/** The node's side of a routed link: its addresses, and the way to each of the pod's. */
function settlePointToPoint({ node, intent, addresses }: Work, host: Link): void {
  const requests: AnyRequest[] = [];
  const there = node.addresses({ interface: host.index });
  for (const gateway of intent.gateways ?? []) {
    if (there.some(({ address }) => address === gateway)) continue;
    const prefixLength = ipBits(gateway.includes(":") ? 6 : 4);
    requests.push(addAddressRequest({ interface: host.index, address: gateway, prefixLength, nodad: true }));
  }
  for (const { address } of addresses) {
    requests.push(
      replaceRouteRequest({ destination: hostPrefix(address), interface: host.index, scope: "link" }),
    );
  }
  node.batch(requests);
}
