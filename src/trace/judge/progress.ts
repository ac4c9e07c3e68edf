/** Which packets belong to a flow, and whether its story is over. Looked at while packets come in. */
import type { KernelDrop } from "../../kernel/bpf/drops.ts";
import type { ConntrackEntry } from "../../linux/conntrack/entry.ts";
import { decodePacket } from "../../linux/packet/decode.ts";
import { isIcmpError, isRedirect, type DecodedPacket } from "../../linux/packet/packet.ts";
import type { TraceEvent } from "../../kernel/nftables/events.ts";
import type { FlowEnds, OutsideEnds, SeenPacket } from "../evidence.ts";
import { present } from "../../present.ts";
import { ECHO_REQUEST } from "../../linux/icmp.ts";

/**
 * Whether a packet may belong to the flow, as far as it can be told before the translation is known: by the pod's own
 * end, or by the destination's.
 */
export function belongsTo(packet: DecodedPacket, flow: FlowEnds): boolean {
  if (packet.arp !== undefined || packet.icmp?.target !== undefined) return true;
  if (isIcmpError(packet)) {
    const quoted = packet.icmp?.quoted;
    return quoted !== undefined && headingOf(quoted, flow) !== undefined;
  }
  return headingOf(packet, flow) !== undefined;
}

/** Out or back, by protocol and by either the pod's port or the destination's end. */
export function headingOf(packet: DecodedPacket, flow: FlowEnds): "out" | "back" | undefined {
  const { ip, icmp } = packet;
  if (ip === undefined || ip.family !== flow.family) return undefined;
  if (flow.protocol === "icmp") {
    if (icmp?.identifier === undefined) return undefined;
    const isRequest = icmp.type === ECHO_REQUEST[ip.family];
    if (isRequest)
      return ip.source === flow.source || ip.destination === flow.destination ? "out" : undefined;
    return ip.destination === flow.source || ip.source === flow.destination ? "back" : undefined;
  }
  const ports = flow.protocol === "tcp" ? packet.tcp : packet.udp;
  if (ports === undefined) return undefined;
  const { sourcePort, destinationPort } = ports;
  const outside = outsideHeading(ip, ports, flow.outside);
  if (outside !== undefined) return outside;
  const ours = flow.sourcePort;
  const theirs = flow.destinationPort ?? (ip.destination === flow.destination ? destinationPort : sourcePort);
  if (ip.source === flow.source && sourcePort === ours) return "out";
  if (ip.destination === flow.source && destinationPort === ours) return "back";
  if (ip.destination === flow.destination && destinationPort === theirs) return "out";
  if (ip.source === flow.destination && sourcePort === theirs) return "back";
  // Both ends may be translated: then only the port that was kept is left to go by.
  if (sourcePort === ours) return "out";
  return destinationPort === ours ? "back" : undefined;
}

/** By both ends behind the translation, of which the pod's packet may have neither. */
function outsideHeading(
  ip: { readonly source: string; readonly destination: string },
  ports: { readonly sourcePort: number; readonly destinationPort: number },
  outside: OutsideEnds | undefined,
): "out" | "back" | undefined {
  if (outside === undefined) return undefined;
  const from = ip.source === outside.source && ports.sourcePort === outside.sourcePort;
  const to = ip.destination === outside.destination && ports.destinationPort === outside.destinationPort;
  if (from && to) return "out";
  const isFromThere = ip.source === outside.destination && ports.sourcePort === outside.destinationPort;
  const isToHere = ip.destination === outside.source && ports.destinationPort === outside.sourcePort;
  return isFromThere && isToHere ? "back" : undefined;
}

/** Behind every translation, as the entry of the pod's own connection has it. */
export function outsideEnds(entry: ConntrackEntry | undefined): OutsideEnds | undefined {
  if (entry === undefined) return undefined;
  const { source, sourcePort, destination, destinationPort } = entry.reply;
  if (sourcePort === undefined || destinationPort === undefined) return undefined;
  return {
    source: destination,
    sourcePort: destinationPort,
    destination: source,
    destinationPort: sourcePort,
  };
}

interface Progress {
  readonly flow: FlowEnds;
  readonly seen: readonly SeenPacket[];
  readonly drops: readonly KernelDrop[];
  readonly ruleEvents: readonly TraceEvent[];
}

