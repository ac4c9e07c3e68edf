/** The third part of the way out: through the node, from its prerouting hooks to its out-interface. */
import { endText } from "../../address/ip.ts";
import { isLoopbackAddress } from "../../address/special-purpose.ts";
import type { Link } from "../../linux/route/link.ts";
import { KERNEL_RULES } from "../../linux/route/rule.ts";
import { translateLeaving } from "./at-links.ts";
import type { Decision } from "./decision.ts";
import { isDefaultRoute, usesLink } from "./fib.ts";
import { noRoute, wayText, type Way } from "./in-pod.ts";
import { asksNeighbours, isLoopback, isSilent, isWithoutArp, linkDown, neighbourAt } from "./link-state.ts";
import { demand, protect } from "./ipsec.ts";
import { balance } from "./ipvs.ts";
import { localEnd } from "./local-end.ts";
import { tupleOf } from "./hooks.ts";
import type { Machine } from "./machine.ts";
import { solicitOutside } from "./neighbour-discovery.ts";
import { leaveByPort, portToward } from "./outer-bridge.ts";
import { isAnsweredFor, onLinkPrefix } from "./on-link.ts";
import { transportOf, type Packet } from "./packet.ts";
import { needsTranslation } from "../../causes/facts.ts";
import { FORWARDING_SYSCTL, forwardingForbiddenBy } from "../../forwarding/switches.ts";
import type { Side } from "./side.ts";
import type { NodeView } from "./view.ts";
import type { Walk } from "./walk.ts";
import { bridgeCallsIptables } from "./wire.ts";
import { present } from "../../present.ts";

/** Returns the packet as it leaves the node, or as it ends there; undefined when it does neither. */
export function crossNode(walk: Walk, machine: Machine): Packet | undefined {
  const arrived = machine.packet;
  const before = arrived.destination;
  const pre = walk.hook("node", machine, "prerouting");
  loseSocket(walk, machine);
  const { mark, dscp } = machine.packet;
  walk.routed = { ...tupleOf(machine.packet), mark, dscp, markedBy: machine.markedBy };
  walk.untrackedBy = machine.untrackedBy;
  walk.zonedBy = machine.zonedBy;
  if (machine.packet.destination !== before && pre.translated !== undefined) {
    const { destination, destinationPort } = machine.packet;
    walk.redirected = { by: pre.translated, to: endText(destination, destinationPort) };
  }
  const result = routeOnNode(walk, machine, walk.inLink!, before);
  walk.nodeFlow = machine.flow;
  if (result === undefined) return undefined;
  if (result.type !== "unicast") {
    const balanced = balance(walk, machine);
    if (balanced === "refused") return undefined;
    if (balanced === undefined) return endOnNode(walk, machine, result, pre.translated);
    if (balanced.type !== "unicast") return endOnNode(walk, machine, balanced, undefined);
    return leaveNode(walk, machine, balanced, before, "output");
  }
  demand(walk, "node", "fwd", arrived, walk.inLink!);
  if (machine.takenBy !== undefined) {
    // A packet that belongs to a socket is not forwarded (ip_forward).
    walk.stop({ kind: "proxy-without-route", place: "node", by: machine.takenBy, link: result.link });
  }
  return leaveNode(walk, machine, result, before, "forward");
}

/**
 * br_netfilter calls prerouting while the frame is still at the bridge, and the IP stack behind it takes no socket along
 * (ip_rcv_core: skb_orphan): what TPROXY found is forgotten, its mark stays.
 */
function loseSocket(walk: Walk, machine: Machine): void {
  const { inLink } = walk;
  if (machine.takenBy === undefined || inLink?.kind !== "bridge") return;
  if (!bridgeCallsIptables(walk, inLink, machine.packet.family)) return;
  machine.forgottenBy = machine.takenBy;
  machine.takenBy = undefined;
}

