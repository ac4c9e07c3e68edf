/** Connections that a backend of ours tracks by itself: they stand in no table of the kernel. */
import { EntryScan } from "../linux/conntrack/scan.ts";
import { entryMessage } from "../linux/conntrack/entry-message.ts";
import { Wire } from "../linux/netlink/wire.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import { BACKENDS } from "../nat/backends/backends.ts";

/**
 * Visits them as Conntrack.scan does the kernel's: the same EntryScan each time. Returns how many there are.
 * @param namespace the calling thread's when undefined
 */
export async function scanBesideKernel(
  namespace: NetworkNamespace | undefined,
  visitor: (scan: EntryScan) => void,
): Promise<number> {
  using own = namespace === undefined ? NetworkNamespace.current() : undefined;
  const scan = new EntryScan();
  let count = 0;
  for (const { tracked } of Object.values(BACKENDS)) {
    if (tracked === undefined) continue;
    for (const entry of (await tracked())((namespace ?? own)!)) {
      const message = entryMessage(entry);
      scan.point(new Wire(message), 0, message.length);
      visitor(scan);
      count++;
    }
  }
  return count;
}
