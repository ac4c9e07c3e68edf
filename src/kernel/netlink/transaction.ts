/** Requests of netfilter that the kernel carries out together. */
import type { AnyRequest } from "../../linux/netlink/message.ts";
import { batchOf } from "../../linux/netlink/nfnetlink.ts";
import type { NetlinkConnection } from "./connection.ts";

/**
 * Carries out requests as one transaction: all of them or none. With `genid` the kernel refuses (ERESTART) when the
 * ruleset's generation is another by now.
 * @throws NetlinkError of the first request that failed
 */
export function transaction(
  connection: NetlinkConnection,
  subsystem: number,
  requests: readonly AnyRequest[],
  doing: string,
  genid?: number,
): void {
  if (requests.length === 0) return;
  // The end marker is not acknowledged by older kernels; the last request is, by all.
  const errors = connection.exchangeBatch(batchOf(subsystem, requests, doing, genid), requests.length);
  const first = [...errors.entries()].sort(([a], [b]) => a - b)[0];
  if (first !== undefined) throw first[1];
}
