/** What the connection tracking table holds against the pods: full port ranges, and flows that keep an old decision. */
import { ipBytes, ipText } from "../address/ip.ts";
import { FlowHash } from "../flows/flow-hash.ts";
import { PortTally } from "../flows/flow-statistics.ts";
import { Conntrack } from "../kernel/conntrack/conntrack.ts";
import { openForDump } from "../kernel/conntrack/large-dump.ts";
import type { EntryScan } from "../linux/conntrack/scan.ts";
import { IPS } from "../linux/conntrack/status.ts";
import { IP_PROTOCOL, protocolName } from "../linux/ip-protocol.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { ConnectionTally, limitsConnections } from "./connection-counts.ts";
import type { ConnectionCount, FlowGroup, NamespaceState, PortUse } from "./snapshot.ts";
import { present } from "../present.ts";

/** Destinations whose port use is told: the fullest. */
const MOST_DESTINATIONS = 32;
/** Kinds of flows that are told: more are no longer one person's to read. */
const MOST_GROUPS = 1024;
/** Entries above which a second thread reads ahead; below, starting it costs more than it brings. */
const LARGE_TABLE = 20_000;

export interface TrackedFlows {
  readonly portUse: readonly PortUse[];
  readonly flows: readonly FlowGroup[];
  readonly connections?: readonly ConnectionCount[];
}

/**
 * Reads the whole table once. Empty when nothing is tracked.
 * @param state of the same namespace: its own addresses tell which translations lead nowhere
 */
export function readTrackedFlows(namespace: NetworkNamespace, state: NamespaceState): TrackedFlows {
  const limited = limitsConnections(state);
  if ((state.conntrack?.count ?? 0) === 0) {
    return present({ portUse: [], flows: [], connections: limited ? [] : undefined });
  }
  const ports = new PortTally();
  const groups = new FlowGroups(state.addresses.map((one) => one.address));
  const connections = limited ? new ConnectionTally() : undefined;
  const large = state.conntrack!.count > LARGE_TABLE;
  using table = large ? openForDump(namespace) : Conntrack.open(namespace);
  table.scan((scan) => {
    ports.add(scan);
    groups.add(scan);
    connections?.add(scan);
  });
  const counted = connections?.list();
  return present({
    portUse: ports.fullest(MOST_DESTINATIONS),
    flows: groups.list(),
    connections: counted,
  });
}

type Draft = { -readonly [K in keyof FlowGroup]: FlowGroup[K] };

/** Flows that differ in nothing but the source port are one group. */
class FlowGroups {
  readonly #hash = new FlowHash();
  readonly #groups = new Map<number, Draft>();
  readonly #own: ReadonlySet<number>;

  constructor(own: readonly string[]) {
    this.#own = new Set(
      own.map((address) => {
        const bytes = ipBytes(address);
        return this.#addressHash(new DataView(bytes.buffer, bytes.byteOffset), 0, bytes.length === 4 ? 4 : 6);
      }),
    );
  }

  add(scan: EntryScan): void {
    if (!this.#isWorthTelling(scan)) return;
    const key = this.#keyOf(scan);
    let group = this.#groups.get(key);
    if (group === undefined) {
      if (this.#groups.size >= MOST_GROUPS) return;
      this.#groups.set(key, (group = newGroup(scan)));
    }
    group.count++;
    group.answered ||= (scan.status & IPS.SEEN_REPLY) !== 0;
    if (scan.timeoutSeconds <= group.timeoutSeconds) return;
    group.timeoutSeconds = scan.timeoutSeconds;
    group.sourcePort = hasPorts(scan) ? scan.original.sourcePort : 0;
  }

  list(): FlowGroup[] {
    return [...this.#groups.values()];
  }

  /**
   * Programs replace a TCP connection that makes no progress; a UDP socket goes on using the flow it has. So every flow without
   * connections is told, and of TCP those whose answers cannot come back to this node.
   */
  #isWorthTelling({ original, reply, status, wire, family }: EntryScan): boolean {
    if (original.protocol !== IP_PROTOCOL.tcp) return true;
    if ((status & IPS.SRC_NAT) === 0) return false;
    return !this.#own.has(this.#addressHash(wire.view, reply.destination, family));
  }

  #addressHash(view: DataView, at: number, family: 4 | 6): number {
    return this.#hash.begin().address(view, at, family).value;
  }

  #keyOf(scan: EntryScan): number {
    const { original, reply, wire, family } = scan;
    const hash = this.#hash.begin().word(original.protocol);
    // The id of an echo stands where others have ports: each would be a group of its own.
    if (hasPorts(scan)) hash.word(original.destinationPort * 0x1_0000 + reply.sourcePort);
    return hash
      .address(wire.view, original.source, family)
      .address(wire.view, original.destination, family)
      .address(wire.view, reply.destination, family)
      .address(wire.view, reply.source, family).value;
  }
}

function newGroup(scan: EntryScan): Draft {
  const { original, reply } = scan;
  const ports = hasPorts(scan);
  return {
    protocol: protocolName(original.protocol),
    source: textAt(scan, original.source),
    sourcePort: 0,
    destination: textAt(scan, original.destination),
    destinationPort: ports ? original.destinationPort : 0,
    translatedTo: textAt(scan, reply.destination),
    answeredBy: textAt(scan, reply.source),
    answeredPort: ports ? reply.sourcePort : 0,
    count: 0,
    timeoutSeconds: -1,
    answered: false,
  };
}

function hasPorts({ original, reply }: EntryScan): boolean {
  return original.destinationPort >= 0 && reply.destinationPort >= 0;
}

function textAt({ family, wire }: EntryScan, at: number): string {
  return ipText(wire.bytes, at, at + (family === 4 ? 4 : 16));
}
