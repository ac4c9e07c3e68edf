/** The programs' flows as entries of connection tracking, so that everything which reads those reads these as well. */
import type { ConntrackEntry, ConntrackTuple } from "../../../linux/conntrack/entry.ts";
import { BY_PROGRAMS, IPS, statusFlags } from "../../../linux/conntrack/status.ts";
import { IP_PROTOCOL, protocolName } from "../../../linux/ip-protocol.ts";
import type { KnownConnection } from "../../../kernel/conntrack/conntrack.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { parseBpfObject } from "../../../linux/bpf/object.ts";
import { holdsPrograms, namespaceDirectory } from "./bpf-directory.ts";
import { ebpfFlowOf, ebpfFlows, type EbpfFlow, type FlowEnd, type LeavingEnds } from "./flows.ts";
import { lifeOf, numberKey } from "./layout.ts";
import { LoadedPrograms } from "./loaded-programs.ts";
import { NatMaps } from "./maps.ts";
import { NAT_PROGRAMS } from "./program/nat.bpf.ts";
import { ECHO_REPLY, ECHO_REQUEST } from "../../../linux/icmp.ts";
import { present } from "../../../present.ts";

/** Who asks has an echo's type; the other side answers with the next. */
const ECHO = { request: ECHO_REQUEST, reply: ECHO_REPLY } as const;

/** None where there are no programs of ours. @throws SystemError EPERM */
export function trackedByPrograms(namespace: NetworkNamespace): ConntrackEntry[] {
  return (ebpfFlows(namespace) ?? []).map(entryOf);
}

/**
 * What pods have begun and the node forwards, as connection tracking would have it: it sees the pods' own addresses both ways.
 */
export function knownConnections(namespace: NetworkNamespace): KnownConnection[] {
  return (ebpfFlows(namespace) ?? [])
    .filter(
      ({ translated, protocol, state, secondsLeft }) =>
        translated &&
        secondsLeft > 0 &&
        (protocol === IP_PROTOCOL.udp || (protocol === IP_PROTOCOL.tcp && state === "established")),
    )
    .map((flow) => ({
      tuple: tupleOf(flow, flow.source, flow.destination, "request"),
      answered: flow.answered,
      timeoutSeconds: flow.secondsLeft,
    }));
}

/** The one of these ends, as a pod sends them. */
export function trackedOf(namespace: NetworkNamespace, ends: LeavingEnds): ConntrackEntry | undefined {
  const flow = ebpfFlowOf(namespace, ends);
  return flow === undefined ? undefined : entryOf(flow);
}

/** Ends flows that were told of: one that has ended meanwhile, or has begun anew, is left alone. Returns how many. */
export function endTracked(namespace: NetworkNamespace, entries: readonly ConntrackEntry[]): number {
  const ours = entries.filter(({ status }) => (status & BY_PROGRAMS) !== 0);
  const directory = namespaceDirectory(namespace);
  if (ours.length === 0 || directory === undefined || !holdsPrograms(namespace)) return 0;
  const object = parseBpfObject(Uint8Array.fromBase64(NAT_PROGRAMS));
  const { maps, missing } = NatMaps.open(directory, object);
  using _maps = maps;
  if (missing.length > 0) return 0;
  using programs = new LoadedPrograms(object, maps);
  const flows = maps.get("flows");
  return ours.filter(({ id }) => {
    const record = flows.get(numberKey(id & SLOT_BITS));
    const life = record === undefined ? 0 : lifeOf(record);
    return idOf(id & SLOT_BITS, life) === id && programs.ask("forget", id & SLOT_BITS, life);
  }).length;
}

/** Tells the lives of a place apart, as far as 32 bits can: 20 for the place, 12 of how often it was given away. */
const SLOT_BITS = 0xf_ffff;
function idOf(slot: number, life: number): number {
  return (slot | ((life >>> 2) << 20)) >>> 0;
}

function entryOf(flow: EbpfFlow): ConntrackEntry {
  const { family, protocol, translated, source, destination, seenAs, secondsLeft, slot, life } = flow;
  // What began outside is written down as its answers are seen.
  const [from, to] = translated ? [source, destination] : [destination, source];
  const state = protocol === IP_PROTOCOL.tcp ? flow.state?.toUpperCase() : undefined;
  const status = statusOf(flow);
  const [sent, received] = [0, 1].map((side) => ({
    packets: Number(flow.packets[side]),
    bytes: Number(flow.bytes[side]),
  }));
  return present({
    family,
    protocol,
    protocolName: protocolName(protocol),
    original: tupleOf(flow, from, to, "request"),
    reply: tupleOf(flow, to, translated ? (seenAs ?? from) : from, "reply"),
    state,
    status,
    flags: statusFlags(status),
    timeoutSeconds: secondsLeft,
    mark: 0,
    zone: 0,
    id: idOf(slot, life),
    counters: { original: sent!, reply: received! },
  });
}

function tupleOf(
  { family, protocol }: EbpfFlow,
  from: FlowEnd,
  to: FlowEnd,
  direction: "request" | "reply",
): ConntrackTuple {
  const ends = { source: from.address, destination: to.address, protocol };
  switch (protocol) {
    case IP_PROTOCOL.tcp:
    case IP_PROTOCOL.udp:
      return { ...ends, sourcePort: from.port, destinationPort: to.port };
    case IP_PROTOCOL.icmp:
    case IP_PROTOCOL.icmpv6: {
      const icmpId = direction === "request" ? from.port : to.port;
      return { ...ends, icmpId, icmpType: ECHO[direction][family], icmpCode: 0 };
    }
    default:
      return ends;
  }
}

function statusOf({ translated, answered, protocol, state }: EbpfFlow): number {
  const isAssured = protocol === IP_PROTOCOL.tcp ? state === "established" : answered;
  return (
    BY_PROGRAMS |
    IPS.CONFIRMED |
    (answered ? IPS.SEEN_REPLY : 0) |
    (isAssured ? IPS.ASSURED : 0) |
    (translated ? IPS.SRC_NAT | IPS.SRC_NAT_DONE : 0)
  );
}
