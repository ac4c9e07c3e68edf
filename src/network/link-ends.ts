/** The two ends of a pod's link, once they are there: what each is given, in as few messages as it takes. */
import type { AnyRequest } from "../linux/netlink/message.ts";
import type { Cidr } from "../address/cidr.ts";
import { familyOf, ipBits } from "../address/ip.ts";
import { sleep } from "../kernel/calls.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { NetlinkError } from "../linux/netlink/netlink-error.ts";
import { addAddressRequest } from "../linux/route/address.ts";
import type { Ipv6State } from "../linux/route/interface-settings.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import {
  addBridgeVlansRequest,
  deleteBridgeVlansRequest,
  setBridgePortRequest,
  setLinkRequest,
  type LinkReference,
} from "../linux/route/link-requests.ts";
import { deleteNeighbourRequest } from "../linux/route/neighbour.ts";
import { prependRouteRequest, replaceRouteRequest, type RouteSpec } from "../linux/route/route.ts";
import { isAbsent, type LinkRtnetlink } from "../kernel/route/link-rtnetlink.ts";
import { preferSysctl, writeSysctl } from "../kernel/sysctl.ts";
import { awaitDetection } from "./duplicate-detection.ts";
import type { PodLinkIntent, PodRoute } from "./pod-link-intent.ts";
import type { Undo } from "./undo.ts";
import { LOOPBACK_INDEX } from "../linux/link-layer.ts";

/** The namespaces of one call, and what of it was parsed. */
export interface Work {
  readonly node: LinkRtnetlink;
  readonly pod: LinkRtnetlink;
  readonly namespace: NetworkNamespace;
  readonly intent: PodLinkIntent;
  readonly hostName: string;
  readonly addresses: readonly Cidr[];
  readonly undo: Undo;
}

/** Whether it was down. A pod that gets IPv6 has ::1, too, even where a runtime has switched IPv6 off for all its interfaces. */
export function raiseLoopback({ pod, namespace, intent, addresses, undo }: Work): boolean {
  if (intent.raiseLoopback === false) return false;
  const loopback = pod.linkState(LOOPBACK_INDEX);
  if (loopback === undefined) return false;
  if (loopback.ipv6?.disable_ipv6 === 1 && hasIpv6(addresses)) {
    preferSysctl(namespace, "net.ipv6.conf.lo.disable_ipv6", "0");
  }
  if (loopback.up) return false;
  undo.note("loopback being up", () => pod.setLink(LOOPBACK_INDEX, { up: false }));
  pod.setLink(LOOPBACK_INDEX, { up: true });
  return true;
}

