/** Finds out which flow it is that is there already, or begins while we listen. Pure. */
import { WayoutError } from "../../error.ts";
import type { ConntrackEntry } from "../../linux/conntrack/entry.ts";
import type { TraceEvent } from "../../kernel/nftables/events.ts";
import type { DecodedPacket } from "../../linux/packet/packet.ts";
import type { FlowEnds, FlowPattern, SeenPacket } from "../evidence.ts";
import { headingOf, packetOf } from "../judge/progress.ts";
import { ECHO_REQUEST } from "../../linux/icmp.ts";

/** What is to be followed. */
export interface Following {
  readonly pattern: FlowPattern;
  /** Only flows that have this port, at either end. */
  readonly port?: number;
}

/**
 * The first flow that is the pod's: by a packet that it sends, or by one for it, where it was seen with the pod's own
 * address. A rule shows that, too, of a packet that is dropped on the node.
 */
export function flowAmong(
  wanted: Following,
  seen: readonly SeenPacket[],
  nodeEvents: readonly TraceEvent[],
): FlowEnds | undefined {
  for (const { packet, where, direction } of seen) {
    const flow =
      where === "pod" && direction === "out" ? flowFromPod(packet, wanted) : flowToPod(packet, wanted);
    if (flow !== undefined) return flow;
  }
  for (const event of nodeEvents) {
    const packet = packetOf(event);
    const flow = packet === undefined ? undefined : flowToPod(packet, wanted);
    if (flow !== undefined) return flow;
  }
  return undefined;
}

function flowFromPod({ ip, tcp, udp, icmp }: DecodedPacket, wanted: Following): FlowEnds | undefined {
  const { pattern } = wanted;
  if (ip?.destination !== pattern.destination) return undefined;
  if (pattern.protocol === "icmp") {
    const isRequest = icmp?.type === ECHO_REQUEST[ip.family];
    if (!isRequest || icmp.identifier === undefined) return undefined;
    return { ...pattern, source: ip.source, sourcePort: icmp.identifier };
  }
  const ports = pattern.protocol === "tcp" ? tcp : udp;
  if (ports === undefined) return undefined;
  return withPorts(wanted, ip.source, ports.sourcePort, ports.destinationPort);
}

/** Echo requests of others are not followed: their answers say nothing of the way out. */
function flowToPod({ ip, tcp, udp }: DecodedPacket, wanted: Following): FlowEnds | undefined {
  const { pattern } = wanted;
  if (ip?.source !== pattern.destination || ip.destination !== pattern.source) return undefined;
  const ports = pattern.protocol === "tcp" ? tcp : pattern.protocol === "udp" ? udp : undefined;
  if (ports === undefined) return undefined;
  return withPorts(wanted, pattern.source, ports.destinationPort, ports.sourcePort);
}

function withPorts(
  { pattern, port }: Following,
  source: string,
  sourcePort: number,
  destinationPort: number,
): FlowEnds | undefined {
  if (port !== undefined && port !== sourcePort && port !== destinationPort) return undefined;
  return { ...pattern, source, sourcePort, destinationPort };
}

/** Whether a host outside began it: by conntrack; where nothing is tracked, by who was seen first. */
export function isBegunOutside(
  flow: FlowEnds,
  entry: ConntrackEntry | undefined,
  seen: readonly SeenPacket[],
): boolean {
  if (entry !== undefined) {
    const { source, sourcePort } = entry.original;
    return source === flow.destination && sourcePort === flow.destinationPort;
  }
  if (flow.protocol === "icmp") return false;
  const first = seen.find(({ packet }) => headingOf(packet, flow) !== undefined);
  return first === undefined || headingOf(first.packet, flow) === "back";
}

/** Nothing came that was the pod's. What came from there for another host is worth a word. */
export function nothingFlows(wanted: Following, seen: readonly SeenPacket[], timeoutMs: number): WayoutError {
  const { protocol, destination } = wanted.pattern;
  const port = wanted.port === undefined ? "" : ` port ${wanted.port}`;
  const others = seen.filter(({ packet, where }) => where === "node" && packet.ip?.source === destination);
  const last = others.at(-1);
  const also =
    last === undefined
      ? ""
      : `; ${others.length} came from there to the node, the last ${last.summary} at ${last.interface}, and no rule translated it to the pod`;
  return new WayoutError({
    code: "nothing-flows",
    kind: "broken",
    doing: `waiting for packets between the pod and ${destination}${port}`,
    said: `no ${protocol} packet between the two within ${timeoutMs} ms${also}`,
    todo:
      last === undefined
        ? "Leave --listen out to send one."
        : "wayout nat show: is the port published, and to this pod's address?",
  });
}
