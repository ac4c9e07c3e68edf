/**
 * A neighbour's MAC address is asked for by frames that pass rules like others: ARP (RFC 826) those of the arp, bridge and
 * netdev families, IPv6's neighbour discovery (RFC 4861) those of IPv6 as well. Who drops them takes the way away as soon
 * as what is known has grown old.
 */
import { familyOf, ipBytes, ipText } from "../../address/ip.ts";
import type { Link } from "../../linux/route/link.ts";
import { runArpHook, runBridgeHook, runDeviceHook, runHook } from "./hooks.ts";
import { neighbourAt } from "./link-state.ts";
import type { Machine } from "./machine.ts";
import { portToward } from "./outer-bridge.ts";
import { firstPacket, type Packet } from "./packet.ts";
import type { Side } from "./side.ts";
import type { Walk } from "./walk.ts";
import { ICMPV6_TYPES } from "../../linux/icmp.ts";

const BROADCAST = "ff:ff:ff:ff:ff:ff";
const NOBODY = "00:00:00:00:00:00";

/** What the kernel believes without asking: it has been told so, or was answered within the last half minute. */
const SETTLED: ReadonlySet<string> = new Set(["permanent", "noarp", "reachable"]);

/**
 * Follows the question of one end of the pod's veth for an address at the other end, and the answer.
 * @param asker who wants to know the address
 */
export function solicit(walk: Walk, asker: Side, address: string): void {
  const { podLink, inLink, pod } = walk;
  if (podLink === undefined || inLink === undefined || pod === undefined) return;
  const isArp = familyOf(address) === 4;
  if (isArp && !walk.node.hooks.seesFrames && !pod.hooks.seesFrames) return;
  const [from, to] = asker === "pod" ? [podLink, inLink] : [inLink, podLink];
  const view = asker === "pod" ? pod.view : walk.node.view;
  const known = neighbourAt(view, from, address);
  if (known !== undefined && SETTLED.has(known.state)) return;
  const answerer: Side = asker === "pod" ? "node" : "pod";
  const source = askerOf(walk, asker, from, isArp) ?? address;
  const [question, answer] = isArp ? arp(source, from, address, to) : discovery(source, address);
  send(walk, asker, from, question);
  receive(walk, answerer, to, question);
  send(walk, answerer, to, answer);
  receive(walk, asker, from, answer);
}

/** The same at the node's way out, where only this node's half can be judged. */
export function solicitOutside(walk: Walk, link: Link, address: string): void {
  const isArp = familyOf(address) === 4;
  if (isArp && !walk.node.hooks.seesFrames) return;
  const source = askerOf(walk, "node", link, isArp) ?? address;
  const known = neighbourAt(walk.node.view, link, address);
  if (known === undefined || !(SETTLED.has(known.state) || (!isArp && known.mac !== undefined))) {
    const [question, answer] = isArp ? arp(source, link, address, undefined) : discovery(source, address);
    send(walk, "node", link, question);
    receive(walk, "node", link, answer);
  }
  if (!isArp) return;
  // The router asks, too, before it can give the answers to the node.
  const [question, answer] = arp(address, undefined, source, link);
  receive(walk, "node", link, question);
  send(walk, "node", link, answer);
}

function send(walk: Walk, place: Side, link: Link, packet: Packet): void {
  const machine = walk.machine(place, { ...packet, oif: link.name });
  const { hooks } = place === "node" ? walk.node : walk.pod!;
  if (packet.arp !== undefined) {
    walk.noteDiscovery(place, link, machine, runArpHook(machine, hooks, "output"), "arp");
  } else {
    for (const hook of ["output", "postrouting"] as const)
      walk.noteDiscovery(place, link, machine, runHook(machine, hooks, hook), "ip6");
  }
  passFrame(walk, place, link, machine, "out");
}

