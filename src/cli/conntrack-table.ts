/** Opening a namespace's connection tracking table for a command, and saying what is the matter with it. */
import { availableParallelism } from "node:os";
import { command, commandIn } from "../text/command.ts";
import { WayoutError, messageOf } from "../error.ts";
import { SystemError } from "../linux/errno.ts";
import { Conntrack, type ConntrackStatistics } from "../kernel/conntrack/conntrack.ts";
import { openForDump } from "../kernel/conntrack/large-dump.ts";
import type { EntryScan } from "../linux/conntrack/scan.ts";
import { NetlinkError } from "../linux/netlink/netlink-error.ts";
import { namespaceInode, NetworkNamespace } from "../kernel/namespace.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import type { PodIndex } from "../flows/flow.ts";

/** A table that answers. Dispose it. */
export interface OpenTable extends Disposable {
  readonly table: Conntrack;
  readonly namespace: NetworkNamespace | undefined;
  readonly statistics: ConntrackStatistics;
}

/** Codes by which kernels say that they do not have this: no netfilter netlink, or no ctnetlink behind it. */
const MISSING = new Set(["EPROTONOSUPPORT", "EOPNOTSUPP", "EINVAL", "EAFNOSUPPORT"]);

/** @param netns as typed after --netns; the process's own namespace when undefined. @throws WayoutError */
export async function openTable(netns: string | undefined): Promise<OpenTable> {
  const namespace = netns === undefined ? undefined : await openNamespace(netns);
  try {
    const table = Conntrack.open(namespace);
    try {
      const statistics = table.statistics();
      const close = (): void => {
        table.close();
        namespace?.close();
      };
      return { table, namespace, statistics, [Symbol.dispose]: close };
    } catch (error) {
      table.close();
      throw error;
    }
  } catch (error) {
    namespace?.close();
    throw tableError(error);
  }
}

async function openNamespace(text: string): Promise<NetworkNamespace> {
  const { findPod } = await import("../pods/find.ts");
  const { path } = findPod(text);
  try {
    return NetworkNamespace.open(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new WayoutError({
      code: code === "ENOENT" ? "namespace-gone" : "namespace-not-entered",
      kind: code === "ENOENT" ? "broken" : "machine",
      doing: `entering the namespace ${text}`,
      said: messageOf(error),
      todo:
        code === "ENOENT"
          ? "It was deleted a moment ago."
          : "Entering a namespace needs CAP_SYS_ADMIN: run it as root.",
      cause: error,
    });
  }
}

/** What the kernel's refusal means for a user who wants to see the table. */
export function tableError(error: unknown): unknown {
  if (!(error instanceof SystemError)) return error;
  const doing = error instanceof NetlinkError ? error.doing : "opening the connection tracking table";
  const said = error.message.replace(`${doing}: `, "");
  if (error.code === "EPERM") {
    const todo = "This needs CAP_NET_ADMIN in the namespace: run it as root.";
    return new WayoutError({ code: "no-privilege", kind: "machine", doing, said, todo, cause: error });
  }
  if (!MISSING.has(error.code)) return error;
  return new WayoutError({
    code: "no-conntrack",
    kind: "machine",
    doing,
    said: `this kernel does not offer connection tracking: ${said}`,
    todo: "Load it: modprobe nf_conntrack_netlink",
    cause: error,
  });
}

/**
 * For those who stay: their socket keeps a namespace alive that nobody else can see any more.
 * @throws WayoutError when the name, path or process that the namespace was opened by is gone, or is another's
 */
export function checkNamespace({ namespace }: OpenTable): void {
  if (namespace === undefined || namespaceInode(namespace.path) === namespace.inode) return;
  throw new WayoutError({
    code: "namespace-gone",
    kind: "broken",
    doing: `watching ${namespace.path}`,
    said: "the namespace is gone",
  });
}

/**
 * What reads the names of pods, by their addresses; it gives none when they are not wanted. Reading is left to the
 * moment when a name is first needed.
 */
export async function podReader(wanted: boolean): Promise<() => PodIndex> {
  if (!wanted) return () => new Map();
  const { podsByAddress } = await import("../pods/inventory.ts");
  return () => podsByAddress();
}

/** What to say under a list that came out empty. */
export async function emptyTableHint({ namespace, statistics }: OpenTable): Promise<string | undefined> {
  const { trackingOf } = await import("../flows/tracking.ts");
  const tracking = trackingOf(namespace, statistics);
  switch (tracking.state) {
    case "active":
      return undefined;
    case "idle":
      return `Nothing has been tracked yet. A rule asks for it (${tracking.rule}), so the next packet will be.`;
    case "not-asked-for":
      return "Nothing is tracked in this namespace: the kernel does it only when a rule with 'ct' or NAT asks for it, and there is none. 'wayout nat apply' makes one.";
    case "unavailable":
      return "This namespace has no connection tracking: is the module loaded? modprobe nf_conntrack";
    case "unknown":
      return `Nothing is tracked in this namespace yet; whether a rule asks for it is not known: ${tracking.why}.`;
  }
}

/** How to have counters, when there are none. */
export function accountingHint(namespace: NetworkNamespace | undefined): string | undefined {
  if (readSysctl(namespace, "net.netfilter.nf_conntrack_acct") !== "0") return undefined;
  const line = command`sysctl -w net.netfilter.nf_conntrack_acct=1`;
  // Elsewhere than there it would change another namespace.
  const there = commandIn(namespace?.path, line);
  return `Packets and bytes are not counted; for new flows they are ${there === undefined ? "when net.netfilter.nf_conntrack_acct is 1" : `after: ${there}`}`;
}

/** Why no flow is offloaded. A kernel with flowtables has their time-outs among its settings (since Linux 5.14). */
export function offloadHint(namespace: NetworkNamespace | undefined): string {
  return readSysctl(namespace, "net.netfilter.nf_flowtable_tcp_timeout") === undefined
    ? "This kernel offloads no flows: it was built without flowtables (CONFIG_NF_FLOW_TABLE), or is older than 5.14."
    : "No flow is offloaded. A rule must hand flows over: 'flow add @FLOWTABLE' in a forward chain.";
}

/** From this many entries on a second thread that reads ahead pays for its start. */
const READ_AHEAD_ENTRIES = 20_000;

/** Of a visitor that has all it wants. The kernel makes the rest of a dump only while it is read. */
class Enough extends Error {}

/**
 * Large tables are read by a second thread.
 * @param visitor may say `false`: it wants no more
 * @param most how many it will want
 */
export function scanTable(
  { table, namespace, statistics }: OpenTable,
  filter: Parameters<Conntrack["scan"]>[1],
  visitor: (scan: EntryScan) => boolean | void,
  most: number = Number.POSITIVE_INFINITY,
): void {
  const visit = (scan: EntryScan): void => {
    if (visitor(scan) === false) throw new Enough();
  };
  const few = Math.min(statistics.entries, most) < READ_AHEAD_ENTRIES;
  try {
    if (few || availableParallelism() < 2) return table.scan(visit, filter);
    using ahead = openForDump(namespace);
    ahead.scan(visit, filter);
  } catch (error) {
    if (!(error instanceof Enough)) throw error;
  }
}
