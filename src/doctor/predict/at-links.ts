/**
 * What a backend of ours translates at links: behind every rule on the way out, before every rule on the way back. Rules and
 * the kernel's connection tracking see the pod's own address both ways.
 */
import type { Link } from "../../linux/route/link.ts";
import { decisionOf, type Decide } from "../../nat/decision.ts";
import type { NatSource } from "../../nat/intent.ts";
import type { LinkTranslation } from "../../nat/backends/link-translation.ts";
import type { Machine } from "./machine.ts";
import { masqueradeAddress } from "./nat.ts";
import type { AtLink } from "./path.ts";
import type { Walk } from "./walk.ts";

/** Made once for a node: thousands of pods are judged by it. */
const decisions = new WeakMap<LinkTranslation, Decide>();

/** What our programs are to do with what leaves by a link; undefined: they let it go as it is. */
export function wantedAt(
  walk: Walk,
  { packet }: Machine,
  link: Link,
): (AtLink & { to: NatSource }) | undefined {
  const { linkTranslation } = walk.node.view.state;
  if (linkTranslation === undefined) return undefined;
  let decide = decisions.get(linkTranslation);
  if (decide === undefined) decisions.set(linkTranslation, (decide = decisionOf(linkTranslation.intents)));
  const decision = decide(packet.source, packet.destination, () => walk.inLink?.name);
  if (decision?.translated !== true) return undefined;
  const { source: to, owner } = decision;
  if (to.outInterfaces !== undefined && !to.outInterfaces.includes(link.name)) return undefined;
  return { link, owner, source: packet.source, to };
}

/** The packet is at the link by which it leaves the node. */
export function translateLeaving(walk: Walk, machine: Machine, link: Link): void {
  const wanted = wantedAt(walk, machine, link);
  if (wanted === undefined) return;
  const { packet } = machine;
  const { egress, ingress } = walk.node.view.state.linkTranslation!;
  if (!egress.includes(link.name) || !ingress.includes(link.name)) {
    const side = egress.includes(link.name) ? "ingress" : "egress";
    walk.stop({ kind: "program-detached", place: "node", link, side, owner: wanted.owner });
    if (side === "egress") return;
  }
  const { snat, ports } = wanted.to.translation;
  const facing = packet.family === 4 ? (machine.nextHop ?? packet.destination) : packet.destination;
  const source = snat?.first ?? masqueradeAddress(walk.node.view, packet.family, link.name, facing);
  if (source === undefined) {
    walk.stop({ kind: "program-without-address", place: "node", link, owner: wanted.owner });
    return;
  }
  if (snat !== undefined && snat.first !== snat.last)
    walk.translatedToOneOf = `one of ${snat.first} to ${snat.last}`;
  const isPort = ports === undefined || packet.sourcePort === 0;
  const keeps = isPort || (packet.sourcePort >= ports.first && packet.sourcePort <= ports.last);
  machine.packet = { ...packet, source, sourcePort: keeps ? packet.sourcePort : ports.first };
  walk.atLink = { link, owner: wanted.owner, source: packet.source };
  walk.step("node", "egress", "translated", machine.packet);
}

/** The answer has arrived at a link. False: nobody there turns it back, and it ends on the node, as was noted. */
export function translateArriving(walk: Walk, machine: Machine, link: Link): boolean {
  const { atLink } = walk;
  if (atLink === undefined) return true;
  if (!walk.node.view.state.linkTranslation!.ingress.includes(link.name)) return false;
  machine.packet = {
    ...machine.packet,
    destination: atLink.source,
    destinationPort: walk.routed?.sourcePort ?? machine.packet.destinationPort,
  };
  walk.step("node", "ingress", "translated back", machine.packet);
  return true;
}
