/** Connections that a backend of ours tracks by itself: they stand in no table of the kernel. */
import { EntryScan } from "../linux/conntrack/scan.ts";
import { entryMessage } from "../linux/conntrack/entry-message.ts";
import { Wire } from "../linux/netlink/wire.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import type { ConntrackEntry } from "../linux/conntrack/entry.ts";
import { BY_PROGRAMS } from "../linux/conntrack/status.ts";
import { connectionsAtLinks, endConnectionsAtLinks } from "../nat/backends/at-links.ts";

/**
 * Visits them as Conntrack.scan does the kernel's: the same EntryScan each time, until the visitor returns false. Returns how
 * many there are.
 * @param namespace the calling thread's when undefined
 */
export function scanProgramFlows(
  namespace: NetworkNamespace | undefined,
  visitor: (scan: EntryScan) => unknown,
): number {
  using own = namespace === undefined ? NetworkNamespace.current() : undefined;
  const entries = connectionsAtLinks((namespace ?? own)!);
  const scan = new EntryScan();
  for (const entry of entries) {
    const message = entryMessage(entry);
    scan.point(new Wire(message), 0, message.length);
    if (visitor(scan) === false) break;
  }
  return entries.length;
}

/** Which of these entries are such connections. */
export function isProgramFlow({ status }: ConntrackEntry): boolean {
  return (status & BY_PROGRAMS) !== 0;
}

/** Forgets exactly these, as Conntrack.deleteEntries does the kernel's. Returns how many. */
export function deleteProgramFlows(
  namespace: NetworkNamespace | undefined,
  entries: readonly ConntrackEntry[],
): number {
  if (entries.length === 0) return 0;
  using own = namespace === undefined ? NetworkNamespace.current() : undefined;
  return endConnectionsAtLinks((namespace ?? own)!, entries);
}
