/** The way out: from the pod's socket to the node's out-interface. */
import { needsTranslation } from "../../causes/facts.ts";
import { cidrContains, cidrOf } from "../../address/cidr.ts";
import { FORWARDING_SYSCTL, forwardingForbiddenBy } from "../../forwarding/switches.ts";
import type { Link } from "../../linux/route/link.ts";
import { IPPROTO, isLoopback, linkDown, neighbourAt } from "./link-state.ts";
import type { RouteResult } from "./fib.ts";
import { runBridgeHook } from "./hooks.ts";
import type { Machine } from "./machine.ts";
import { firstPacket, type Packet } from "./packet.ts";
import type { Place } from "./path.ts";
import type { NodeView } from "./view.ts";
import type { Walk } from "./walk.ts";

/** Source port of the packet that is followed: one of ip_local_port_range's usual values. */
const SOURCE_PORT = 43210;

/** Follows the first packet. Returns it as it leaves the node; undefined when it never gets that far. */
export function walkOut(walk: Walk): Packet | undefined {
  const sent = leavePod(walk);
  if (sent === undefined) return undefined;
  const arrived = crossWire(walk, sent);
  if (arrived === undefined) return undefined;
  return crossNode(walk, arrived);
}

// ── 1. In the pod ────────────────────────────────────────────────────────────────────────────────────────────────

function leavePod(walk: Walk): Machine | undefined {
  const { pod, target } = walk;
  if (pod === undefined) return undefined;
  const family = target.address.includes(":") ? 6 : 4;
  const { view } = pod;
  const query = {
    destination: target.address,
    protocol: IPPROTO[target.protocol],
    destinationPort: target.port,
  };
  const result = view.fib.lookup(query);
  if (result.kind === "refused") {
    noRoute(walk, "pod", target.address, result);
    return undefined;
  }
  walk.podLink = result.link;
  walk.gateway = result.gateway;
  const source = result.source ?? chooseSource(view, family, result.link, result.gateway ?? target.address);
  // Nobody routes a link-local source (ip6_forward); the kernel chooses it when there is no better one.
  if (source === undefined || (isLinkLocal(source) && !isLinkLocal(target.address))) {
    walk.stop({ kind: "no-address", place: "pod", link: result.link, family });
    return undefined;
  }
  const icmp = target.protocol === "icmp" || target.protocol === "icmpv6";
  const packet: Packet = {
    ...firstPacket(family, {
      source,
      destination: target.address,
      protocol: target.protocol,
      sourcePort: icmp ? 0 : (target.sourcePort ?? SOURCE_PORT),
      destinationPort: target.port,
    }),
    oif: result.link.name,
  };
  walk.sent = { ...packet };
  walk.step("pod", "route", wayText(result), packet);
  if (linkDown(walk, "pod", result.link)) return undefined;
  const machine = walk.machine("pod", packet);
  machine.nextHop = result.gateway;
  walk.hook("pod", machine, "output");
  walk.podFlow = machine.flow;
  if (machine.packet.destination !== target.address) reroutePod(walk, machine);
  walk.hook("pod", machine, "postrouting");
  if (result.type === "local" || isLoopback(walk.podLink)) {
    walk.end = "node";
    return undefined;
  }
  walk.device("pod", machine, "egress", walk.podLink);
  return machine;
}

function isLinkLocal(address: string): boolean {
  return /^fe[89ab]/i.test(address);
}

/** A destination rewritten in OUTPUT is routed anew (ip_route_me_harder). */
function reroutePod(walk: Walk, machine: Machine): void {
  const { packet } = machine;
  const again = walk.pod!.view.fib.lookup({ destination: packet.destination, source: packet.source });
  if (again.kind === "refused") {
    noRoute(walk, "pod", packet.destination, again);
    return;
  }
  walk.podLink = again.link;
  walk.gateway = again.gateway;
  machine.nextHop = again.gateway;
  machine.packet = { ...packet, oif: again.link.name };
}

function noRoute(
  walk: Walk,
  place: Place,
  destination: string,
  result: Extract<RouteResult, { kind: "refused" }>,
): void {
  const { error, route, rule } = result;
  walk.stop({ kind: "no-route", place, destination, error, route, rule });
}

function wayText(result: Extract<RouteResult, { kind: "route" }>): string {
  const via = result.gateway === undefined ? "on-link" : `via ${result.gateway}`;
  return `${via} dev ${result.link.name}${result.type === "unicast" ? "" : ` (${result.type})`}`;
}

