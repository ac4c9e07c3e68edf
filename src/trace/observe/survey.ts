/** The path as the kernel describes it, before a packet is sent. */
import { icmpProtocol, IP_PROTOCOL } from "../../linux/ip-protocol.ts";
import { legacyTableNames } from "../../kernel/iptables-legacy/table-names.ts";
import { likelyLinkOut } from "../../causes/facts.ts";
import { LOOPBACK_INDEX } from "../../linux/link-layer.ts";
import type { IpFamily } from "../../address/ip.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import type { Address } from "../../linux/route/address.ts";
import type { Link } from "../../linux/route/link.ts";
import type { RouteAnswer } from "../../linux/route/route.ts";
import { Rtnetlink } from "../../kernel/route/rtnetlink.ts";
import { readSysctl } from "../../kernel/sysctl.ts";
import type { Pod } from "../../pods/pod.ts";
import { givenUpBecause, podRoute } from "../../pods/pod-socket.ts";
import { wiringOf } from "../../pods/wiring.ts";
import type { TraceProtocol } from "./destination.ts";
import type { NodeSide, NotObserved, PodSide } from "../evidence.ts";
import { present } from "../../present.ts";

/** A packet as routing sees it. */
export interface RoutedPacket {
  readonly family: IpFamily;
  readonly protocol: TraceProtocol;
  readonly destination: string;
  readonly destinationPort?: number;
  /** The pod's own address for it; absent until the pod's routes were asked, and when it has none. */
  readonly source?: string;
}

/** A node whose routes are being read. */
interface OpenNode {
  readonly namespace: NetworkNamespace;
  readonly route: Rtnetlink;
  readonly links: readonly Link[];
}

/** The pod's side: the route it would use, the interface, the next hop. */
export function surveyPod(pod: Pod, namespace: NetworkNamespace, packet: RoutedPacket): PodSide {
  using route = podRoute(namespace);
  const lists = new Lists();
  const answer = route.routeTo(queryOf(packet));
  const index = answer.reachable ? answer.route.interface : undefined;
  const promised = pod.attachments[0]?.interface;
  // Those that matter first, each by itself: after a list that was given up there may be no time for more questions.
  const known = [LOOPBACK_INDEX, index, promised].flatMap((one) =>
    one === undefined ? [] : (route.link(one, { statistics: false }) ?? []),
  );
  const links = lists.read("links", () => route.links({ statistics: false })) ?? known;
  const link = links.find((one) => one.index === index) ?? likelyLinkOut(links, promised);
  const addresses =
    lists.read("addresses", () => route.addresses()) ??
    lists.read("addresses", () => route.addresses(present({ interface: link?.index }))) ??
    [];
  return present({
    name: pod.name,
    path: pod.path,
    inode: namespace.inode,
    links,
    addresses,
    route: answer,
    link,
    nextHop: answer.reachable ? (answer.route.gateway ?? packet.destination) : undefined,
    unread: lists.unread.length > 0 ? lists.unread : undefined,
  });
}

/** Reads lists of a pod, which may be of any length: one that was given up is told, and the trace goes on without it. */
export class Lists {
  readonly unread: NotObserved[] = [];

  /** undefined, with a note, for a list that was given up. */
  read<T>(what: string, list: () => T[]): T[] | undefined {
    try {
      return list();
    } catch (error) {
      const why = givenUpBecause(error);
      if (why === undefined) throw error;
      const told = { what: `${what} of the pod`, why };
      if (!this.unread.some((one) => one.what === told.what)) this.unread.push(told);
      return undefined;
    }
  }
}

/** The node's side: the other end of the veth, the bridge, the kernel's routing answer, the settings that decide. */
export function surveyNode(
  namespace: NetworkNamespace,
  pod: { readonly namespace: NetworkNamespace; readonly side: PodSide },
  packet: RoutedPacket,
): NodeSide {
  using route = Rtnetlink.open(namespace);
  const links = route.links({ statistics: false });
  const { link } = pod.side;
  const found = link === undefined ? undefined : wiringOf(pod.namespace, link.name, [namespace]);
  const { hostLink, bridge } = found?.wiring ?? {};
  const entry = bridge ?? hostLink;
  const lower =
    hostLink === undefined ? links.find((one) => one.index === found?.wiring.podLink.link) : undefined;
  return present({
    path: namespace.path,
    inode: namespace.inode,
    links,
    addresses: route.addresses(),
    hostLink,
    bridge,
    isLockedOut: isLockedOut(route, hostLink, link) ? true : undefined,
    lower,
    entry,
    routeBack: packet.source === undefined ? undefined : route.routeTo({ destination: packet.source }),
    ...wayThrough({ namespace, route, links }, entry, packet),
    iptablesLegacy: legacyTableNames(packet.family === 4 ? "ip" : "ip6", namespace),
  });
}

