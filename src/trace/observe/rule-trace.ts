/**
 * The rules that one flow meets, told by nf_tables itself. A small table of our own marks the flow's packets for
 * tracing before any other rule sees them. The kernel takes the table away when its socket closes, also when this
 * process is killed (NFT_TABLE_F_OWNER, Linux 5.12); for older kernels the next start removes what a dead process
 * left.
 */
import { NetlinkError } from "../../linux/netlink/netlink-error.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import {
  addChain,
  addRule,
  createTable,
  deleteTable,
  type Transaction,
  type Expressions,
} from "../../linux/nftables/commands.ts";
import { NftMonitor, type TraceEvent } from "../../kernel/nftables/events.ts";
import type { NetlinkTransport } from "../../kernel/netlink/transport.ts";
import { Nftables } from "../../kernel/nftables/nftables.ts";
import { limit, match, setNftrace } from "../../linux/nftables/rule-builder.ts";
import type { Family, Table, TableRef } from "../../linux/nftables/ruleset.ts";
import { identify, isAlive } from "../../kernel/process.ts";
import { SystemError } from "../../linux/errno.ts";
import type { FlowPattern } from "../evidence.ts";

const TABLE_PREFIX = "wayout-trace";
/** Before everything else: iptables' raw table has -300, defragmentation -400. */
const PRIORITY = -1000;
/**
 * Answers come back to an address and port that are not known beforehand when the source is translated. They are
 * traced by where they come from, and no more of them than this, however many other flows the destination has.
 */
const MOST_ANSWERS_PER_SECOND = 200;

/** Tracing of one flow in one namespace, while it is open. */
export class RuleTrace implements Disposable {
  #events: TraceEvent[] = [];
  #lost = false;

  private constructor(
    readonly nftables: Nftables,
    readonly monitor: NftMonitor,
    readonly tables: readonly TableRef[],
    /** The ruleset as it was, for the text of rules. */
    readonly ruleset: readonly Table[],
  ) {}

  /**
   * @param reader the socket over which the rules are read, closed here; an ordinary one when absent
   * @returns undefined when there is no rule in the namespace that could be met: nothing is touched then
   * @throws NetlinkError, SystemError when the kernel refuses, e.g. EPERM
   */
  static open(
    namespace: NetworkNamespace,
    flow: FlowPattern,
    reader?: NetlinkTransport,
  ): RuleTrace | undefined {
    const nftables = Nftables.open(namespace);
    let monitor: NftMonitor | undefined;
    try {
      using reading = reader === undefined ? undefined : new Nftables(reader);
      const all = (reading ?? nftables).ruleset().tables;
      removeLeftovers(nftables, all);
      const ruleset = all.filter((table) => !table.name.startsWith(TABLE_PREFIX));
      const families = tracedFamilies(ruleset);
      if (families.length === 0) {
        nftables.close();
        return undefined;
      }
      monitor = NftMonitor.open(namespace, ["trace"]);
      const tables = families.map((family): TableRef => ({ family, table: tableName() }));
      addTables(nftables, tables, flow);
      return new RuleTrace(nftables, monitor, tables, ruleset);
    } catch (error) {
      nftables.close();
      monitor?.close();
      throw error;
    }
  }

  /** Every event so far. */
  events(): readonly TraceEvent[] {
    try {
      for (let more = this.monitor.events(0); more.length > 0; more = this.monitor.events(0)) {
        for (const event of more) {
          if (event.kind === "trace" && !event.table.startsWith(TABLE_PREFIX)) this.#events.push(event);
        }
      }
    } catch (error) {
      if (!(error instanceof SystemError && error.code === "ENOBUFS")) throw error;
      this.#lost = true;
    }
    return this.#events;
  }

  /** Whether the kernel had to drop events because too many came at once. */
  get lost(): boolean {
    return this.#lost;
  }