/** The source address the kernel gives a socket that has none: inet_select_addr, RFC 6724 in its main lines. */
function chooseSource(view: NodeView, family: 4 | 6, link: Link, nextHop: string): string | undefined {
  const usable = view.state.addresses.filter(
    (one) =>
      one.family === family &&
      one.interface === link.index &&
      (family === 4 || one.scope === "global") &&
      !one.flags.includes("tentative") &&
      !one.flags.includes("dadfailed") &&
      (family === 6 || !one.flags.includes("secondary")),
  );
  const facing = usable.find((one) => cidrContains(cidrOf(one.address, one.prefixLength), nextHop));
  return (facing ?? usable[0])?.address;
}

// ── 2. Over the wire to the node ─────────────────────────────────────────────────────────────────────────────────

/** The packet as the node's IP stack takes it in; undefined when it does not get there. */
function crossWire(walk: Walk, sent: Machine): Machine | undefined {
  const link = walk.podLink!;
  const host = hostLinkOf(walk, link);
  if (host === undefined) {
    walk.blindSpots.push({
      place: "pod",
      text: `${link.name} is ${link.kind === undefined ? "not a veth" : `a ${link.kind}`} whose other end is not on this node`,
      couldTranslate: true,
    });
    return undefined;
  }
  walk.hostLink = host;
  const node = walk.node.view;
  const bridge = node.linkAt(host.master);
  const nextHop = walk.gateway ?? sent.packet.destination;
  const gatewayLink = checkGateway(walk, link, host, bridge, nextHop);
  linkDown(walk, "node", host);
  walk.inLink = bridge ?? host;
  const packet: Packet = {
    ...sent.packet,
    mark: 0,
    ctMark: 0,
    oif: undefined,
    iif: walk.inLink.name,
    sourceMac: link.mac,
    destinationMac: walk.inLink.mac,
    physicalIn: bridge === undefined ? undefined : host.name,
  };
  const machine = walk.machine("node", packet);
  machine.packet = { ...machine.packet, iif: host.name };
  walk.device("node", machine, "ingress", host);
  walk.step("node", "wire", `${link.name} in the pod is ${host.name} on the node`, packet);
  // The bridge's own chains see the port as the incoming interface, the IP stack behind them the bridge.
  if (bridge !== undefined && !crossBridge(walk, machine, host, bridge, gatewayLink)) return undefined;
  machine.packet = { ...machine.packet, iif: walk.inLink.name };
  return machine;
}

/** Both ends of a veth name each other; the one on this node is the pod's other end. */
export function hostLinkOf(walk: Walk, link: Link): Link | undefined {
  if (link.kind !== "veth" || link.link === undefined) return undefined;
  const host = walk.node.view.linkAt(link.link);
  return host?.kind === "veth" && host.link === link.index ? host : undefined;
}

/** Who answers for the gateway: the node (undefined: through bridge or veth itself) or another port of the bridge. */
function checkGateway(
  walk: Walk,
  link: Link,
  host: Link,
  bridge: Link | undefined,
  nextHop: string,
): Link | undefined {
  const node = walk.node.view;
  const taker = bridge ?? host;
  const owned = node.fib.isLocal(nextHop);
  const behindPort = owned || bridge === undefined ? undefined : ownerOnBridge(walk, bridge, nextHop);
  const family = nextHop.includes(":") ? 6 : 4;
  const proxied = node.conf(family, taker.name, family === 4 ? "proxy_arp" : "proxy_ndp") === 1;
  const known = neighbourAt(walk.pod!.view, link, nextHop);
  if (known !== undefined && known.mac !== undefined && isPinned(known.state)) {
    const real = behindPort?.mac ?? (owned || proxied ? taker.mac : undefined);
    if (real !== undefined && known.mac !== real) {
      const { mac, address } = known;
      walk.stop({ kind: "wrong-neighbour", place: "pod", link, address, mac, real });
    }
    return behindPort;
  }
  if (owned || proxied || behindPort !== undefined) return behindPort;
  if (bridge !== undefined && uplinkPorts(walk, bridge).length > 0) return uplinkPorts(walk, bridge)[0];
  walk.stop({ kind: "gateway-unowned", place: "node", link: taker, gateway: nextHop });
  return undefined;
}

/** Entries that the kernel does not ask about again. */
function isPinned(state: string): boolean {
  return state === "permanent" || state === "noarp";
}