/** The node's end: its port settings, up. By name: its index need not be known. */
export function settleHostEnd({ node, intent, addresses, hostName }: Work): void {
  const requests = [portRequest(hostName, intent.bridge === undefined ? {} : intent)];
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

/** Longest that we wait for the link to be ready; on a very busy machine its first packets may then be lost. */
const READY_TIMEOUT_MS = 2000;
const READY_POLL_MS = 1;

/**
 * Waits for the kernel's link watch, which runs by itself: only when it has seen the carrier does IPv6 use the
 * interface and does the bridge forward what comes from it. With spanning tree a port then listens and learns for half
 * a minute: that is not waited for.
 */
export function awaitReady<T extends { readonly host: LinkState; readonly pod: LinkState }>(
  { intent }: Work,
  read: () => T,
): T {
  for (let waitedMs = 0; ; waitedMs += READY_POLL_MS) {
    const ends = read();
    const { host, pod } = ends;
    const isReady =
      host.operState === "up" &&
      pod.operState === "up" &&
      (intent.bridge === undefined || host.port?.state !== "disabled");
    if (isReady || intent.leaveDown === true || waitedMs >= READY_TIMEOUT_MS) return ends;
    sleep(READY_POLL_MS);
  }
}

/** The VLANs of the port, on a bridge that filters by them. */
export function settleVlans({ node, intent }: Work, host: LinkState): void {
  const requests = vlanRequests(host.index, intent);
  if (requests.length > 0) node.batch(requests);
}

type PortIntent = Pick<PodLinkIntent, "hairpin" | "isolated" | "vlans" | "dropDefaultVlan">;

/** Makes a host end that is there a port of a bridge, with all its settings. @param port its index */
export function joinRequests(port: number, intent: PortIntent, bridge: LinkState): AnyRequest[] {
  return [
    setLinkRequest(port, { master: bridge.index }),
    portRequest(port, intent),
    ...vlanRequests(port, intent),
  ];
}

/** Up, with its settings as a port of the bridge that it is in. */
function portRequest(port: LinkReference, { hairpin, isolated }: PortIntent): AnyRequest {
  if (hairpin === undefined && isolated === undefined) return setLinkRequest(port, { up: true });
  const settings = {
    ...(hairpin === undefined ? {} : { hairpin }),
    ...(isolated === undefined ? {} : { isolated }),
  };
  return setBridgePortRequest(port, settings, true);
}

/** What the port leaves comes first: it may be one of those that it is put in, otherwise than the bridge did. */
export function vlanRequests(
  port: number,
  { vlans = [], dropDefaultVlan }: Pick<PodLinkIntent, "vlans" | "dropDefaultVlan">,
): AnyRequest[] {
  const requests: AnyRequest[] = [];
  if (dropDefaultVlan !== undefined) {
    const dropped = { first: dropDefaultVlan, last: dropDefaultVlan, pvid: false, untagged: false };
    requests.push(deleteBridgeVlansRequest(port, [dropped]));
  }
  if (vlans.length > 0) requests.push(addBridgeVlansRequest(port, vlans));
  return requests;
}

/** Unless it is wanted, the pod shall not wait a second for each of its IPv6 addresses, the link-local one included. */
function settleSysctls({ namespace, intent, addresses }: Work, end: LinkState): void {
  if (end.ipv6 === undefined) return;
  const nameOf = (setting: string): string => `net.ipv6.conf.${end.name}.${setting}`;
  // An address cannot be added where IPv6 is switched off, as some runtimes do by default.
  const wantsIpv6 = hasIpv6(addresses);
  if (end.ipv6.disable_ipv6 === 1) {
    if (!wantsIpv6) return;
    writeSysctl(namespace, nameOf("disable_ipv6"), "0");
  }
  const prefer = (setting: keyof Ipv6State, value: number): void => {
    if (end.ipv6?.[setting] !== value) preferSysctl(namespace, nameOf(setting), String(value));
  };
  if (intent.duplicateAddressDetection !== true) prefer("accept_dad", 0);
  else if (end.ipv6.accept_dad === 0) prefer("accept_dad", 1);
  if (!wantsIpv6) return;
  prefer("ndisc_notify", 1);
  // A pod that sets its interface down and up again has its addresses still, as it has with IPv4.
  prefer("keep_addr_on_down", 1);
}

function hasIpv6(addresses: readonly Cidr[]): boolean {
  for (const { family } of addresses) if (family === 6) return true;
  return false;
}

/** Everything inside the pod, in one datagram. What is adopted may have any of it already. */
export function settlePodEnd(work: Work, end: LinkState, created: boolean): void {
  settleSysctls(work, end);
  for (const error of work.pod.batchResults(podRequests(work, end)).values()) {
    if (created || !isThere(error)) throw error;
  }
}

export function isThere(error: unknown): boolean {
  return error instanceof NetlinkError && error.code === "EEXIST";
}

function podRequests({ intent, addresses }: Work, end: LinkState): AnyRequest[] {
  // arp_notify and, above, ndisc_notify: see announce.
  const requests: AnyRequest[] = [setLinkRequest(end.index, { up: true, ipv4: { arp_notify: 1 } })];
  for (const { family, address, prefixLength } of addresses) {
    const spec = {
      interface: end.index,
      address,
      prefixLength,
      nodad: family === 6 && intent.duplicateAddressDetection !== true,
      // Point-to-point there is no neighbour on the link but the node.
      noPrefixRoute: intent.bridge === undefined,
    };
    requests.push(addAddressRequest(spec));
  }
  for (const gateway of intent.bridge === undefined ? (intent.gateways ?? []) : []) {
    const spec = { destination: hostPrefix(gateway), interface: end.index, scope: "link" } as const;
    requests.push(prependRouteRequest(spec));
  }
  // A pod with several networks may have a default route from each; the latest comes first, as people are used to.
  for (const route of intent.routes) requests.push(prependRouteRequest(routeSpec(route, end)));
  return requests;
}

/**
 * Gratuitous ARP and unsolicited neighbour advertisements, from the kernel itself: it sends them whenever the MAC is
 * set, even to what it is, and needs no packet socket, whose closing would wait for RCU.
 */
export function announce({ pod, intent, addresses }: Work, end: LinkState): void {
  if (intent.duplicateAddressDetection === true) awaitDetection(pod, end);
  if (addresses.length > 0) pod.setLink(end.index, { mac: intent.mac ?? end.mac });
}

function hostPrefix(address: string): string {
  return `${address}/${ipBits(familyOf(address))}`;
}

function routeSpec(route: PodRoute, end: LinkState): RouteSpec {
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
export function settlePointToPoint({ node, intent, addresses }: Work, host: LinkState): void {
  const requests: AnyRequest[] = [];
  const there = node.addresses({ interface: host.index });
  for (const gateway of intent.gateways ?? []) {
    if (there.some(({ address }) => address === gateway)) continue;
    const prefixLength = ipBits(familyOf(gateway));
    requests.push(addAddressRequest({ interface: host.index, address: gateway, prefixLength, nodad: true }));
  }
  for (const { address } of addresses) {
    requests.push(
      replaceRouteRequest({ destination: hostPrefix(address), interface: host.index, scope: "link" }),
    );
  }
  node.batch(requests);
}