/** @param hook by which it goes on: what is routed through, or what the node sends on by itself */
function leaveNode(
  walk: Walk,
  machine: Machine,
  result: Way,
  before: string,
  hook: "forward" | "output",
): Packet {
  walk.outLink = result.link;
  walk.pathMtu = result.mtu ?? result.link.mtu;
  machine.nextHop = result.gateway;
  spendTtl(walk, machine, result.link);
  machine.packet = { ...machine.packet, oif: result.link.name };
  machine.encryptedBy = protect(walk, "node", machine.packet, result.link);
  walk.hook("node", machine, hook);
  // A SYN proxy begins the flow of a packet that was not tracked.
  walk.nodeFlow = machine.flow;
  const sentSource = machine.packet.source;
  walk.marks = [...machine.marks];
  const post = walk.hook("node", machine, "postrouting");
  encrypt(walk, machine, result.link, sentSource);
  walk.translatedBy = post.translated;
  walk.translatedToOneOf = machine.flow?.binding("source")?.oneOf;
  linkDown(walk, "node", result.link);
  if (result.gateway !== undefined) solicitOutside(walk, result.link, result.gateway);
  meetNeighbour(walk, result.link, result.gateway ?? machine.packet.destination);
  walk.device("node", machine, "egress", result.link);
  translateLeaving(walk, machine, result.link);
  walk.outPort = portToward(walk, result.link, result.gateway ?? machine.packet.destination);
  if (walk.outPort !== undefined) leaveByPort(walk, machine, result.link, walk.outPort);
  walk.left = { ...machine.packet };
  // What goes to a router leaves the node, also where a namespace of this machine plays the world behind it.
  const stays = result.gateway === undefined && podOwns(walk, machine.packet.destination);
  walk.end = stays ? "node" : "outside";
  walk.step("node", "postrouting", `leaves by ${result.link.name}`, machine.packet);
  turnRound(walk, machine, result.link, before);
  const stoppedHere = post.stops.length > 0;
  if (walk.end === "outside" && !stoppedHere && walk.encryptedBy === undefined)
    judgeSource(walk, machine, result, sentSource);
  return machine.packet;
}

/** Where rules have changed the source, the policies are asked again (nf_xfrm_me_harder). */
function encrypt(walk: Walk, machine: Machine, link: Link, sentSource: string): void {
  const { encryptedBy } = machine;
  const isChanged = machine.packet.source !== sentSource;
  walk.encryptedBy = isChanged ? protect(walk, "node", machine.packet, link) : encryptedBy;
  if (walk.encryptedBy === undefined) {
    walk.escaped = encryptedBy;
    return;
  }
  const { source, destination } = walk.encryptedBy.templates[0]!;
  walk.blindSpots.push({
    place: "node",
    text: `the IPsec tunnel ${source} → ${destination}, which takes the packets`,
    couldTranslate: false,
  });
}

function endOnNode(walk: Walk, machine: Machine, way: Way, translated: Decision | undefined): Packet {
  if (walk.inLink !== undefined) demand(walk, "node", "in", machine.packet, walk.inLink);
  walk.hook("node", machine, "input");
  walk.end = "node";
  loopbackDestination(walk, machine, translated);
  walk.localEnd = localEnd(walk.node.view, "node", machine, way, translated);
  walk.step("node", "input", "the packet is for the node itself", machine.packet);
  return machine.packet;
}

/** ip_route_input_slow: what comes in from outside for 127.0.0.0/8 is a martian, unless route_localnet lets it in. */
function loopbackDestination(walk: Walk, { packet }: Machine, by: Decision | undefined): void {
  const { view } = walk.node;
  const link = walk.inLink!;
  const { destination } = packet;
  if (packet.family === 6 || !isLoopbackAddress(destination) || isLoopback(link)) return;
  const own = view.conf(4, link.name, "route_localnet");
  if (own !== 0 || view.sysctl("net.ipv4.conf.all.route_localnet") === 1) return;
  walk.stop({ kind: "loopback-destination", place: "node", link, destination, by });
}

/** ip_forward, ip6_forward: what has one hop left ends here. */
export function spendTtl(walk: Walk, machine: Machine, link: Link): void {
  const { ttl } = machine.packet;
  if (ttl <= 1) walk.stop({ kind: "ttl-exceeded", place: "node", link, ttl, by: machine.ttlBy });
  machine.packet = { ...machine.packet, ttl: Math.max(ttl - 1, 0) };
}