/** The link inside another pod of the same bridge that has the address. */
function ownerOnBridge(walk: Walk, bridge: Link, address: string): Link | undefined {
  for (const other of walk.snapshot.pods) {
    const owner = other.state?.addresses.find((one) => one.address === address);
    if (owner === undefined || other.state === undefined || other.name === walk.podState.name) continue;
    const link = other.state.links.find((one) => one.index === owner.interface);
    const host = link === undefined ? undefined : hostLinkOf(walk, link);
    if (host?.master === bridge.index) return link;
  }
  return undefined;
}

/** Ports that lead out of this node, so that somebody behind them may own what nobody here does. */
function uplinkPorts(walk: Walk, bridge: Link): Link[] {
  return walk.node.view.state.links.filter((one) => one.master === bridge.index && one.kind !== "veth");
}

/** False when the frame goes on to another port instead of into the node. */
function crossBridge(
  walk: Walk,
  machine: Machine,
  host: Link,
  bridge: Link,
  otherPort: Link | undefined,
): boolean {
  const state = host.port?.state;
  if (state !== undefined && state !== "forwarding") {
    walk.stop({ kind: "port-blocked", place: "node", link: host, bridge, state });
  }
  if (!bridge.up) walk.stop({ kind: "link-down", place: "node", link: bridge });
  walk.noteBridge(machine, "prerouting", runBridgeHook(machine, walk.node.hooks, "prerouting"));
  if (otherPort === undefined) {
    walk.noteBridge(machine, "input", runBridgeHook(machine, walk.node.hooks, "input"));
    return true;
  }
  walk.end = "bridged";
  bridgeOn(walk, machine, host, bridge, otherPort);
  return false;
}

/** From port to port. With br_netfilter on, the IP chains see the frame, too. */
function bridgeOn(walk: Walk, machine: Machine, host: Link, bridge: Link, other: Link): void {
  const out = hostLinkOf(walk, other) ?? other;
  if (host.port?.isolated === true && out.port?.isolated === true) {
    walk.stop({ kind: "port-isolated", place: "node", link: host, other: out });
  }
  const calls = bridgeCallsIptables(walk, bridge, machine.packet.family);
  /** The IP chains see the bridge where the bridge's own see the port. */
  const asIp = (hook: "prerouting" | "forward" | "postrouting"): void => {
    if (!calls) return;
    const oif = hook === "prerouting" ? undefined : bridge.name;
    machine.packet = { ...machine.packet, iif: bridge.name, oif, physicalOut: out.name };
    walk.hook("node", machine, hook);
  };
  const asBridge = (hook: "forward" | "postrouting"): void => {
    machine.packet = { ...machine.packet, iif: host.name, oif: out.name };
    walk.noteBridge(machine, hook, runBridgeHook(machine, walk.node.hooks, hook));
  };
  asIp("prerouting");
  asBridge("forward");
  asIp("forward");
  asBridge("postrouting");
  asIp("postrouting");
  walk.step("node", "bridge", `stays on ${bridge.name}, leaves by port ${out.name}`, machine.packet);
}

/** net.bridge.bridge-nf-call-iptables, or the bridge's own switch. */
export function bridgeCallsIptables(walk: Walk, bridge: Link, family: 4 | 6): boolean {
  const name = family === 4 ? "iptables" : "ip6tables";
  if (walk.node.view.sysctl(`net.bridge.bridge-nf-call-${name}`) === 1) return true;
  return (family === 4 ? bridge.bridge?.callIptables : bridge.bridge?.callIp6tables) === true;
}

// ── 3. Through the node ──────────────────────────────────────────────────────────────────────────────────────────

