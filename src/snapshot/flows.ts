/** What the connection tracking table holds against the pods: full port ranges, and flows that keep an old decision. */
import { ipText } from "../address/ip.ts";
import { PortTally } from "../flows/flow-statistics.ts";
import { Conntrack } from "../kernel/conntrack/conntrack.ts";
import type { EntryScan } from "../kernel/conntrack/scan.ts";
import { IPS, protocolName } from "../kernel/conntrack/status.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { FlowGroup, NamespaceState, PortUse } from "./snapshot.ts";

const IPPROTO_TCP = 6;
/** Destinations whose port use is told: the fullest. */
const MOST_DESTINATIONS = 32;
/** Kinds of flows that are told: more are no longer one person's to read. */
const MOST_GROUPS = 1024;
/** Entries above which a second thread reads ahead; below, starting it costs more than it brings. */
const LARGE_TABLE = 20_000;

export interface TrackedFlows {
  readonly portUse: readonly PortUse[];
  readonly flows: readonly FlowGroup[];
}

/**
 * Reads the whole table once. Empty when nothing is tracked.
 * @param state of the same namespace: its own addresses tell which translations lead nowhere
 */
export function readTrackedFlows(namespace: NetworkNamespace, state: NamespaceState): TrackedFlows {
  if ((state.conntrack?.count ?? 0) === 0) return { portUse: [], flows: [] };
  const own = new Set(state.addresses.map((one) => one.address));
  const ports = new PortTally();
  const groups = new Map<string, FlowGroup>();
  const large = state.conntrack!.count > LARGE_TABLE;
  using table = large ? Conntrack.openForDump(namespace) : Conntrack.open(namespace);
  table.scan((scan) => {
    ports.add(scan);
    if (isWorthTelling(scan, own)) addTo(groups, scan);
  });
  return { portUse: ports.fullest(MOST_DESTINATIONS), flows: [...groups.values()] };
}

/**
 * Programs replace a TCP connection that hangs; a UDP socket goes on using the flow it has. So every flow without
 * connections is told, and of TCP those whose answers cannot come back to this node.
 */
function isWorthTelling(scan: EntryScan, own: ReadonlySet<string>): boolean {
  if (scan.original.protocol !== IPPROTO_TCP) return true;
  if ((scan.status & IPS.SRC_NAT) === 0) return false;
  return !own.has(textAt(scan, scan.reply.destination));
}

/** Flows that differ in nothing but the source port are one group. */
function addTo(groups: Map<string, FlowGroup>, scan: EntryScan): void {
  const { original, reply } = scan;
  const source = textAt(scan, original.source);
  const destination = textAt(scan, original.destination);
  const translatedTo = textAt(scan, reply.destination);
  const answeredBy = textAt(scan, reply.source);
  const ports = hasPorts(scan);
  const destinationPort = ports ? original.destinationPort : 0;
  const answeredPort = ports ? reply.sourcePort : 0;
  const key = `${original.protocol} ${source} ${destination} ${destinationPort} ${translatedTo} ${answeredBy} ${answeredPort}`;
  const before = groups.get(key);
  if (before === undefined && groups.size >= MOST_GROUPS) return;
  const youngest = before === undefined || scan.timeoutSeconds > before.timeoutSeconds;
  groups.set(key, {
    protocol: protocolName(original.protocol),
    source,
    destination,
    destinationPort,
    translatedTo,
    answeredBy,
    answeredPort,
    count: (before?.count ?? 0) + 1,
    sourcePort: youngest ? (ports ? original.sourcePort : 0) : before.sourcePort,
    timeoutSeconds: youngest ? scan.timeoutSeconds : before.timeoutSeconds,
    answered: before?.answered === true || (scan.status & IPS.SEEN_REPLY) !== 0,
  });
}

function hasPorts({ original, reply }: EntryScan): boolean {
  return original.destinationPort >= 0 && reply.destinationPort >= 0;
}

function textAt({ family, wire }: EntryScan, at: number): string {
  return ipText(wire.bytes, at, at + (family === 4 ? 4 : 16));
}