/** Drops that happen to every packet that passes a bridge or a tap, and end nothing. */
const HARMLESS_DROPS = new Set(["OTHERHOST", "CONSUMED", "NOT_DROPPED_YET"]);

/** Whether a drop says what became of the flow's own packet. */
export function isFatalDrop(drop: KernelDrop, flow: FlowEnds): boolean {
  return !HARMLESS_DROPS.has(drop.reason) && isExactly(drop.packet, flow);
}

/** Whether the packet has one of the flow's ends in full. */
export function isExactly(packet: DecodedPacket, flow: FlowEnds): boolean {
  const { ip, icmp } = packet;
  if (ip === undefined) return false;
  if (flow.protocol === "icmp") {
    return icmp?.identifier === flow.sourcePort && [ip.source, ip.destination].includes(flow.destination);
  }
  const ports = flow.protocol === "tcp" ? packet.tcp : packet.udp;
  if (ports === undefined) return false;
  const isPort = ports.sourcePort === flow.sourcePort || ports.destinationPort === flow.sourcePort;
  return isPort && [ip.source, ip.destination].some((end) => end === flow.source || end === flow.destination);
}

/** Whether something has ended the flow's packet for good: no use in waiting longer. */
export function isEnded(progress: Progress): boolean {
  const { flow } = progress;
  return (
    progress.drops.some((drop) => isFatalDrop(drop, flow)) ||
    progress.seen.some(({ packet }) => isIcmpError(packet) && !isRedirect(packet)) ||
    progress.ruleEvents.some((event) => isDropVerdict(event) && isEventOf(event, flow))
  );
}

export function isDropVerdict(event: TraceEvent): boolean {
  return event.verdict?.verdict === "drop" || (event.type === "policy" && event.policy === "drop");
}

/** Whether an event's packet, when it says which, is the flow's. */
function isEventOf(event: TraceEvent, flow: FlowEnds): boolean {
  const packet = packetOf(event);
  return packet === undefined || isExactly(packet, flow);
}

/** The packet of a trace event, from the headers it carries. */
export function packetOf(event: TraceEvent): DecodedPacket | undefined {
  if (event.networkHeader === undefined) return undefined;
  const hex = event.networkHeader + (event.transportHeader ?? "");
  return decodePacket(Uint8Array.from(Buffer.from(hex, "hex")), "raw");
}

/** Whom a flow's packets are for. */
export interface FlowDestination {
  readonly address: string;
  /** Absent for ICMP. */
  readonly port?: number;
}

/**
 * The destination that a rule put in the place of the one that was asked for: by conntrack, or, when the packet was
 * dropped before it was tracked, by what a chain behind the translation was shown. undefined when it is as it was.
 */
export function translatedDestination(
  flow: FlowEnds,
  entry: ConntrackEntry | undefined,
  nodeEvents: readonly TraceEvent[],
): FlowDestination | undefined {
  const now =
    entry === undefined
      ? nodeEvents.flatMap((event) => destinationOf(packetOf(event), flow)).at(-1)
      : { address: entry.reply.source, port: entry.reply.sourcePort };
  if (now === undefined) return undefined;
  const { address, port } = now;
  const isSame = address === flow.destination && (port ?? flow.destinationPort) === flow.destinationPort;
  return isSame ? undefined : present({ address, port });
}

/** Of a packet that still has the pod's own end; none for any other. */
function destinationOf(packet: DecodedPacket | undefined, flow: FlowEnds): FlowDestination[] {
  if (packet?.ip?.source !== flow.source || !isExactly(packet, flow)) return [];
  const port = (packet.tcp ?? packet.udp)?.destinationPort;
  return [present({ address: packet.ip.destination, port })];
}

/** Whether a packet that began as `first` says and an answer to it were both seen at the pod. */
export function isAnswered(seen: readonly SeenPacket[], flow: FlowEnds, first: "out" | "back"): boolean {
  const atPod = seen.filter(({ where }) => where === "pod").map(({ packet }) => headingOf(packet, flow));
  const begun = atPod.indexOf(first);
  return begun >= 0 && atPod.slice(begun).includes(first === "out" ? "back" : "out");
}
