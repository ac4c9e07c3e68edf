/** The programs' flows as entries of connection tracking, so that everything which reads those reads these as well. */
import type { ConntrackEntry, ConntrackTuple } from "../../../linux/conntrack/entry.ts";
import { BY_PROGRAMS, IPS, statusFlags } from "../../../linux/conntrack/status.ts";
import { IP_PROTOCOL, protocolName } from "../../../linux/ip-protocol.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { ebpfFlows, type EbpfFlow, type FlowEnd } from "./flows.ts";

/** Who asks has an echo's type; the other side answers with the next. */
const ECHO = { 4: { request: 8, reply: 0 }, 6: { request: 128, reply: 129 } } as const;

/** None where there are no programs of ours. @throws SystemError EPERM */
export function trackedByPrograms(namespace: NetworkNamespace): ConntrackEntry[] {
  return (ebpfFlows(namespace) ?? []).map(entryOf);
}

function entryOf(flow: EbpfFlow): ConntrackEntry {
  const { family, protocol, translated, source, destination, seenAs, secondsLeft, slot } = flow;
  // What began outside is written down as its answers are seen.
  const [from, to] = translated ? [source, destination] : [destination, source];
  const state = protocol === IP_PROTOCOL.tcp ? flow.state?.toUpperCase() : undefined;
  const status = statusOf(flow);
  const [sent, received] = [0, 1].map((side) => ({
    packets: Number(flow.packets[side]),
    bytes: Number(flow.bytes[side]),
  }));
  return {
    family,
    protocol,
    protocolName: protocolName(protocol),
    original: tupleOf(flow, from, to, "request"),
    reply: tupleOf(flow, to, translated ? (seenAs ?? from) : from, "reply"),
    ...(state === undefined ? {} : { state }),
    status,
    flags: statusFlags(status),
    timeoutSeconds: secondsLeft,
    mark: 0,
    zone: 0,
    id: slot,
    counters: { original: sent!, reply: received! },
  };
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
      return { ...ends, icmpId, icmpType: ECHO[family][direction], icmpCode: 0 };
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
