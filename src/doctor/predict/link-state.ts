/** Small questions about links and neighbours that both ways of a path ask. */
import type { Link } from "../../linux/route/link.ts";
import type { Neighbour } from "../../linux/route/neighbour.ts";
import { PROTOCOL_NUMBER } from "./packet.ts";
import type { Side } from "./side.ts";
import type { NodeView } from "./view.ts";
import type { Walk } from "./walk.ts";

export const IPPROTO = PROTOCOL_NUMBER;

export function isLoopback(link: Link | undefined): boolean {
  return link?.layer === "loopback";
}

/** Notes a link that cannot carry anything. */
export function linkDown(walk: Walk, place: Side, link: Link): boolean {
  if (!link.up) {
    walk.stop({ kind: "link-down", place, link });
    return true;
  }
  // A loopback or tunnel has no carrier to lose; "unknown" is what they say.
  if (link.carrier === false && link.operState !== "unknown") {
    walk.stop({ kind: "no-carrier", place, link });
    return true;
  }
  return false;
}

/** Links without ARP for a reason: nobody is beyond them, or the kernel itself knows where to. */
const WITHOUT_ARP: ReadonlySet<string> = new Set(["dummy", "vrf", "ipvlan", "ipvtap", "netkit", "nlmon"]);

/**
 * A link with MAC addresses on which ARP and neighbour discovery are off: the kernel addresses frames to the link's own
 * (arp_constructor, ndisc_constructor), and answers nobody who asks (arp_rcv).
 */
export function isWithoutArp(link: Link): boolean {
  return (
    link.layer === "ether" &&
    link.flags.includes("NOARP") &&
    (link.kind === undefined || !WITHOUT_ARP.has(link.kind))
  );
}

/** Whether the kernel has to ask on this link for a neighbour's MAC address. */
export function asksNeighbours(link: Link): boolean {
  return link.layer === "ether" && !link.flags.includes("NOARP");
}

/** The kernel has asked for its MAC address, and has none. */
export function isSilent(
  known: Neighbour | undefined,
): known is Neighbour & { state: "failed" | "incomplete" } {
  return known?.state === "failed" || known?.state === "incomplete";
}

export function neighbourAt(view: NodeView, link: Link, address: string): Neighbour | undefined {
  return view.state.neighbours.find((one) => one.interface === link.index && one.address === address);
}
