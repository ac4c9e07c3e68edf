/** The message “this packet is too large” on its way back to the pod: who would drop it? */
import { ICMP_HEADER_BYTES, IP_HEADER_BYTES, UDP_HEADER_BYTES } from "../../linux/packet/packet.ts";
import type { PodState, Snapshot } from "../../snapshot/snapshot.ts";
import { answerFromNode, answerFromOutside, enterPod } from "./back.ts";
import { explore, type Oracle } from "./oracle.ts";
import { walkOut } from "./out.ts";
import { answerTo, type Packet } from "./packet.ts";
import type { Stop, Target } from "./path.ts";
import { Walk } from "./walk.ts";
import { TOO_LARGE } from "../../linux/icmp.ts";

/** Who says it: the node, whose way out is narrower than the pod's, or a router further on. */
export type Speaker = "node" | "outside";

/** What stops the message; undefined when it arrives, or when nobody can tell. */
export function stopOfTooLarge(
  snapshot: Snapshot,
  pod: PodState,
  target: Target,
  speaker: Speaker,
): Stop | undefined {
  const { result, certain } = explore(
    (oracle) => follow(snapshot, pod, target, speaker, oracle),
    (a, b) => a?.kind === b?.kind && a?.place === b?.place,
  );
  return certain ? result : undefined;
}

function follow(
  snapshot: Snapshot,
  pod: PodState,
  target: Target,
  speaker: Speaker,
  oracle: Oracle,
): Stop | undefined {
  const walk = new Walk(snapshot, pod, target, oracle);
  const left = walkOut(walk);
  if (left === undefined || walk.inLink === undefined || walk.outLink === undefined) return undefined;
  walk.stops.length = 0;
  walk.direction = "back";
  const message = tooLarge(walk, left, speaker);
  const machine = walk.machine("node", message, walk.nodeFlow);
  const arrived = speaker === "node" ? answerFromNode(walk, machine) : answerFromOutside(walk, machine);
  if (arrived) enterPod(walk, machine);
  return walk.stops[0];
}

function tooLarge(walk: Walk, left: Packet, speaker: Speaker): Packet {
  const { family } = left;
  const own = walk.node.view.state.addresses.find(
    (one) => one.family === family && one.interface === walk.inLink?.index && one.scope === "global",
  );
  const from = speaker === "node" ? own?.address : undefined;
  return {
    ...answerTo(left),
    icmpType: TOO_LARGE[family].type,
    icmpCode: TOO_LARGE[family].code,
    protocol: family === 4 ? "icmp" : "icmpv6",
    source: from ?? left.destination,
    destination: speaker === "node" ? walk.sent!.source : left.source,
    sourcePort: 0,
    destinationPort: 0,
    tcpFlags: 0,
    // The message carries the head of the packet it is about.
    length: IP_HEADER_BYTES[4] + ICMP_HEADER_BYTES + IP_HEADER_BYTES[4] + UDP_HEADER_BYTES,
    aboutFlow: true,
    iif: speaker === "node" ? undefined : walk.outLink?.name,
  };
}
