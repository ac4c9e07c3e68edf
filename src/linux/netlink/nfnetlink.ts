/** What all netfilter families (nf_tables, ctnetlink) share: include/uapi/linux/netfilter/nfnetlink.h. */
import { attribute, AttributeSet } from "./attributes.ts";
import { be32, struct } from "./codec.ts";
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

/** The messages that make requests one transaction: between a begin and an end marker. */
export function batchOf(
  subsystem: number,
  requests: readonly AnyRequest[],
  doing: string,
  genid?: number,
): readonly AnyRequest[] {
  const begin = request(BATCH_BEGIN, doing, { resourceId: subsystem }, genid === undefined ? {} : { genid });
  return [begin, ...requests, request(BATCH_END, doing, { resourceId: subsystem }, {})];
}
