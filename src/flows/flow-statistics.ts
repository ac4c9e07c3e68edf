import { ipText } from "../address/ip.ts";
import type { ConntrackCpuStatistics, ConntrackStatistics } from "../kernel/conntrack/conntrack.ts";
import type { EntryScan, TupleScan } from "../linux/conntrack/scan.ts";
import { IPS, stateName } from "../linux/conntrack/status.ts";
import { protocolName } from "../linux/ip-protocol.ts";
import { FlowHash } from "./flow-hash.ts";
import { GroupTable, ipv4Text } from "./group-table.ts";
import { flowState, type PodIndex } from "./flow.ts";
import type { PortRange } from "../linux/ip-protocol.ts";
import { present } from "../present.ts";

/**
 * The ports among which the kernel chooses for a source port from 1024 up, when the rule names no range
 * (nf_nat_l4proto_unique_tuple, net/netfilter/nf_nat_core.c).
 */
export const NAT_PORTS: PortRange = { first: 1024, last: 65535 };

/** How many flows are of one kind. */
export interface KindCount {
  readonly protocol: string;
  readonly state: string;
  readonly flows: number;
}

export interface SourceCount {
  readonly address: string;
  readonly pod?: string;
  readonly flows: number;
}

export interface DestinationCount {
  readonly protocol: string;
  readonly address: string;
  readonly port?: number;
  readonly flows: number;
}

/**
 * Source ports taken towards one destination: what runs out. Two flows of the same protocol to the same address and
 * port need different source ports as soon as they leave with the same address.
 */
export interface OutgoingPortUse {
  readonly protocol: string;
  /** The address that flows leave with. */
  readonly outgoing: string;
  readonly destination: string;
  readonly port: number;
  readonly used: number;
  /** Of these, TCP connections that have ended and only wait; the others may be in use. Absent in older snapshots. */
  readonly ended?: number;
  /** How many there are. */
  readonly of: number;
}

export interface FlowSummary {
  readonly flows: number;
  readonly kinds: readonly KindCount[];
  /** Who began most flows, the most first. */
  readonly sources: readonly SourceCount[];
  /** Whom most flows were addressed to. */
  readonly destinations: readonly DestinationCount[];
  /** Of translated flows only, the fullest first. */
  readonly portUse: readonly OutgoingPortUse[];
  /** Of those that are not named there: how many groups, and their ports together. */
  readonly portUseOfOthers: { readonly groups: number; readonly used: number; readonly of: number };
}

/** Both ends have said that they are done, or one of them that it is gone. */
const ENDED: ReadonlySet<string> = new Set(["TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK"]);

/** Counts the source ports taken towards each destination, flow by flow. */
export class PortTally {
  readonly #hash = new FlowHash();
  readonly #groups: GroupTable;

  /** @param expected how many flows there are, about */
  constructor(expected = 0) {
    this.#groups = new GroupTable(expected);
  }

  add(scan: EntryScan): void {
    const { reply, family, wire } = scan;
    if (!hasPorts(reply)) return;
    const word = wordOf(reply.protocol, reply.sourcePort);
    const key = this.#hash
      .begin()
      .word(word)
      .address(wire.view, reply.destination, family)
      .address(wire.view, reply.source, family);
    const ended = scan.state >= 0 && ENDED.has(stateName(reply.protocol, scan.state) ?? "");
    const slot = this.#groups.add(scan, key, reply.destination, reply.source, word, ended);
    if ((scan.status & IPS.SRC_NAT) !== 0) this.#groups.flag(slot);
  }

  /** Of translated flows only, the fullest first; flows of others that hold ports of the same address count. */
  fullest(top: number): Omit<OutgoingPortUse, "of">[] {
    return this.#translated(top).named;
  }

  /** The same, and what the others have together. */
  summary(top: number, of: number): Pick<FlowSummary, "portUse" | "portUseOfOthers"> {
    const { named, rest } = this.#translated(top);
    return {
      portUse: named.map((use) => ({ ...use, of })),
      portUseOfOthers: { groups: rest.groups, used: rest.flows, of: rest.groups * of },
    };
  }

