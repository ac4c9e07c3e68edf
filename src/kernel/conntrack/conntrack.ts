import { familyOf } from "../../address/ip.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import { NLM_F_CREATE, NLM_F_EXCL, request, type AnyRequest } from "../../linux/netlink/message.ts";
import { IP_PROTOCOL } from "../../linux/ip-protocol.ts";
import { IPS, TCP_STATES } from "../../linux/conntrack/status.ts";
import { present } from "../../present.ts";
import { NetlinkError } from "../../linux/netlink/netlink-error.ts";
import { NFPROTO } from "../../linux/netfilter.ts";
import { NETLINK_NETFILTER, openTransport, type NetlinkTransport } from "../netlink/transport.ts";
import type { NetworkNamespace } from "../namespace.ts";
import {
  IPCTNL_MSG_CT_DELETE,
  IPCTNL_MSG_CT_GET,
  IPCTNL_MSG_CT_GET_STATS,
  IPCTNL_MSG_CT_GET_STATS_CPU,
  IPCTNL_MSG_CT_NEW,
} from "../../linux/conntrack/attributes.ts";
import { conntrackEntry, type ConntrackEntry, type ConntrackTuple } from "../../linux/conntrack/entry.ts";
import { kernelFilter, passes, type ConntrackFilter } from "../../linux/conntrack/filter.ts";
import { RepeatGuard } from "../../linux/conntrack/repeat-guard.ts";
import { tupleAttributes } from "../../linux/conntrack/entry-message.ts";
import { EntryScan } from "../../linux/conntrack/scan.ts";

/** One CPU's counters since the namespace began (struct ip_conntrack_stat). 32 bits: they wrap. */
export interface ConntrackCpuStatistics {
  readonly cpu: number;
  /** Look-ups that found an entry. Only clashes and NAT count here today. */
  readonly found: number;
  /** Packets that fit no connection and could not begin one. */
  readonly invalid: number;
  readonly insert: number;
  /** Entries that could not be put into the table, e.g. because another with the same tuple was faster. */
  readonly insertFailed: number;
  /** Packets dropped because no entry could be made: table full, or the insertion failed. */
  readonly drop: number;
  /** Entries that were not assured, thrown out to make room. */
  readonly earlyDrop: number;
  readonly error: number;
  /** Look-ups repeated because the table was being resized. */
  readonly searchRestart: number;
  /** Clashing insertions that could be merged. */
  readonly clashResolve: number;
  /** Insertions refused because a hash chain was too long. */
  readonly chainTooLong: number;
}

export interface ConntrackStatistics {
  /** Entries of this namespace. */
  readonly entries: number;
  /** net.netfilter.nf_conntrack_max: a limit for each namespace; 0 means none. */
  readonly maximum: number;
  readonly perCpu: readonly ConntrackCpuStatistics[];
}

/** A connection in its middle. */
export interface KnownConnection {
  /** As who began it sends. */
  readonly tuple: ConntrackTuple;
  readonly answered: boolean;
  readonly timeoutSeconds: number;
}

/** IP_CT_TCP_FLAG_BE_LIBERAL: whatever the sequence number is. */
const BE_LIBERAL = { flags: 8, mask: 8 } as const;
const LIBERAL_ESTABLISHED = {
  state: TCP_STATES.indexOf("ESTABLISHED"),
  flagsOriginal: BE_LIBERAL,
  flagsReply: BE_LIBERAL,
} as const;

/** How a tuple is looked up. */
export interface TupleLookup {
  /** Which of the entry's tuples it is; `original` when absent. */
  readonly direction?: "original" | "reply";
  readonly zone?: number;
}

/** The connection tracking table of one namespace. Synchronous, as all of netlink here. */
export class Conntrack implements Disposable {
  readonly #connection: NetlinkConnection;

  constructor(transport: NetlinkTransport) {
    this.#connection = new NetlinkConnection(transport);
  }