/** DNAT led the packet back to the pod that sent it: a published port, asked for from inside. */
function turnRound(walk: Walk, machine: Machine, out: Link, target: string): void {
  const { source, destination, family } = machine.packet;
  const { inLink, hostLink } = walk;
  if (destination === target || destination !== walk.sent?.source || out.index !== inLink?.index) return;
  walk.hairpin = true;
  // The pod drops what comes from outside with an address of its own as a source (fib_validate_source).
  if (source === destination) walk.stop({ kind: "own-source", place: "pod", source, target });
  // br_netfilter translates before the bridge decides: the frame never gets up to the IP stack.
  const bridged = inLink.kind === "bridge" && bridgeCallsIptables(walk, inLink, family);
  if (bridged && hostLink?.port?.hairpin === false) {
    walk.stop({ kind: "hairpin-off", place: "node", link: hostLink, bridge: inLink, target });
  }
}

/** Another pod of this node owns the address: nothing leaves the node. */
function podOwns(walk: Walk, address: string): boolean {
  return walk.snapshot.pods.some(
    (pod) => pod.state?.addresses.some((one) => one.address === address && one.scope === "global") === true,
  );
}

/** ip_route_input_slow: the route, then forwarding, then the reverse path. Notes what refuses, and goes on. */
export function routeOnNode(
  walk: Walk,
  machine: Machine,
  inLink: Link,
  originalDestination = machine.packet.destination,
): Way | undefined {
  const { packet } = machine;
  const { view } = walk.node;
  const query = {
    destination: packet.destination,
    source: packet.source,
    iif: inLink.name,
    mark: packet.mark,
    ...transportOf(packet),
  };
  const predicted = walk.route("node", query, "tables");
  const forwards = predicted.kind === "route" && predicted.type === "unicast";
  const off =
    predicted.kind === "route" && !forwards ? undefined : forwardingOff(view, packet.family, inLink);
  if (off !== undefined) {
    walk.stop({ kind: "forwarding-off", place: "node", family: packet.family, link: inLink, sysctl: off });
  }
  const out = forwards ? predicted.link : undefined;
  const reverse = predicted.kind === "refused" || checkReversePath(walk, "node", packet, inLink, out);
  // With forwarding off or the source refused, the kernel's answer says only that. The tables say the rest.
  const asked = off === undefined && reverse && packet.destination === originalDestination;
  const result = asked ? walk.route("node", query) : predicted;
  if (result.kind === "refused") {
    noRoute(walk, "node", packet.destination, result);
    return undefined;
  }
  walk.step("node", "route", wayText(result), packet);
  return result;
}

/** The sysctl that forbids forwarding; undefined when none does. */
function forwardingOff(view: NodeView, family: 4 | 6, { name }: Link): string | undefined {
  return forwardingForbiddenBy(family, name, {
    all: view.sysctl(FORWARDING_SYSCTL[family]),
    own: view.conf(family, name, "forwarding"),
    forced: view.conf(6, name, "force_forwarding"),
  });
}

/** Rules beside the three that every namespace begins with. */
function hasOwnRules({ state }: NodeView): boolean {
  return state.rules.some((rule) => rule.family === 4 && !KERNEL_RULES.has(rule.priority));
}

/** inet_lookup_ifaddr_rcu: nothing comes in with an address that the namespace has itself. Notes when it does. */
function isNobodyHere(walk: Walk, place: Side, source: string, link: Link): boolean {
  const { view } = place === "pod" ? walk.pod! : walk.node;
  const route = view.fib.localRoute(source);
  if (route?.type !== "local" || view.conf(4, link.name, "accept_local") === 1) return true;
  walk.stop({ kind: "martian-source", place, link, source, type: "local", route, rule: undefined });
  return false;
}

/**
 * __fib_validate_source: the way back to the source is looked up as if the answer came in where the packet goes out.
 * Any next hop of that way may be the one the packet came by. IPv6 has no rp_filter. False when it refuses.
 * @param outLink undefined for a packet to the namespace itself
 */
