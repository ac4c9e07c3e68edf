/**
 * Why it ended: from what was seen of the packet, what the rules said about it, what the kernel dropped, and what the
 * settings are. Pure. The stages follow the packet; the first one it did not pass is asked for its reason.
 */
import { isLocal, wasSwitched, type Case, type StopReason } from "./case.ts";
import type { PlacedPacket } from "./correlate.ts";
import type { StationKind, TraceStop } from "../report.ts";
import { wrongGatewayMac } from "./shared-causes.ts";
import { stoppedInbound } from "./inbound-stop.ts";
import { stoppedAtNode } from "./stop-at-node.ts";
import { stoppedInPod, stoppedInPodOnReturn } from "./stop-in-pod.ts";
import { hairpinOff, stoppedOnVeth, stoppedOnBridge } from "./stop-on-veth.ts";
import { refusedHere } from "./stop-redirected.ts";
import { stoppedOnReturn } from "./stop-on-return.ts";
import { requestUnanswered, stoppedInBridge, stoppedOutside } from "./stop-outside.ts";

/** The stop of an exchange that was not answered. */
export function diagnoseStop(of: Case): TraceStop {
  const verdict = of.evidence.isInbound === true ? stoppedInbound(of) : verdictOf(of);
  return { evidence: [], ...verdict, lastSeen: lastSeen(of) };
}

function verdictOf(of: Case): StopReason {
  const { out, back } = of.correlation;
  const at = (list: readonly PlacedPacket[], place: string, way: string): boolean =>
    list.some((packet) => packet.place === place && packet.way === way);
  if (of.evidence.exchange?.connected === true) return requestUnanswered(of);
  const here = refusedHere(of);
  if (here !== undefined) return here;
  // A refusal that the node made itself is no answer from outside.
  const isOwnRefusal = back.length > 0 && !at(back, "uplink", "in") && !isLocal(of) && !wasSwitched(of);
  if (isOwnRefusal && !at(out, "uplink", "out")) return stoppedAtNode(of);
  if (back.some((packet) => packet.place === "pod")) return stoppedInPodOnReturn(of);
  if (back.length > 0) return stoppedOnReturn(of);
  if (at(out, "uplink", "out")) {
    // Frames that a bridge floods are seen leaving by its other ports, and through br_netfilter even translated.
    const isFlooded = of.evidence.survey.node?.bridge !== undefined && !at(out, "bridge", "in");
    return (isFlooded ? wrongGatewayMac(of) : undefined) ?? stoppedInBridge(of) ?? stoppedOutside(of);
  }
  if (!at(out, "pod", "out")) return stoppedInPod(of);
  const { node } = of.evidence.survey;
  if (node === undefined) return leftUnseen(of);
  if (!at(out, "veth", "in")) return stoppedOnVeth(of);
  const hairpin = hairpinOff(of);
  if (hairpin !== undefined) return hairpin;
  if (node.bridge !== undefined && !at(out, "bridge", "in")) return stoppedOnBridge(of);
  return stoppedAtNode(of);
}

/** A veth has its other end somewhere; what goes into a tunnel of the pod's own is out of sight by its nature. */
function leftUnseen({ evidence }: Case): StopReason {
  const { link, name } = evidence.survey.pod;
  if (link === undefined || link.kind === "veth") {
    return {
      step: 2,
      code: "host-link-missing",
      reason: "it left the pod by an interface whose other end is not visible from here",
    };
  }
  const kind = link.kind === undefined ? "" : ` (${link.kind})`;
  return {
    step: 7,
    code: "no-answer",
    reason: `it left ${name} by ${link.name}${kind}, whose other end is not on this node, and no answer came`,
    owner: `the program that made ${link.name} in the pod`,
    todo: `in the pod: does ${link.name} work (of WireGuard: wg show)? Does the route belong there?`,
  };
}

function lastSeen({ evidence, correlation }: Case): string {
  const { out, back } = correlation;
  const isInbound = evidence.isInbound === true;
  const [packets, answers] = isInbound ? [back, out] : [out, back];
  const isAnswer = answers.length > 0;
  // Its answer goes the other way.
  const last = furthest(isAnswer ? answers : packets, isAnswer === isInbound ? WAY_OUT : WAY_BACK);
  if (last === undefined) return "in the socket of the pod";
  const where = last.where === "pod" ? "in the pod" : "on the node";
  const heading = isAnswer ? "the answer, " : "";
  return `${heading}${last.way === "in" ? "coming in at" : "leaving"} ${last.interface} ${where}`;
}

const WAY_OUT: readonly StationKind[] = ["pod", "veth", "bridge", "uplink"];
const WAY_BACK = WAY_OUT.toReversed();

function furthest(packets: readonly PlacedPacket[], way: readonly StationKind[]): PlacedPacket | undefined {
  return packets.toSorted((a, b) => way.indexOf(a.place) - way.indexOf(b.place)).at(-1);
}
