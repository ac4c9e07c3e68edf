/** The way back: from wherever the answer comes from to the pod's socket. */
import type { Link } from "../../linux/route/link.ts";
import { translateArriving } from "./at-links.ts";
import { runBridgeHook } from "./hooks.ts";
import type { Flow } from "./flow.ts";
import { demand } from "./ipsec.ts";
import { neighbourAt } from "./link-state.ts";
import type { Machine } from "./machine.ts";
import { solicit } from "./neighbour-discovery.ts";
import { arriveByPort } from "./outer-bridge.ts";
import { failedNeighbour, checkReversePath, routeOnNode, spendTtl } from "./node.ts";
import { IPS } from "../../linux/conntrack/status.ts";
import { answerTo, transportOf, type Packet } from "./packet.ts";
import type { Walk } from "./walk.ts";
import { noRoute, type Way } from "./in-pod.ts";
import { present } from "../../present.ts";

/** Follows the answer to a packet that left. */
export function walkBack(walk: Walk, left: Packet): void {
  const { nodeFlow, inLink } = walk;
  // What a pod sends to itself is judged where it turns round: its answer takes the same way.
  if (inLink === undefined || walk.end === "bridged" || walk.hairpin) return;
  walk.direction = "back";
  if (nodeFlow !== undefined) nodeFlow.status |= IPS.SEEN_REPLY | IPS.CONFIRMED;
  const machine = walk.machine("node", answerTo(left), nodeFlow);
  const arrived =
    walk.localEnd !== undefined ? answerFromNode(walk, machine) : answerFromOutside(walk, machine);
  if (arrived) enterPod(walk, machine);
}

/** What a socket of the node answers: routed by its source, so that rules by `from` count, then sent. */
export function answerFromNode(walk: Walk, machine: Machine): boolean {
  const way = routeFromNode(walk, machine);
  if (way === undefined) return false;
  machine.packet = { ...machine.packet, iif: undefined, oif: way.link.name };
  machine.nextHop = way.gateway;
  walk.hook("node", machine, "output");
  const now = machine.rerouted ? routeFromNode(walk, machine) : way;
  if (now === undefined) return false;
  machine.packet = { ...machine.packet, oif: now.link.name };
  walk.hook("node", machine, "postrouting");
  return leadsToPod(walk, machine, now);
}

function routeFromNode(walk: Walk, { packet }: Machine): Way | undefined {
  const way = walk.route("node", {
    destination: packet.destination,
    source: packet.source,
    ...transportOf(packet),
    ...present({ mark: packet.mark === 0 ? undefined : packet.mark }),
  });
  return way.kind === "refused" ? noRoute(walk, "node", packet.destination, way) : way;
}

export function answerFromOutside(walk: Walk, machine: Machine): boolean {
  const arrival = arrivalLink(walk);
  if (arrival === undefined) return false;
  walk.answerLink = arrival;
  machine.packet = { ...machine.packet, iif: arrival.name };
  // Who encrypted the packet encrypts the answer.
  machine.decryptedBy = walk.encryptedBy;
  if (walk.outPort !== undefined && arrival.index === walk.outLink?.index)
    arriveByPort(walk, machine, arrival, walk.outPort);
  // A program at tc ingress comes before netfilter's own hook there.
  if (!translateArriving(walk, machine, arrival)) return false;
  walk.device("node", machine, "ingress", arrival);
  const wire = machine.packet;
  walk.hook("node", machine, "prerouting");
  if (!isRecognized(walk, machine, arrival)) return false;
  const way = routeOnNode(walk, machine, arrival);
  if (way === undefined || !leadsToPod(walk, machine, way)) return false;
  if (machine.decryptedBy === undefined) demand(walk, "node", "fwd", wire, arrival);
  machine.nextHop = way.gateway;
  spendTtl(walk, machine, way.link);
  machine.packet = { ...machine.packet, oif: way.link.name };
  walk.hook("node", machine, "forward");
  walk.hook("node", machine, "postrouting");
  return hasRoom(walk, machine, way.link);
}

/** Routers bring the answer to the network of its address: where that is another link's, it arrives there. */
function arrivalLink(walk: Walk): Link | undefined {
  const { view } = walk.node;
  const { outLink, left } = walk;
  if (outLink === undefined || left === undefined || walk.end !== "outside") return outLink;
  const owners = view.state.addresses.filter((one) => one.address === left.source);
  if (owners.length === 0 || owners.some((one) => one.interface === outLink.index)) return outLink;
  const owner = view.linkAt(owners[0]!.interface);
  if (owner?.up !== true) return outLink;
  // An address of the loopback, of a bridge for pods or of a dummy is one that routers have been told a way to.
  const isVirtual = owner.layer === "loopback" || owner.kind === "dummy" || owner.kind === "bridge";
  return !isVirtual || view.state.routes.some((one) => leavesBy(one, owner)) ? owner : outLink;
}