/** A locked port passes only senders that the forwarding database has behind it; its own address is no such entry. */
function isLockedOut(route: Rtnetlink, port: Link | undefined, podLink: Link | undefined): boolean {
  if (port?.port?.locked !== true) return false;
  return !route
    .forwardingDatabase()
    .some(
      (entry) => entry.interface === port.index && entry.mac === podLink?.mac && entry.state !== "permanent",
    );
}

/** The same for the destination that a rule put in the place of the one that was asked for. */
export function surveyTranslated(
  namespace: NetworkNamespace,
  side: NodeSide,
  packet: RoutedPacket,
): NodeSide {
  using route = Rtnetlink.open(namespace);
  const { route: _route, out: _out, nextHop: _nextHop, links, ...rest } = side;
  return { ...rest, links, ...wayThrough({ namespace, route, links }, side.entry, packet) };
}

/** What the node's routing answers for the packet, and the settings of the way that it names. */
function wayThrough(
  { namespace, route, links }: OpenNode,
  entry: Link | undefined,
  packet: RoutedPacket,
): Pick<NodeSide, "route" | "out" | "nextHop" | "sysctls"> {
  const { source } = packet;
  const answer =
    entry === undefined || source === undefined
      ? undefined
      : route.routeTo({ ...queryOf(packet), source, inputInterface: entry.index });
  const out = answer?.reachable === true ? outLink(answer, links) : undefined;
  return present({
    route: answer,
    out,
    nextHop: answer?.reachable === true ? (answer.route.gateway ?? packet.destination) : undefined,
    sysctls: settings(namespace, packet.family, entry, out, links),
  });
}

function outLink(answer: RouteAnswer & { reachable: true }, links: readonly Link[]): Link | undefined {
  const index = answer.route.interface ?? answer.route.nextHops?.[0]?.interface;
  return links.find((link) => link.index === index);
}

function queryOf(packet: RoutedPacket) {
  return present({
    destination: packet.destination,
    ipProtocol: packet.protocol === "icmp" ? icmpProtocol(packet.family) : IP_PROTOCOL[packet.protocol],
    destinationPort: packet.destinationPort,
  });
}

function settings(
  namespace: NetworkNamespace,
  family: IpFamily,
  entry: Link | undefined,
  out: Link | undefined,
  links: readonly Link[],
): Record<string, string> {
  const conf = family === 4 ? "net.ipv4.conf" : "net.ipv6.conf";
  const names = family === 4 ? ["net.ipv4.ip_forward", `${conf}.all.rp_filter`] : [`${conf}.all.forwarding`];
  for (const link of [entry, out]) {
    if (link === undefined) continue;
    names.push(`${conf}.${link.name}.forwarding`);
    names.push(`${conf}.${link.name}.${family === 4 ? "rp_filter" : "force_forwarding"}`);
  }
  // An answer may arrive by any of them.
  if (family === 4) {
    const others = links.filter((link) => link.master === undefined && link !== entry && link !== out);
    names.push(...others.map((link) => `${conf}.${link.name}.rp_filter`));
  }
  const values: Record<string, string> = {};
  for (const name of names) {
    const value = readSysctl(namespace, name);
    if (value !== undefined) values[name] = value;
  }
  return values;
}

/** The address that the pod would use as its source. */
export function sourceOf(pod: PodSide, family: IpFamily): string | undefined {
  if (pod.route.reachable && pod.route.route.preferredSource !== undefined) {
    return pod.route.route.preferredSource;
  }
  const ofLink = pod.addresses.filter(
    (address: Address) => address.family === family && address.interface === pod.link?.index,
  );
  return (ofLink.find((address) => address.scope === "global") ?? ofLink[0])?.address;
}
