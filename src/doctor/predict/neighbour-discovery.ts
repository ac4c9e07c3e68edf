/**
 * IPv6 asks for a neighbour's MAC address by packets that pass the rules like others (RFC 4861): who drops them takes
 * the way away as soon as what is known has grown old.
 */
import { familyOf, ipBytes, ipText } from "../../address/ip.ts";
import type { Link } from "../../linux/route/link.ts";
import { neighbourAt } from "./link-state.ts";
import { firstPacket, type Packet } from "./packet.ts";
import type { Side } from "./side.ts";
import type { Walk } from "./walk.ts";

const SOLICITATION = 135;
const ADVERTISEMENT = 136;

/** What the kernel believes without asking: it has been told so, or was answered within the last half minute. */
const SETTLED: ReadonlySet<string> = new Set(["permanent", "noarp", "reachable"]);

/**
 * Follows the question of one end of the pod's veth for an address at the other end, and the answer.
 * @param asker who wants to know the address
 */
export function solicit(walk: Walk, asker: Side, address: string): void {
  const { podLink, inLink, pod } = walk;
  if (familyOf(address) === 4 || podLink === undefined || inLink === undefined || pod === undefined) return;
  const [from, to] = asker === "pod" ? [podLink, inLink] : [inLink, podLink];
  const view = asker === "pod" ? pod.view : walk.node.view;
  const known = neighbourAt(view, from, address);
  if (known !== undefined && SETTLED.has(known.state)) return;
  const source = linkLocalOf(walk, asker, from) ?? address;
  const answerer: Side = asker === "pod" ? "node" : "pod";
  const question = discovery(SOLICITATION, source, solicitedNode(address));
  send(walk, asker, from, question);
  receive(walk, answerer, to, question);
  const answer = discovery(ADVERTISEMENT, address, source);
  send(walk, answerer, to, answer);
  receive(walk, asker, from, answer);
}

/** The same at the node's way out, where only this node's half can be judged. */
export function solicitOutside(walk: Walk, link: Link, address: string): void {
  if (familyOf(address) === 4) return;
  const known = neighbourAt(walk.node.view, link, address);
  if (known !== undefined && (SETTLED.has(known.state) || known.mac !== undefined)) return;
  const source = linkLocalOf(walk, "node", link) ?? address;
  send(walk, "node", link, discovery(SOLICITATION, source, solicitedNode(address)));
  receive(walk, "node", link, discovery(ADVERTISEMENT, address, source));
}

function send(walk: Walk, place: Side, link: Link, packet: Packet): void {
  const machine = walk.machine(place, { ...packet, oif: link.name });
  walk.discovery(place, machine, ["output", "postrouting"]);
}

function receive(walk: Walk, place: Side, link: Link, packet: Packet): void {
  const machine = walk.machine(place, { ...packet, iif: link.name });
  walk.discovery(place, machine, ["prerouting", "input"]);
}

function discovery(icmpType: number, source: string, destination: string): Packet {
  const tuple = { source, destination, protocol: "icmpv6", sourcePort: 0, destinationPort: 0 } as const;
  // 255: nobody has forwarded it (RFC 4861 7.1.1).
  return { ...firstPacket(6, tuple), icmpType, ttl: 255, length: 72 };
}

function linkLocalOf(walk: Walk, place: Side, link: Link): string | undefined {
  const { view } = place === "pod" ? walk.pod! : walk.node;
  const own = view.state.addresses.filter((one) => one.family === 6 && one.interface === link.index);
  return (own.find((one) => one.scope === "link") ?? own[0])?.address;
}

/** ff02::1:ffXX:XXXX with the last three bytes of the address (RFC 4291 2.7.1). */
function solicitedNode(address: string): string {
  const bytes = ipBytes("ff02::1:ff00:0");
  bytes.set(ipBytes(address).subarray(13), 13);
  return ipText(bytes);
}
