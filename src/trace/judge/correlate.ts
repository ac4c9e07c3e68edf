/** Puts together what was seen of one packet and of its answer, at every place, although the tuple changes on the way. */
import { endText } from "../../address/ip.ts";
import {
  ICMP_HEADER_BYTES,
  IP_HEADER_BYTES,
  isIcmpError,
  summaryOf,
  type DecodedPacket,
} from "../../linux/packet/packet.ts";
import type { TraceEvent } from "../../kernel/nftables/events.ts";
import type { FlowEnds, SeenPacket, TraceEvidence } from "../evidence.ts";
import { headingOf, isExactly, packetOf } from "./progress.ts";
import type { StationKind } from "../report.ts";
import { present } from "../../present.ts";
import { ECHO_REQUEST } from "../../linux/icmp.ts";

/** An end of the flow, as it is at one place. */
interface End {
  readonly address: string;
  /** Port, or id of an echo request. */
  readonly port?: number;
}

export interface PlacedPacket extends SeenPacket {
  readonly place: StationKind;
  /** Into the namespace or out of it, at this interface. */
  readonly way: "in" | "out";
}

/** The flow's packets by where they were first seen. */
export interface Correlation {
  /** The first packet from the pod, at each place and way. */
  readonly out: readonly PlacedPacket[];
  /** The first packet that came back, at each place and way. */
  readonly back: readonly PlacedPacket[];
  /** ICMP errors about the flow. */
  readonly errors: readonly PlacedPacket[];
  /** ARP and neighbour discovery. */
  readonly neighbours: readonly PlacedPacket[];
  /** What the first packet met among the rules, in order; likewise its answer. */
  readonly outEvents: readonly LabelledEvent[];
  readonly backEvents: readonly LabelledEvent[];
  /** The ends as the outside sees them: the translated source, and whom the packet is really for. */
  readonly outside?: { readonly source: End; readonly destination: End };
}

export interface LabelledEvent extends TraceEvent {
  readonly where: "pod" | "node";
}

/** @see Correlation */
export function correlate(evidence: TraceEvidence): Correlation {
  const { flow } = evidence;
  const placed = evidence.packets.map((packet) => placePacket(packet, evidence));
  const own = placed.find(
    (packet) => packet.where === "pod" && packet.way === "out" && isFromPod(packet.packet, flow),
  );
  const signature = own === undefined ? undefined : signatureOf(own);
  const out = firsts(
    placed.filter(
      (packet) =>
        headingOf(packet.packet, flow) === "out" &&
        (signatureOf(packet) === signature || isFromPod(packet.packet, flow)),
    ),
  );
  const events = eventsOfPackets(evidence);
  const outEvents = firstPacketEvents(events, (packet) => isOutEvent(packet, flow, own?.packet));
  const leaving = out.find((packet) => packet.place === "uplink" && packet.way === "out");
  const outside =
    (leaving === undefined ? undefined : endsOf(leaving.packet)) ??
    outsideOfEntry(evidence) ??
    outsideOfEvents(outEvents, flow) ??
    outsideOfPackets(out, flow);
  const back = firsts(placed.filter((packet) => isAnswer(packet.packet, flow, outside)));
  return present({
    out,
    back,
    errors: placed.filter(({ packet }) => isIcmpError(packet) && quotesFlow(packet, flow, outside)),
    neighbours: placed.filter(({ packet }) => packet.arp !== undefined || packet.icmp?.target !== undefined),
    outEvents,
    backEvents: firstPacketEvents(events, (packet) => isAnswer(packet, flow, outside)),
    outside,
  });
}

// ── Places ───────────────────────────────────────────────────────────────────────────────────────────────────────

export function placePacket(packet: SeenPacket, evidence: TraceEvidence): PlacedPacket {
  return { ...packet, place: placeOf(packet, evidence), way: packet.direction === "out" ? "out" : "in" };
}

function placeOf(packet: SeenPacket, { survey }: TraceEvidence): StationKind {
  if (packet.where === "pod") return "pod";
  const { node } = survey;
  if (packet.interfaceIndex === node?.hostLink?.index) return "veth";
  if (packet.interfaceIndex === node?.bridge?.index) return "bridge";
  return "uplink";
}

/** The first packet at each interface and way. */
export function firsts(packets: readonly PlacedPacket[]): PlacedPacket[] {
  const seen = new Map<string, PlacedPacket>();
  for (const packet of packets) {
    const key = `${packet.where} ${packet.interfaceIndex} ${packet.way}`;
    if (!seen.has(key)) seen.set(key, packet);
  }
  return [...seen.values()];
}

