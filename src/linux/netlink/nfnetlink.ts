/** What all netfilter families (nf_tables, ctnetlink) share: include/uapi/linux/netfilter/nfnetlink.h. */
import { attribute, AttributeSet } from "./attributes.ts";
import { be32, struct } from "./codec.ts";
import type { NetlinkConnection } from "../../kernel/netlink/connection.ts";
import { request, type MessageSpec, type AnyRequest } from "./message.ts";

/** struct nfgenmsg. `family` is NFPROTO_*, `resourceId` a subsystem or queue number. */
export const nfgenmsg = struct("nfgenmsg", { family: "u8", version: "u8", resourceId: "be16" });

export const NFNL_SUBSYS_CTNETLINK = 1;
export const NFNL_SUBSYS_NFTABLES = 10;

/** The message type of a netfilter message: subsystem in the upper byte. */
export function nfnlType(subsystem: number, message: number): number {
  return (subsystem << 8) | message;
}

export const batchAttributes = new AttributeSet(() => ({ genid: attribute("NFNL_BATCH_GENID", 1, be32) }));

const BATCH_BEGIN = {
  name: "NFNL_MSG_BATCH_BEGIN",
  type: 0x10,
  header: nfgenmsg,
  attributes: batchAttributes,
} as const satisfies MessageSpec;
const BATCH_END = {
  name: "NFNL_MSG_BATCH_END",
  type: 0x11,
  header: nfgenmsg,
  attributes: batchAttributes,
} as const satisfies MessageSpec;

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
  const begin = request(BATCH_BEGIN, doing, { resourceId: subsystem }, genid === undefined ? {} : { genid });
  const end = request(BATCH_END, doing, { resourceId: subsystem }, {});
  // The end marker is not acknowledged by older kernels; the last request is, by all.
  const errors = connection.exchangeBatch([begin, ...requests, end], requests.length);
  const first = [...errors.entries()].sort(([a], [b]) => a - b)[0];
  if (first !== undefined) throw first[1];
}