function crossNode(walk: Walk, machine: Machine): Packet | undefined {
  const before = machine.packet.destination;
  walk.hook("node", machine, "prerouting");
  const result = routeOnNode(walk, machine, walk.inLink!, before);
  walk.nodeFlow = machine.flow;
  if (result === undefined) return undefined;
  if (result.type !== "unicast") {
    walk.hook("node", machine, "input");
    walk.end = "node";
    walk.step("node", "input", "the packet is for the node itself", machine.packet);
    return machine.packet;
  }
  walk.outLink = result.link;
  walk.pathMtu = result.mtu ?? result.link.mtu;
  machine.nextHop = result.gateway;
  machine.packet = { ...machine.packet, oif: result.link.name, ttl: machine.packet.ttl - 1 };
  walk.hook("node", machine, "forward");
  const sentSource = machine.packet.source;
  const post = walk.hook("node", machine, "postrouting");
  walk.translatedBy = post.translated;
  walk.translatedToOneOf = machine.flow?.binding("source")?.oneOf;
  linkDown(walk, "node", result.link);
  failedNeighbour(walk, result.link, result.gateway);
  walk.device("node", machine, "egress", result.link);
  walk.left = { ...machine.packet };
  // What goes to a router leaves the node, also where a namespace of this machine plays the world behind it.
  const stays = result.gateway === undefined && podOwns(walk, machine.packet.destination);
  walk.end = stays ? "node" : "outside";
  walk.step("node", "postrouting", `leaves by ${result.link.name}`, machine.packet);
  turnRound(walk, machine, result.link, before);
  const stoppedHere = post.stops.length > 0;
  if (walk.end === "outside" && !stoppedHere) judgeSource(walk, machine, result.link, sentSource);
  return machine.packet;
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

type Way = Extract<RouteResult, { kind: "route" }>;

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
    protocol: IPPROTO[packet.protocol],
    sourcePort: packet.sourcePort,
    destinationPort: packet.destinationPort,
  };
  const predicted = view.fib.predict(query);
  const forwards = predicted.kind === "route" && predicted.type === "unicast";
  const off =
    predicted.kind === "route" && !forwards ? undefined : forwardingOff(view, packet.family, inLink);
  if (off !== undefined) {
    walk.stop({ kind: "forwarding-off", place: "node", family: packet.family, link: inLink, sysctl: off });
  }
  const out = forwards ? predicted.link : undefined;
  const reverse = predicted.kind === "refused" || reversePath(walk, packet, inLink, out);
  // With forwarding off or the source refused, the kernel's answer says only that. The tables say the rest.
  const asked = off === undefined && reverse && packet.destination === originalDestination;
  const result = asked ? view.fib.lookup(query) : predicted;
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

/**
 * __fib_validate_source: the way back to the source is looked up as if the answer came in where the packet goes out.
 * IPv6 has no rp_filter. False when it refuses.
 * @param outLink undefined for a packet to the node itself
 */
function reversePath(walk: Walk, packet: Packet, inLink: Link, outLink: Link | undefined): boolean {
  const { view } = walk.node;
  if (packet.family === 6) return true;
  const all = view.sysctl("net.ipv4.conf.all.rp_filter") ?? 0;
  const own = view.conf(4, inLink.name, "rp_filter") ?? 0;
  const value = Math.max(all, own);
  if (value === 0) return true;
  const marked =
    view.conf(4, inLink.name, "src_valid_mark") === 1 ||
    view.sysctl("net.ipv4.conf.all.src_valid_mark") === 1;
  const back = view.fib.predict({
    destination: packet.source,
    source: packet.destination,
    ...(outLink === undefined ? {} : { iif: outLink.name }),
    ...(marked ? { mark: packet.mark } : {}),
  });
  const found = back.kind === "route" && back.type === "unicast" ? back.link : undefined;
  if (found !== undefined && (value === 2 || found.index === inLink.index)) return true;
  // Until the link is enslaved or up again its routes are elsewhere: that is told by the link.
  walk.stop({
    kind: "reverse-path",
    place: "node",
    link: inLink,
    source: packet.source,
    value,
    instead: found?.name,
    sysctl: own >= all ? `net.ipv4.conf.${inLink.name}.rp_filter` : "net.ipv4.conf.all.rp_filter",
  });
  return false;
}

export function failedNeighbour(walk: Walk, link: Link, address: string | undefined): void {
  if (address === undefined) return;
  const known = neighbourAt(walk.node.view, link, address);
  if (known?.state === "failed" || known?.state === "incomplete") {
    walk.stop({ kind: "neighbour-failed", place: "node", link, address, state: known.state });
  }
}

/** Can anybody outside answer to this source? */
function judgeSource(walk: Walk, machine: Machine, link: Link, sentSource: string): void {
  const { source, destination } = machine.packet;
  if (walk.node.view.fib.isLocal(source)) return;
  if (source !== sentSource) {
    if (walk.translatedToOneOf === undefined) {
      walk.stop({ kind: "foreign-source", place: "node", source, link, by: walk.translatedBy });
    }
    return;
  }
  if (needsTranslation(source, destination)) {
    walk.stop({ kind: "untranslated", place: "node", source, link });
  }
}