  #translated(top: number) {
    const { named, rest } = this.#groups.largest(top, true);
    const portUse = named.map(({ first, second, word, flows, marked }) => ({
      protocol: protocolName(word >>> 16),
      outgoing: first,
      destination: second,
      port: word & 0xffff,
      used: flows,
      ended: marked,
    }));
    return { named: portUse, rest };
  }
}

/** Counts flows, one by one, without keeping them. */
export class FlowTally {
  #flows = 0;
  readonly #kinds = new Counts<number>();
  readonly #sources = new Counts<number | string>();
  readonly #hash = new FlowHash();
  readonly #destinations: GroupTable | undefined;
  readonly #ports: PortTally;

  /**
   * @param options.expected how many flows there are, about
   * @param options.destinations false: whom they were addressed to is not asked for
   */
  constructor({ expected = 0, destinations = true }: { expected?: number; destinations?: boolean } = {}) {
    this.#destinations = destinations ? new GroupTable(expected) : undefined;
    this.#ports = new PortTally(expected);
  }

  add(scan: EntryScan): void {
    const { original, wire, family } = scan;
    const { protocol, destination, destinationPort } = original;
    this.#flows++;
    const state = scan.state < 0 ? 0x1_0000 + (scan.status & KIND_BITS) : scan.state;
    this.#kinds.add(protocol * 0x10_0000 + state);
    this.#sources.add(addressKey(scan, original.source));
    this.#ports.add(scan);
    if (this.#destinations === undefined) return;
    const hasPort = destinationPort >= 0;
    const word = wordOf(protocol, hasPort ? destinationPort : 0) + (hasPort ? HAS_PORT : 0);
    const key = this.#hash.begin().word(word).address(wire.view, destination, family);
    this.#destinations.add(scan, key, destination, -1, word, false);
  }

  /** @param top how many sources, destinations and port groups to name */
  summary(pods: PodIndex, top: number, ports: PortRange = NAT_PORTS): FlowSummary {
    return {
      flows: this.#flows,
      kinds: largest(this.#kinds.counted, Number.POSITIVE_INFINITY).map(([key, flows]) => ({
        ...kindOf(key),
        flows,
      })),
      sources: largest(this.#sources.counted, top).map(([key, flows]) => {
        const address = typeof key === "number" ? ipv4Text(key) : key;
        const pod = pods.get(address);
        return present({ address, pod, flows });
      }),
      destinations: (this.#destinations?.largest(top).named ?? []).map(({ first, word, flows }) =>
        present({
          protocol: protocolName((word >>> 16) & 0xff),
          address: first,
          port: (word & HAS_PORT) === 0 ? undefined : word & 0xffff,
          flows,
        }),
      ),
      ...this.#ports.summary(top, ports.last - ports.first + 1),
    };
  }
}

/** Protocol and port in 32 bits; above them, whether there is a port at all. */
function wordOf(protocol: number, port: number): number {
  return protocol * 0x1_0000 + port;
}
const HAS_PORT = 0x100_0000;

const KIND_BITS = IPS.SEEN_REPLY | IPS.ASSURED | IPS.OFFLOAD;

function hasPorts(tuple: TupleScan): boolean {
  return tuple.sourcePort >= 0 && tuple.destinationPort >= 0;
}

function kindOf(key: number): { readonly protocol: string; readonly state: string } {
  const protocol = Math.floor(key / 0x10_0000);
  const rest = key % 0x10_0000;
  const status = rest >= 0x1_0000 ? rest - 0x1_0000 : 0;
  const state = rest >= 0x1_0000 ? undefined : stateName(protocol, rest);
  return {
    protocol: protocolName(protocol),
    state: flowState(present({ protocol, status, state })),
  };
}

/** An IPv4 address as its number, which is cheap to count by; IPv6 as text. */
function addressKey(scan: EntryScan, at: number): number | string {
  if (scan.family === 4) return scan.wire.view.getUint32(at, false);
  return ipText(scan.wire.bytes, at, at + 16);
}

