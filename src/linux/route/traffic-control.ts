/** Filters and programs that traffic control has on links: they see packets before and behind netfilter. */
import { attribute, AttributeSet, tagged } from "../netlink/attributes.ts";
import { string, struct, u32 } from "../netlink/codec.ts";
import type { MessageSpec } from "../netlink/message.ts";

/** include/uapi/linux/rtnetlink.h */
export const tcmsg = struct("tcmsg", {
  family: "u8",
  pad1: "u8",
  pad2: "u16",
  index: "i32",
  handle: "u32",
  parent: "u32",
  info: "u32",
});

/** include/uapi/linux/pkt_cls.h */
export const bpfFilterAttributes = new AttributeSet(() => ({
  name: attribute("TCA_BPF_NAME", 7, string),
  id: attribute("TCA_BPF_ID", 11, u32),
}));

const filterAttributes = new AttributeSet(() => ({
  filter: tagged("TCA_KIND", 1, "TCA_OPTIONS", 2, { bpf: bpfFilterAttributes }),
}));
const qdiscAttributes = new AttributeSet(() => ({ kind: attribute("TCA_KIND", 1, string) }));

export const RTM_NEWQDISC = {
  name: "RTM_NEWQDISC",
  type: 36,
  header: tcmsg,
  attributes: qdiscAttributes,
} as const satisfies MessageSpec;
export const RTM_GETQDISC = {
  ...RTM_NEWQDISC,
  name: "RTM_GETQDISC",
  type: 38,
} as const satisfies MessageSpec;
export const RTM_NEWTFILTER = {
  name: "RTM_NEWTFILTER",
  type: 44,
  header: tcmsg,
  attributes: filterAttributes,
} as const satisfies MessageSpec;
export const RTM_GETTFILTER = {
  ...RTM_NEWTFILTER,
  name: "RTM_GETTFILTER",
  type: 46,
} as const satisfies MessageSpec;

/** TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) and TC_H_MIN_EGRESS (include/uapi/linux/pkt_sched.h). */
export const FILTER_PARENTS = { ingress: 0xffff_fff2, egress: 0xffff_fff3 } as const;

/** One filter on a link. */
export interface TrafficFilter {
  /** Index of the link. */
  readonly link: number;
  readonly side: "ingress" | "egress";
  /** `bpf`, `flower`, `matchall`, `u32`, … */
  readonly kind: string;
  /** Of a BPF filter: the program's name as its loader gave it, and its number. */
  readonly name?: string;
  readonly id?: number;
}