/** Whether a route leads to routers beyond a link. */
function leavesBy(route: Walk["node"]["view"]["state"]["routes"][number], link: Link): boolean {
  const hops = route.nextHops ?? [route];
  return hops.some((hop) => hop.interface === link.index && hop.gateway !== undefined);
}

/** Notes when conntrack does not find the flow of an answer that has to be translated back. False: it ends here. */
function isRecognized(walk: Walk, machine: Machine, link: Link): boolean {
  const { nodeFlow } = walk;
  if (nodeFlow === undefined || !nodeFlow.isTranslated || machine.flow === nodeFlow) return true;
  unrecognized(walk, machine, link, nodeFlow);
  // Where only the destination was translated the answer still finds the pod, which asked another host.
  return nodeFlow.binding("source") === undefined;
}

function unrecognized(walk: Walk, machine: Machine, link: Link, flow: Flow): void {
  const ofAnswer = machine.untrackedBy ?? machine.zonedBy;
  walk.stop({
    kind: "answer-unrecognized",
    place: "node",
    link,
    why: machine.untrackedBy === undefined ? "zone" : "untracked",
    flowZone: flow.zone?.id ?? 0,
    answerZone: machine.zone?.id ?? 0,
    by: ofAnswer ?? walk.zonedBy,
    chose: ofAnswer === undefined ? "out" : "back",
  });
}

/** Where the kernel translates, it gives the second flow another port; where it does not, it drops the packet. */
function hasRoom(walk: Walk, machine: Machine, link: Link): boolean {
  if (!machine.clashes) return true;
  const translates = walk.node.hooks.row(machine.packet.family, "postrouting", true).length > 0;
  if (translates) return machine.ask("which port conntrack gives the answer");
  unrecognized(walk, machine, link, machine.lostFlow!);
  return false;
}

/** Notes when the way is not the one to the pod. */
function leadsToPod(walk: Walk, machine: Machine, way: Way): boolean {
  const expected = walk.inLink!;
  const { hostLink, gateway } = walk;
  if (way.link.kind === "bridge" && hostLink?.index === expected.index && gateway !== undefined) {
    // The pod's network is this bridge's, and the veth is not a port of it.
    walk.stop({ kind: "not-enslaved", place: "node", link: hostLink, gateway, bridge: way.link });
    return false;
  }
  if (way.type === "unicast" && way.link.index === expected.index) return true;
  const { link, rule, route } = way;
  const address = machine.packet.destination;
  walk.stop({ kind: "astray", place: "node", link, expected, address, rule, route });
  return false;
}

export function enterPod(walk: Walk, machine: Machine): void {
  const { inLink, hostLink, podLink } = walk;
  if (inLink === undefined || hostLink === undefined || podLink === undefined) return;
  const address = machine.packet.destination;
  solicit(walk, "node", address);
  const known = neighbourAt(walk.node.view, inLink, address);
  if (known?.mac !== undefined && (known.state === "permanent" || known.state === "noarp")) {
    if (podLink.mac !== "" && known.mac !== podLink.mac) {
      const { mac } = known;
      walk.stop({ kind: "wrong-neighbour", place: "node", link: inLink, address, mac, real: podLink.mac });
    }
  } else if (known?.state === "failed") failedNeighbour(walk, inLink, address);
  if (inLink.index !== hostLink.index) {
    machine.packet = {
      ...machine.packet,
      sourceMac: inLink.mac,
      destinationMac: podLink.mac,
      iif: undefined,
      oif: hostLink.name,
      physicalOut: hostLink.name,
    };
    walk.noteBridge(machine, "output", runBridgeHook(machine, walk.node.hooks, "output"));
    walk.noteBridge(machine, "postrouting", runBridgeHook(machine, walk.node.hooks, "postrouting"));
  }
  walk.device("node", machine, "egress", hostLink);
  deliver(walk, machine.packet);
}

function deliver(walk: Walk, packet: Packet): void {
  const link = walk.podLink!;
  const inside = walk.machine(
    "pod",
    { ...packet, mark: 0, iif: link.name, oif: undefined, physicalIn: undefined, physicalOut: undefined },
    walk.podFlow,
  );
  walk.device("pod", inside, "ingress", link);
  walk.hook("pod", inside, "prerouting");
  checkReversePath(walk, "pod", inside.packet, link, undefined);
  demand(walk, "pod", "in", inside.packet, link);
  walk.hook("pod", inside, "input");
  walk.step("pod", "input", "the answer reaches the socket", inside.packet);
  checkSender(walk, inside.packet);
}

/** A socket takes answers from whom it asked, and drops others. */
function checkSender(walk: Walk, { source, sourcePort, aboutFlow }: Packet): void {
  const { sent } = walk;
  if (sent === undefined || aboutFlow === true) return;
  const { destination: expected, destinationPort: expectedPort } = sent;
  if (source === expected && sourcePort === expectedPort) return;
  // That conntrack did not know the answer says why.
  if (walk.stops.some((stop) => stop.kind === "answer-unrecognized")) return;
  walk.stop({ kind: "answer-from-another", place: "pod", source, sourcePort, expected, expectedPort });
}
