/** The first part of the way out: from the socket in the pod to the pod's interface, or to the pod itself. */
import { familyOf } from "../../address/ip.ts";
import { isLinkLocalAddress } from "../../address/special-purpose.ts";
import type { RouteResult } from "./fib.ts";
import { protect } from "./ipsec.ts";
import { IPPROTO, isLoopback, linkDown } from "./link-state.ts";
import { localEnd } from "./local-end.ts";
import type { Machine } from "./machine.ts";
import { firstPacket, transportOf, type Packet } from "./packet.ts";
import type { Side } from "./side.ts";
import { chooseSource } from "./source-address.ts";
import type { Walk, PreparedNamespace } from "./walk.ts";
import { present } from "../../present.ts";

/** Source port of the packet that is followed: one of ip_local_port_range's usual values. */
const SOURCE_PORT = 43210;

export type Way = Extract<RouteResult, { kind: "route" }>;

/** The packet as it leaves by the pod's interface; undefined when it does not. */
export function leavePod(walk: Walk): Machine | undefined {
  const { pod, target } = walk;
  if (pod === undefined) return undefined;
  const found = connect(walk, pod);
  if (found === undefined) return undefined;
  const { way, source } = found;
  walk.podLink = way.link;
  walk.gateway = way.gateway;
  const packet = packetOf(walk, pod, way, source);
  walk.sent = { ...packet };
  walk.step("pod", "route", wayText(way), packet);
  protect(walk, "pod", packet, way.link);
  if (linkDown(walk, "pod", way.link)) return undefined;
  const machine = walk.machine("pod", packet);
  machine.nextHop = way.gateway;
  machine.sender = target.sender ?? PROBE;
  const output = walk.hook("pod", machine, "output");
  walk.podFlow = machine.flow;
  const now =
    machine.rerouted || machine.packet.destination !== target.address ? reroute(walk, machine) : way;
  if (now === undefined) return undefined;
  walk.hook("pod", machine, "postrouting");
  if (now.type !== "unicast" || isLoopback(now.link)) {
    enterSelf(walk, machine, now, output.translated);
    return undefined;
  }
  walk.device("pod", machine, "egress", now.link);
  return machine;
}

/** A person with the rights to enter a pod's namespace sends from there as root. */
const PROBE = { uid: 0, gid: 0 } as const;

/**
 * What connect() does (ip_route_connect): a way without a source names the source, and the way is asked for again with
 * it, so that rules by `from` count.
 */
function connect(walk: Walk, pod: PreparedNamespace): { way: Way; source: string } | undefined {
  const { target } = walk;
  const { view } = pod;
  const family = familyOf(target.address);
  const query = {
    destination: target.address,
    protocol: IPPROTO[target.protocol],
    destinationPort: target.port,
    uid: target.sender?.uid ?? PROBE.uid,
  };
  const first = walk.route("pod", query);
  if (first.kind === "refused") return noRoute(walk, "pod", target.address, first);
  const choice = chooseSource(view, first.link, target.address, first.gateway ?? target.address);
  const source = first.source ?? choice?.address.address;
  // Nobody routes a link-local source (ip6_forward); the kernel chooses it when there is no better one.
  if (
    source === undefined ||
    (family === 6 && isLinkLocalAddress(source) && !isLinkLocalAddress(target.address))
  ) {
    walk.podLink = first.link;
    walk.gateway = first.gateway;
    walk.stop({ kind: "no-address", place: "pod", link: first.link, family });
    return undefined;
  }
  if (choice?.address.address === source) walk.source = choice;
  if (!asksForSource(pod, family)) return { way: first, source };
  const sourcePort = target.sourcePort ?? SOURCE_PORT;
  const way = walk.route("pod", { ...query, source, sourcePort });
  return way.kind === "refused" ? noRoute(walk, "pod", target.address, way) : { way, source };
}

function asksForSource({ view }: PreparedNamespace, family: 4 | 6): boolean {
  const { rules, routes } = view.state;
  return (
    rules.some(
      (one) => one.family === family && (one.source !== undefined || one.sourcePorts !== undefined),
    ) || routes.some((one) => one.family === family && one.source !== undefined)
  );
}

function packetOf(walk: Walk, { view }: PreparedNamespace, way: Way, source: string): Packet {
  const { target } = walk;
  const family = familyOf(target.address);
  const icmp = target.protocol === "icmp" || target.protocol === "icmpv6";
  const packet = firstPacket(family, {
    source,
    destination: target.address,
    protocol: target.protocol,
    sourcePort: icmp ? 0 : (target.sourcePort ?? SOURCE_PORT),
    destinationPort: target.port,
  });
  const ttl =
    way.route?.metrics.hopLimit ??
    (family === 4 ? view.sysctl("net.ipv4.ip_default_ttl") : view.conf(6, way.link.name, "hop_limit"));
  return {
    ...packet,
    oif: way.link.name,
    ...present({ ttl: ttl === undefined || ttl <= 0 ? undefined : ttl }),
  };
}

/** ip_route_me_harder: a packet whose destination, mark or source a rule changed in OUTPUT is routed anew. */
function reroute(walk: Walk, machine: Machine): Way | undefined {
  const { packet } = machine;
  const way = walk.route("pod", {
    destination: packet.destination,
    mark: packet.mark,
    ...transportOf(packet),
    uid: walk.target.sender?.uid ?? PROBE.uid,
    ...present({ source: walk.pod!.view.fib.isLocal(packet.source) ? packet.source : undefined }),
  });
  if (way.kind === "refused") return noRoute(walk, "pod", packet.destination, way);
  if (way.link.index !== walk.podLink?.index) walk.step("pod", "route", wayText(way), packet);
  walk.podLink = way.link;
  walk.gateway = way.gateway;
  machine.nextHop = way.gateway;
  machine.packet = { ...packet, oif: way.link.name };
  return way;
}

/** The packet is the pod's own: its loopback takes it in again, with the conntrack entry that it has. */
function enterSelf(walk: Walk, machine: Machine, way: Way, translated: Walk["translatedBy"]): void {
  machine.packet = { ...machine.packet, iif: "lo", oif: undefined };
  walk.hook("pod", machine, "prerouting");
  walk.hook("pod", machine, "input");
  walk.end = "pod";
  walk.localEnd = localEnd(walk.pod!.view, "pod", machine, way, translated);
  walk.step("pod", "input", "the packet is for the pod itself", machine.packet);
}

export function noRoute(
  walk: Walk,
  place: Side,
  destination: string,
  result: Extract<RouteResult, { kind: "refused" }>,
): undefined {
  const { error, route, rule } = result;
  walk.stop({ kind: "no-route", place, destination, error, route, rule });
}

export function wayText(result: Way): string {
  const via = result.gateway === undefined ? "on-link" : `via ${result.gateway}`;
  return `${via} dev ${result.link.name}${result.type === "unicast" ? "" : ` (${result.type})`}`;
}