  /** @throws SystemError EPROTONOSUPPORT when the kernel has no netfilter netlink */
  static open(namespace?: NetworkNamespace): Conntrack {
    return new Conntrack(openTransport(NETLINK_NETFILTER, namespace === undefined ? {} : { namespace }));
  }

  /** The entries that pass the filter, in the table's order, each once. For large tables see `scan`. */
  entries(filter: ConntrackFilter = {}): ConntrackEntry[] {
    const entries: ConntrackEntry[] = [];
    this.visit((entry) => {
      entries.push(entry);
    }, filter);
    return entries;
  }

  /** The same one by one, without holding them all. @throws whatever the visitor throws */
  visit(visitor: (entry: ConntrackEntry) => void, filter: ConntrackFilter = {}): void {
    this.scan((scan) => {
      const entry = scan.entry();
      if (passes(entry, filter)) visitor(entry);
    }, filter);
  }

  /**
   * The whole table without making an object of any entry: the visitor gets the same EntryScan each time, pointed at
   * the next entry. The kernel filters as far as it can; the visitor must check again (see kernelFilter). An entry
   * that the kernel hands over twice, because its neighbour vanished meanwhile, is visited once.
   */
  scan(visitor: (scan: EntryScan) => void, filter: ConntrackFilter = {}): void {
    const { header, attributes } = kernelFilter(filter);
    const doing = "listing tracked connections";
    const scan = new EntryScan();
    const guard = new RepeatGuard();
    this.#connection.dumpEach(request(IPCTNL_MSG_CT_GET, doing, header, attributes), (wire, start, end) => {
      scan.point(wire, start, end);
      if (guard.isNew(wire, scan.key)) visitor(scan);
    });
  }

  /** The entry with this tuple, or undefined. */
  get(tuple: ConntrackTuple, lookup: TupleLookup = {}): ConntrackEntry | undefined {
    const doing = `looking up the tracked connection ${tupleText(tuple)}`;
    try {
      const message = request(IPCTNL_MSG_CT_GET, doing, headerOf(tuple), lookupAttributes(tuple, lookup));
      const answer = this.#connection.request(message, IPCTNL_MSG_CT_NEW)[0];
      return answer === undefined ? undefined : conntrackEntry(answer);
    } catch (error) {
      if (error instanceof NetlinkError && error.code === "ENOENT") return undefined;
      throw error;
    }
  }

  /**
   * Makes connections known that have begun where nobody tracked them; those that are known already are left alone. Sequence
   * numbers are believed: nobody knows which were seen. Returns how many were new.
   */
  add(connections: readonly KnownConnection[]): number {
    const requests: AnyRequest[] = connections.map(({ tuple, answered, timeoutSeconds }) =>
      request(
        IPCTNL_MSG_CT_NEW,
        `making the connection ${tupleText(tuple)} known`,
        headerOf(tuple),
        {
          original: tupleAttributes(tuple),
          reply: tupleAttributes(answerTo(tuple)),
          status: IPS.CONFIRMED | (answered ? IPS.SEEN_REPLY | IPS.ASSURED : 0),
          timeout: timeoutSeconds,
          ...(tuple.protocol === IP_PROTOCOL.tcp ? { protoinfo: { tcp: LIBERAL_ESTABLISHED } } : {}),
        },
        NLM_F_CREATE | NLM_F_EXCL,
      ),
    );
    const errors = this.#connection.batchResults(requests);
    for (const error of errors.values())
      if (!(error instanceof NetlinkError && error.code === "EEXIST")) throw error;
    return connections.length - errors.size;
  }

  /** Forgets one connection. Returns false when there was none. */
  delete(tuple: ConntrackTuple, lookup: TupleLookup = {}): boolean {
    const doing = `deleting the tracked connection ${tupleText(tuple)}`;
    try {
      this.#connection.request(
        request(IPCTNL_MSG_CT_DELETE, doing, headerOf(tuple), lookupAttributes(tuple, lookup)),
      );
      return true;
    } catch (error) {
      if (error instanceof NetlinkError && error.code === "ENOENT") return false;
      throw error;
    }
  }

  /**
   * Forgets exactly these entries: one that ended meanwhile, or whose tuple belongs to a newer entry by now, is left
   * alone. Returns how many were deleted.
   */
  deleteEntries(entries: readonly ConntrackEntry[]): number {
    const requests: AnyRequest[] = entries.map((entry) =>
      request(
        IPCTNL_MSG_CT_DELETE,
        `deleting the tracked connection ${tupleText(entry.original)}`,
        headerOf(entry.original),
        { ...lookupAttributes(entry.original, { zone: entry.zone }), id: entry.id },
      ),
    );
    const errors = this.#connection.batchResults(requests);
    let gone = 0;
    for (const error of errors.values()) {
      if (!(error instanceof NetlinkError && error.code === "ENOENT")) throw error;
      gone++;
    }
    return entries.length - gone;
  }

  /**
   * Forgets the entries that pass the filter, all of them without one. Returns how many. With a filter they are
   * listed and deleted by their ids: an older kernel that does not know filters would delete everything.
   */
  flush(filter?: ConntrackFilter): number {
    if (filter !== undefined) return this.deleteEntries(this.entries(filter));
    const before = this.statistics().entries;
    this.#connection.request(
      request(IPCTNL_MSG_CT_DELETE, "deleting all tracked connections", { family: NFPROTO.unspec }, {}),
    );
    return before;
  }

  statistics(): ConntrackStatistics {
    const doing = "reading the connection tracking statistics";
    const [global] = this.#connection.request(
      request(IPCTNL_MSG_CT_GET_STATS, doing, {}, {}),
      IPCTNL_MSG_CT_GET_STATS,
    );
    const cpus = this.#connection.dump(
      request(IPCTNL_MSG_CT_GET_STATS_CPU, doing, {}, {}),
      IPCTNL_MSG_CT_GET_STATS_CPU,
    );
    return {
      entries: global?.attributes.entries ?? 0,
      maximum: global?.attributes.maximum ?? 0,
      perCpu: cpus.map(({ header, attributes }) => ({
        cpu: header.resourceId,
        found: attributes.found ?? 0,
        invalid: attributes.invalid ?? 0,
        insert: attributes.insert ?? 0,
        insertFailed: attributes.insertFailed ?? 0,
        drop: attributes.drop ?? 0,
        earlyDrop: attributes.earlyDrop ?? 0,
        error: attributes.error ?? 0,
        searchRestart: attributes.searchRestart ?? 0,
        clashResolve: attributes.clashResolve ?? 0,
        chainTooLong: attributes.chainTooLong ?? 0,
      })),
    };
  }

  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function headerOf(tuple: ConntrackTuple): { readonly family: number } {
  return { family: familyOf(tuple.source) === 6 ? NFPROTO.ipv6 : NFPROTO.ipv4 };
}

function lookupAttributes(tuple: ConntrackTuple, lookup: TupleLookup) {
  const encoded = tupleAttributes(tuple);
  const zone = lookup.zone === undefined || lookup.zone === 0 ? {} : { zone: lookup.zone };
  return lookup.direction === "reply" ? { reply: encoded, ...zone } : { original: encoded, ...zone };
}

function answerTo({
  source,
  destination,
  sourcePort,
  destinationPort,
  ...rest
}: ConntrackTuple): ConntrackTuple {
  return {
    ...rest,
    source: destination,
    destination: source,
    ...present({ sourcePort: destinationPort, destinationPort: sourcePort }),
  };
}

function tupleText(tuple: ConntrackTuple): string {
  const port = (number: number | undefined): string => (number === undefined ? "" : ` port ${number}`);
  return `${tuple.source}${port(tuple.sourcePort)} → ${tuple.destination}${port(tuple.destinationPort)}`;
}