function receive(walk: Walk, place: Side, link: Link, packet: Packet): void {
  const machine = walk.machine(place, { ...packet, iif: link.name });
  const { hooks } = place === "node" ? walk.node : walk.pod!;
  passFrame(walk, place, link, machine, "in");
  machine.packet = { ...machine.packet, iif: link.name };
  if (packet.arp !== undefined) {
    walk.noteDiscovery(place, link, machine, runArpHook(machine, hooks, "input"), "arp");
    return;
  }
  for (const hook of ["prerouting", "input"] as const)
    walk.noteDiscovery(place, link, machine, runHook(machine, hooks, hook), "ip6");
}

/** The chains of the device, and of the bridge where the pod's end on the node is a port of one. */
function passFrame(walk: Walk, place: Side, link: Link, machine: Machine, way: "in" | "out"): void {
  const { hooks } = place === "node" ? walk.node : walk.pod!;
  if (!hooks.seesFrames) return;
  const { hostLink, inLink } = walk;
  const ofPod = place === "node" && link.index === inLink?.index && hostLink?.index !== link.index;
  const { packet } = machine;
  const outer =
    place === "pod" || ofPod
      ? undefined
      : portToward(walk, link, way === "out" ? packet.destination : packet.source);
  const isBridged = ofPod || outer !== undefined;
  const port = (ofPod ? hostLink : outer) ?? link;
  const device = (): void =>
    walk.noteDiscovery(
      place,
      link,
      machine,
      runDeviceHook(machine, hooks, way === "in" ? "ingress" : "egress", port.name),
      "netdev",
    );
  const bridge = (): void => {
    if (!isBridged) return;
    for (const hook of way === "in"
      ? (["prerouting", "input"] as const)
      : (["output", "postrouting"] as const))
      walk.noteDiscovery(place, link, machine, runBridgeHook(machine, hooks, hook), "bridge", port);
  };
  machine.packet = { ...machine.packet, [way === "in" ? "iif" : "oif"]: port.name };
  for (const step of way === "in" ? [device, bridge] : [bridge, device]) step();
}

/** @param to who has the address, where that is known */
function arp(
  source: string,
  from: Link | undefined,
  address: string,
  to: Link | undefined,
): [Packet, Packet] {
  const message = (
    operation: number,
    sender: string,
    senderMac: string,
    target: string,
    mac: string,
  ): Packet => ({
    ...firstPacket(4, {
      source: sender,
      destination: target,
      protocol: "udp",
      sourcePort: 0,
      destinationPort: 0,
    }),
    arp: { operation, senderMac, targetMac: mac },
    sourceMac: senderMac,
    destinationMac: operation === 1 ? BROADCAST : mac,
    length: 28,
  });
  return [
    message(1, source, from?.mac ?? "", address, NOBODY),
    message(2, address, to?.mac ?? "", source, from?.mac ?? ""),
  ];
}

function discovery(source: string, address: string): [Packet, Packet] {
  const message = (icmpType: number, from: string, destination: string): Packet => ({
    ...firstPacket(6, { source: from, destination, protocol: "icmpv6", sourcePort: 0, destinationPort: 0 }),
    icmpType,
    // 255: nobody has forwarded it (RFC 4861 7.1.1).
    ttl: 255,
    length: 72,
  });
  return [
    message(ICMPV6_TYPES["nd-neighbor-solicit"], source, solicitedNode(address)),
    message(ICMPV6_TYPES["nd-neighbor-advert"], address, source),
  ];
}

/** With which address it asks. */
function askerOf(walk: Walk, place: Side, link: Link, isArp: boolean): string | undefined {
  const { view } = place === "pod" ? walk.pod! : walk.node;
  const family = isArp ? 4 : 6;
  const own = view.state.addresses.filter((one) => one.family === family && one.interface === link.index);
  return (own.find((one) => one.scope === (isArp ? "global" : "link")) ?? own[0])?.address;
}

/** ff02::1:ffXX:XXXX with the last three bytes of the address (RFC 4291 2.7.1). */
function solicitedNode(address: string): string {
  const bytes = ipBytes("ff02::1:ff00:0");
  bytes.set(ipBytes(address).subarray(13), 13);
  return ipText(bytes);
}
