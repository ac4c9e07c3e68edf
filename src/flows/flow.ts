/**
 * Room `flows/`: tracked connections as translations: source, outgoing address, destination, and who really answers.
 *
 * In: entries of conntrack, filters.
 * Out: lines, JSON, statistics, events; flows that were deleted.
 * Touches: the connection table: read; entries are deleted only where forget.ts or a flush is asked to.
 */
import { familyOf } from "../address/ip.ts";
import type { ConntrackEntry, ConntrackTuple } from "../linux/conntrack/entry.ts";
import { IPS, stateNames } from "../linux/conntrack/status.ts";
import { present } from "../present.ts";

/** An end of a connection: `port` is the id of an ICMP query there, and absent for protocols without ports. */
export interface FlowEnd {
  readonly address: string;
  readonly port?: number;
}

/** A tracked connection as a translation. What is not translated is absent. */
export interface FlowTranslation {
  /** Who began the connection, as it calls itself. */
  readonly source: FlowEnd;
  /** Who the other side believes that it is (SNAT, MASQUERADE). */
  readonly sourceOutside?: FlowEnd;
  /** Whom the connection was addressed to. */
  readonly destination: FlowEnd;
  /** Who really answers (DNAT: a service's address becomes a pod's). */
  readonly destinationReal?: FlowEnd;
}

/** Which pod an address belongs to: its name by the address's canonical text. */
export type PodIndex = ReadonlyMap<string, string>;

/** The translation that an entry stands for. */
export function translationOf(entry: ConntrackEntry): FlowTranslation {
  const { original, reply } = entry;
  const source = endOf(original.source, portOf(original));
  // The reply tuple is what the other side sends: its destination is how it sees the source.
  const sourceOutside = endOf(reply.destination, reply.destinationPort ?? reply.icmpId);
  const destination = endOf(original.destination, original.destinationPort);
  const destinationReal = endOf(reply.source, reply.icmpId === undefined ? reply.sourcePort : undefined);
  return present({
    source,
    sourceOutside: sameEnd(source, sourceOutside) ? undefined : sourceOutside,
    destination,
    destinationReal: sameEnd(destination, destinationReal) ? undefined : destinationReal,
  });
}

/**
 * The translation as a line: `10.0.0.1:5432 ↔ 203.0.113.5:5432 → 198.51.100.80:443`. `↔` stands between an address
 * and what it is translated to and back from; `→` between the source and the destination.
 */
export function flowTranslationText(entry: ConntrackEntry): string {
  const { source, sourceOutside, destination, destinationReal } = translationOf(entry);
  const separator = entry.original.icmpId === undefined ? ":" : "#";
  const text = (end: FlowEnd): string => endText(end, separator);
  const left = sourceOutside === undefined ? text(source) : `${text(source)} ↔ ${text(sourceOutside)}`;
  const right =
    destinationReal === undefined ? text(destination) : `${text(destination)} ↔ ${text(destinationReal)}`;
  const { icmpType, icmpCode } = entry.original;
  const icmp = icmpType === undefined ? "" : ` type ${icmpType} code ${icmpCode ?? 0}`;
  return `${left} → ${right}${icmp}`;
}

/** `10.0.0.1:80`, `[2001:db8::1]:80`, `10.0.0.1#77` for an ICMP id, or the address alone. */
function endText(end: FlowEnd, separator: ":" | "#"): string {
  if (end.port === undefined) return end.address;
  if (separator === ":" && familyOf(end.address) === 6) return `[${end.address}]:${end.port}`;
  return `${end.address}${separator}${end.port}`;
}

function endOf(address: string, port: number | undefined): FlowEnd {
  return port === undefined ? { address } : { address, port };
}

function sameEnd(a: FlowEnd, b: FlowEnd): boolean {
  return a.address === b.address && a.port === b.port;
}

function portOf(tuple: ConntrackTuple): number | undefined {
  return tuple.sourcePort ?? tuple.icmpId;
}

/**
 * The state as people say it: that of the protocol ("ESTABLISHED"), or for protocols without one "unreplied" until
 * the other side has answered, "replied" then, "assured" when traffic went on.
 */
export function flowState(entry: Pick<ConntrackEntry, "state" | "status" | "protocol">): string {
  if (entry.state !== undefined) return entry.state;
  // An offloaded flow tells no state; TCP is offloaded only when it is established.
  if ((entry.status & IPS.OFFLOAD) !== 0 && stateNames(entry.protocol) !== undefined) return "ESTABLISHED";
  return answerState(entry.status);
}

/** How far a flow without a protocol state has come, by its status bits. */
export function answerState(status: number): "unreplied" | "replied" | "assured" {
  if ((status & IPS.SEEN_REPLY) === 0) return "unreplied";
  return (status & IPS.ASSURED) === 0 ? "replied" : "assured";
}

/** The pod that began the flow, or else the one that it leads to. */
export function podOf(entry: ConntrackEntry, pods: PodIndex): string | undefined {
  return pods.get(entry.original.source) ?? pods.get(entry.reply.source);
}