// ── The same packet under another name ───────────────────────────────────────────────────────────────────────────

/** What no translation changes: TCP's sequence number, the payload of others. */
function signatureOf({ packet, bytes }: SeenPacket): string {
  const { tcp, udp, icmp, ip } = packet;
  if (tcp !== undefined) return `tcp ${tcp.sequence} ${tcp.flags.join()} ${tcp.payloadLength}`;
  const length =
    udp?.payloadLength ??
    Math.max(0, (ip?.length ?? 0) - IP_HEADER_BYTES[ip?.family ?? 4] - ICMP_HEADER_BYTES);
  const payload = Buffer.from(bytes.subarray(Math.max(0, bytes.length - length))).toString("base64");
  return udp === undefined ? `icmp ${icmp?.type} ${icmp?.sequence} ${payload}` : `udp ${payload}`;
}

function isFromPod(packet: DecodedPacket, flow: FlowEnds): boolean {
  return packet.ip?.source === flow.source && headingOf(packet, flow) === "out" && isExactly(packet, flow);
}

/** Back to the pod, or back to what the outside takes for the pod. */
function isAnswer(
  packet: DecodedPacket,
  flow: FlowEnds,
  outside: { readonly source: End; readonly destination: End } | undefined,
): boolean {
  if (headingOf(packet, flow) !== "back") return false;
  const ends = endsOf(packet);
  if (ends === undefined) return false;
  if (ends.destination.address === flow.source) return ends.destination.port === flow.sourcePort;
  return (
    outside !== undefined &&
    ends.destination.address === outside.source.address &&
    ends.destination.port === outside.source.port
  );
}

/** The two ends that a packet shows; the id of a query is its source's port, that of an answer its destination's. */
export function endsOf({ ip, tcp, udp, icmp }: DecodedPacket): { source: End; destination: End } | undefined {
  if (ip === undefined) return undefined;
  const ports = tcp ?? udp;
  if (ports !== undefined) {
    return {
      source: { address: ip.source, port: ports.sourcePort },
      destination: { address: ip.destination, port: ports.destinationPort },
    };
  }
  if (icmp?.identifier === undefined) {
    return { source: { address: ip.source }, destination: { address: ip.destination } };
  }
  const isRequest = icmp.type === ECHO_REQUEST[ip.family];
  const id = { port: icmp.identifier };
  return {
    source: { address: ip.source, ...(isRequest ? id : {}) },
    destination: { address: ip.destination, ...(isRequest ? {} : id) },
  };
}

/** `10.0.0.1:5432`; an ICMP id stands behind `#`. */
export function endLabel(end: End, flow: FlowEnds): string {
  if (end.port === undefined) return end.address;
  return flow.protocol === "icmp" ? `${end.address}#${end.port}` : endText(end.address, end.port);
}

/** By conntrack, when no capture shows the packet leaving. */
function outsideOfEntry({ entry, flowEvents }: TraceEvidence): Correlation["outside"] {
  const reply = (entry ?? flowEvents[0]?.entry)?.reply;
  if (reply === undefined) return undefined;
  const port = (number: number | undefined) => present({ port: number });
  return {
    source: { address: reply.destination, ...port(reply.destinationPort ?? reply.icmpId) },
    destination: { address: reply.source, ...port(reply.sourcePort) },
  };
}

/** By what a chain behind a translation was shown. */
function outsideOfEvents(events: readonly LabelledEvent[], flow: FlowEnds): Correlation["outside"] {
  const packets = events.flatMap((event) => (event.where === "node" ? [packetOf(event)] : []));
  const changed = packets.findLast(
    (packet) =>
      packet?.ip !== undefined &&
      (packet.ip.source !== flow.source || packet.ip.destination !== flow.destination),
  );
  return changed === undefined ? undefined : endsOf(changed);
}

/** By a packet that no longer is for whom it was sent to, and went no further. */
function outsideOfPackets(packets: readonly PlacedPacket[], flow: FlowEnds): Correlation["outside"] {
  const changed = packets.findLast(({ packet }) => packet.ip?.destination !== flow.destination);
  return changed === undefined ? undefined : endsOf(changed.packet);
}