  /** Takes the tables away. */
  close(): void {
    this.monitor.close();
    try {
      this.nftables.transaction(this.tables.map(deleteTable), "ending the trace");
    } catch (error) {
      // The ruleset was flushed meanwhile: gone is gone.
      if (!(error instanceof NetlinkError && error.code === "ENOENT")) throw error;
    } finally {
      this.nftables.close();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Families to mark packets in: inet for ip, ip6 and inet chains; bridge where a bridge's chains may drop. */
function tracedFamilies(tables: readonly Table[]): Family[] {
  const has = (...families: readonly Family[]): boolean =>
    tables.some(
      (table) => families.includes(table.family) && table.chains.some((chain) => chain.base !== undefined),
    );
  return [
    ...(has("ip", "ip6", "inet") ? (["inet"] as const) : []),
    ...(has("bridge") ? (["bridge"] as const) : []),
  ];
}

/** `wayout-trace-PID-START`: pid and start time together name one process for ever. */
function tableName(): string {
  const self = identify(process.pid)!;
  return `${TABLE_PREFIX}-${self.pid}-${self.start}`;
}

/** Tables of traces whose process has ended. */
function removeLeftovers(nftables: Nftables, tables: readonly Table[]): void {
  const dead = tables.filter((table) => {
    const parts = new RegExp(`^${TABLE_PREFIX}-(\\d+)-(\\d+)$`).exec(table.name);
    return parts !== null && !isAlive({ pid: Number(parts[1]), start: Number(parts[2]) });
  });
  for (const table of dead) {
    try {
      nftables.transaction(
        [deleteTable({ family: table.family, table: table.name })],
        "removing the table of a trace that was killed",
      );
    } catch (error) {
      if (!(error instanceof NetlinkError && error.code === "ENOENT")) throw error;
    }
  }
}

function addTables(nftables: Nftables, tables: readonly TableRef[], flow: FlowPattern): void {
  const changes = (owned: boolean): Transaction =>
    tables.map((table) => [
      createTable(table, owned ? { flags: ["owner"] } : {}),
      ...hooksOf(table.family).flatMap((hook) => {
        const chain = { ...table, chain: hook };
        return [
          addChain(chain, { base: { type: "filter", hook, priority: PRIORITY } }),
          ...flowRules(table.family, flow).map((expressions) => addRule(chain, { expressions })),
        ];
      }),
    ]);
  try {
    nftables.transaction(changes(true), "tracing the flow");
  } catch (error) {
    if (!(error instanceof NetlinkError) || (error.code !== "EOPNOTSUPP" && error.code !== "EINVAL"))
      throw error;
    nftables.transaction(changes(false), "tracing the flow");
  }
}

function hooksOf(family: Family): ("prerouting" | "output")[] {
  return family === "bridge" ? ["prerouting"] : ["prerouting", "output"];
}

/**
 * What goes, what comes back to the same port, and a bounded number of what comes back from there at all, or to that
 * port at all: where the destination is translated, too, another host answers.
 */
function flowRules(family: Family, flow: FlowPattern): Expressions[] {
  const { source, destination, sourcePort, destinationPort } = flow;
  const ip = flow.family === 4 ? "ip" : "ip6";
  const layer3 =
    family === "bridge"
      ? match("meta protocol", flow.family === 4 ? "ip" : "ip6")
      : match("meta nfproto", flow.family === 4 ? "ipv4" : "ipv6");
  const protocol = flow.protocol === "icmp" && flow.family === 6 ? "ipv6-icmp" : flow.protocol;
  const isEcho = flow.protocol === "icmp";
  const base = [layer3, match("meta l4proto", protocol)];
  const port = (side: "sport" | "dport", number: number | undefined): Expressions => {
    if (number === undefined) return [];
    if (isEcho) return side === "sport" ? [match(`${flow.family === 4 ? "icmp" : "icmpv6"} id`, number)] : [];
    return [match(`th ${side}`, number)];
  };
  const [there, here] = [match(`${ip} saddr`, destination), match(`${ip} daddr`, source)];
  const exact = [
    [
      ...base,
      match(`${ip} saddr`, source),
      match(`${ip} daddr`, destination),
      ...port("sport", sourcePort),
      ...port("dport", destinationPort),
    ],
    [
      ...base,
      there,
      ...port("sport", isEcho ? sourcePort : destinationPort),
      ...(isEcho ? [] : port("dport", sourcePort)),
    ],
  ];
  const loose = [
    [...base, there, ...(isEcho ? [] : port("sport", destinationPort))],
    [...base, ...(sourcePort === undefined ? [here] : port(isEcho ? "sport" : "dport", sourcePort))],
  ];
  // Without the pod's port every flow between the two is meant: a bounded number of its packets.
  const bounded = sourcePort === undefined ? [...exact, ...loose] : loose;
  return [
    ...(sourcePort === undefined ? [] : exact).map((matches) => [...matches, setNftrace()]),
    ...bounded.map((matches) => [
      ...matches,
      limit(MOST_ANSWERS_PER_SECOND, "second", MOST_ANSWERS_PER_SECOND),
      setNftrace(),
    ]),
  ];
}