export function checkReversePath(
  walk: Walk,
  place: Side,
  packet: Packet,
  inLink: Link,
  outLink: Link | undefined,
): boolean {
  const { view } = place === "pod" ? walk.pod! : walk.node;
  if (packet.family === 6) return true;
  const all = view.sysctl("net.ipv4.conf.all.rp_filter") ?? 0;
  const own = view.conf(4, inLink.name, "rp_filter") ?? 0;
  const value = Math.max(all, own);
  // Only with rules that were added does the kernel look the source up for this alone (fib4_has_custom_rules).
  if (value === 0 && !hasOwnRules(view)) return isNobodyHere(walk, place, packet.source, inLink);
  const marked =
    view.conf(4, inLink.name, "src_valid_mark") === 1 ||
    view.sysctl("net.ipv4.conf.all.src_valid_mark") === 1;
  const back = view.fib.predict({
    destination: packet.source,
    source: packet.destination,
    ...transportOf(packet),
    sourcePort: packet.destinationPort,
    destinationPort: packet.sourcePort,
    ...present({
      iif: outLink?.name,
      mark: marked ? packet.mark : undefined,
    }),
  });
  const acceptsLocal = view.conf(4, inLink.name, "accept_local") === 1;
  if (back.kind === "route" && back.type !== "unicast" && !(back.type === "local" && acceptsLocal)) {
    const { route, rule, type } = back;
    walk.stop({ kind: "martian-source", place, link: inLink, source: packet.source, type, route, rule });
    return false;
  }
  if (value === 0) return true;
  const found = back.kind === "route" && back.type === "unicast" ? back : undefined;
  if (found !== undefined && (value === 2 || usesLink(found, inLink))) return true;
  // Until the link is enslaved or up again its routes are elsewhere: that is told by the link.
  walk.stop({
    kind: "reverse-path",
    place,
    link: inLink,
    source: packet.source,
    value,
    instead: found?.link.name,
    sysctl: own >= all ? `net.ipv4.conf.${inLink.name}.rp_filter` : "net.ipv4.conf.all.rp_filter",
  });
  return false;
}

/** The next hop by which the packet leaves. */
function meetNeighbour(walk: Walk, link: Link, address: string): void {
  const known = neighbourAt(walk.node.view, link, address);
  if (isWithoutArp(link) && known?.state !== "permanent") {
    walk.stop({ kind: "link-noarp", place: "node", link, address });
  } else if (asksNeighbours(link)) failedNeighbour(walk, link, address);
}

export function failedNeighbour(walk: Walk, link: Link, address: string | undefined): void {
  // That a rule drops the question or its answer says why there is none.
  const isDropped = walk.stops.some(
    (stop) => stop.kind === "filtered" && stop.link?.index === link.index && stop.about !== undefined,
  );
  if (address === undefined || isDropped) return;
  const known = neighbourAt(walk.node.view, link, address);
  if (isSilent(known)) {
    walk.stop({ kind: "neighbour-failed", place: "node", link, address, state: known.state });
  }
}

/**
 * A prefix that is routed to the node: it holds it by a route that ends here (`blackhole`, as BGP daemons set it, or by
 * a dummy), so that what is not translated back goes nowhere.
 */
function isHeld({ fib }: NodeView, source: string): boolean {
  const way = fib.predict({ destination: source });
  if (way.kind === "refused") return way.route !== undefined && !isDefaultRoute(way.route);
  return way.route !== undefined && !isDefaultRoute(way.route) && way.link.kind === "dummy";
}

/** Can a host outside answer to this source? */
function judgeSource(walk: Walk, machine: Machine, way: Way, sentSource: string): void {
  const { source, destination, ttl } = machine.packet;
  const { link } = way;
  const told = walk.stops.some((stop) => stop.kind === "ttl-exceeded");
  if (ttl <= 1 && way.gateway !== undefined && !told) {
    walk.stop({ kind: "ttl-exceeded", place: "node", link, ttl, by: machine.ttlBy });
  }
  if (walk.node.view.fib.isLocal(source) || isHeld(walk.node.view, source)) return;
  const prefix = onLinkPrefix(walk.node.view, link, source);
  // Back by the link it came in by: who asks there for the pod's address is answered by the pod itself.
  if (prefix !== undefined && link.index === walk.inLink?.index && source === sentSource) return;
  // An address of the uplink's own network that is answered for there needs no translation.
  if (prefix !== undefined && isAnsweredFor(walk.node.view, link, source)) return;
  if (source !== sentSource) {
    if (walk.translatedToOneOf === undefined) {
      walk.stop({ kind: "foreign-source", place: "node", source, link, prefix, by: walk.translatedBy });
    }
    return;
  }
  if (prefix !== undefined) {
    // Where it came in, the pod answers for itself.
    if (link.index === walk.inLink?.index) return;
    walk.stop({ kind: "source-unanswered", place: "node", source, link, prefix });
    return;
  }
  if (needsTranslation(source, destination)) {
    walk.stop({ kind: "untranslated", place: "node", source, link, untrackedBy: walk.untrackedBy });
  }
}