function quotesFlow(packet: DecodedPacket, flow: FlowEnds, outside: Correlation["outside"]): boolean {
  const quoted = packet.icmp?.quoted;
  if (quoted === undefined) return false;
  if (isExactly(quoted, flow)) return true;
  const ends = endsOf(quoted);
  return outside !== undefined && ends !== undefined && ends.source.port === outside.source.port;
}

// ── Rule events ──────────────────────────────────────────────────────────────────────────────────────────────────

interface EventOfPacket {
  readonly event: LabelledEvent;
  readonly packet: DecodedPacket | undefined;
  /** Tells the passages of a packet apart: the kernel gives an id again. */
  readonly passage: number;
}

export function eventsOfPackets({ ruleEvents }: TraceEvidence): EventOfPacket[] {
  const label = (where: "pod" | "node") => (event: TraceEvent) => ({ ...event, where });
  return [
    ...packetsOfEvents(ruleEvents.pod.map(label("pod"))),
    ...packetsOfEvents(ruleEvents.node.map(label("node"))),
  ];
}

/**
 * Each event with its packet: the kernel sends the headers with the first event in each base chain only. A prerouting
 * (or output) event after others of the same id belongs to another packet.
 */
function packetsOfEvents(events: readonly LabelledEvent[]): EventOfPacket[] {
  const current = new Map<number, { packet: DecodedPacket | undefined; passage: number; summary: string }>();
  let passages = 0;
  return events.map((event) => {
    const shown = packetOf(event);
    let state = current.get(event.id);
    if (state === undefined || (shown !== undefined && startsAnew(shown, state.packet))) {
      state = { packet: shown, passage: passages++, summary: "" };
      current.set(event.id, state);
    } else if (shown !== undefined) state.packet = shown;
    return { event, packet: state.packet, passage: state.passage };
  });
}

function startsAnew(shown: DecodedPacket, before: DecodedPacket | undefined): boolean {
  return (
    shown.tcp?.sequence !== before?.tcp?.sequence || shown.tcp?.flags.join() !== before?.tcp?.flags.join()
  );
}

/** The events of the first packet of that kind. */
export function firstPacketEvents(
  events: readonly EventOfPacket[],
  isWanted: (packet: DecodedPacket) => boolean,
): LabelledEvent[] {
  // The pod and the node have ids of their own: one packet in each.
  return (["pod", "node"] as const).flatMap((where) => {
    const here = events.filter(({ event }) => event.where === where);
    const first = here.find(({ packet }) => packet !== undefined && isWanted(packet));
    return first?.packet === undefined ? [] : eventsOf(first.passage, first.packet, here);
  });
}

/**
 * The kernel's id is made of the interface, too, which changes on the way where a bridge hands its packets to iptables
 * (br_netfilter): prerouting has one id and forward another. A passage of the same packet under a new id goes on where
 * the first one ended; a passage through a chain that was met already is that of another packet.
 */
function eventsOf(first: number, packet: DecodedPacket, events: readonly EventOfPacket[]): LabelledEvent[] {
  const passages = new Set([first]);
  const others = new Set<number>();
  const met = new Set<string>();
  return events.flatMap(({ event, passage, packet: shown }) => {
    const chain = `${event.family} ${event.table} ${event.chain}`;
    if (!passages.has(passage)) {
      const goesOn = met.size > 0 && !met.has(chain) && isSamePacket(shown, packet);
      if (others.has(passage) || !goesOn) {
        others.add(passage);
        return [];
      }
      passages.add(passage);
    }
    met.add(chain);
    return [event];
  });
}

/** By what no translation of the destination changes. */
function isSamePacket(a: DecodedPacket | undefined, b: DecodedPacket): boolean {
  if (a?.ip === undefined || a.ip.family !== b.ip?.family) return false;
  return (
    a.tcp?.sequence === b.tcp?.sequence &&
    a.tcp?.flags.join() === b.tcp?.flags.join() &&
    a.icmp?.type === b.icmp?.type &&
    a.icmp?.sequence === b.icmp?.sequence &&
    endsOf(a)?.source.port === endsOf(b)?.source.port
  );
}

function isOutEvent(packet: DecodedPacket, flow: FlowEnds, own: DecodedPacket | undefined): boolean {
  if (!isFromPod(packet, flow)) return false;
  return own?.tcp === undefined || packet.tcp?.sequence === own.tcp.sequence;
}

/** The packet in one line, for evidence. */
export function sightingText({ packet, way, interface: name }: PlacedPacket): string {
  return `${name} ${way === "in" ? "in " : "out"} ${summaryOf(packet)}`;
}