/** How often each key came. Often the same comes many times in a row. */
class Counts<K> {
  readonly #counts = new Map<K, number>();
  #last: K | undefined;
  #run = 0;

  add(key: K): void {
    if (key !== this.#last) this.#flush(key);
    this.#run++;
  }

  get counted(): ReadonlyMap<K, number> {
    this.#flush(undefined);
    return this.#counts;
  }

  #flush(next: K | undefined): void {
    if (this.#last !== undefined)
      this.#counts.set(this.#last, (this.#counts.get(this.#last) ?? 0) + this.#run);
    this.#last = next;
    this.#run = 0;
  }
}

function largest<K>(counts: ReadonlyMap<K, number>, top: number): (readonly [K, number])[] {
  const sorted = [...counts].sort(([, a], [, b]) => b - a);
  return top < sorted.length ? sorted.slice(0, top) : sorted;
}

/** A counter of all CPUs together, and what it tells. */
export interface ExplainedCounter {
  readonly name: keyof Omit<ConntrackCpuStatistics, "cpu">;
  /** As the kernel calls it. */
  readonly kernelName: string;
  readonly value: number;
  /** The CPUs that counted, the busiest first: one alone points to one queue of a network card. */
  readonly cpus: readonly { readonly cpu: number; readonly value: number }[];
  readonly meaning: string;
  /** Whether packets were lost with it. */
  readonly costsPackets: boolean;
}

const MEANINGS: readonly Omit<ExplainedCounter, "value" | "cpus">[] = [
  {
    name: "drop",
    kernelName: "drop",
    meaning: "packets dropped because no entry could be made: the table was full, or insertion failed",
    costsPackets: true,
  },
  {
    name: "insertFailed",
    kernelName: "insert_failed",
    meaning:
      "entries that lost a race for the same tuple: two packets of a new UDP flow at once (A and AAAA queries), or one source port chosen twice by NAT (fully-random helps)",
    costsPackets: true,
  },
  {
    name: "earlyDrop",
    kernelName: "early_drop",
    meaning: "unanswered or unassured flows thrown out to make room: the table is, or was, full",
    costsPackets: true,
  },
  {
    name: "chainTooLong",
    kernelName: "chaintoolong",
    meaning: "insertions refused because a hash chain was too long: too few buckets for so many entries",
    costsPackets: true,
  },
  {
    name: "invalid",
    kernelName: "invalid",
    meaning:
      "packets that belong to no flow and cannot begin one, e.g. outside the TCP window or with a bad checksum; they pass untranslated unless a rule drops them",
    costsPackets: false,
  },
  {
    name: "error",
    kernelName: "icmp_error",
    meaning: "ICMP errors that were malformed or about a packet that no flow knows",
    costsPackets: false,
  },
  {
    name: "clashResolve",
    kernelName: "clash_resolve",
    meaning: "races for the same tuple that could be settled without loss",
    costsPackets: false,
  },
  {
    name: "searchRestart",
    kernelName: "search_restart",
    meaning: "look-ups repeated because the table changed under them; harmless",
    costsPackets: false,
  },
  {
    name: "insert",
    kernelName: "insert",
    meaning: "entries put in by the slow path only (ctnetlink)",
    costsPackets: false,
  },
  {
    name: "found",
    kernelName: "found",
    meaning: "tuples that NAT and clash handling found taken",
    costsPackets: false,
  },
];

/** The per-CPU counters added up, with what they mean, those that cost packets first. */
export function explainCounters({ perCpu }: ConntrackStatistics): ExplainedCounter[] {
  return MEANINGS.map((meaning) => ({
    ...meaning,
    value: perCpu.reduce((sum, cpu) => sum + cpu[meaning.name], 0),
    cpus: perCpu
      .map((counters) => ({ cpu: counters.cpu, value: counters[meaning.name] }))
      .filter(({ value }) => value > 0)
      .sort((a, b) => b.value - a.value),
  }));
}
