/** Filters and programs that traffic control has on links: they see packets before and behind netfilter. */
import { attribute, AttributeSet, tagged } from "../netlink/attributes.ts";
import { string, struct, u32 } from "../netlink/codec.ts";
import { request, type MessageSpec } from "../netlink/message.ts";
import type { Rtnetlink } from "../../kernel/route/rtnetlink.ts";

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

const RTM_NEWQDISC = {
  name: "RTM_NEWQDISC",
  type: 36,
  header: tcmsg,
  attributes: qdiscAttributes,
} as const satisfies MessageSpec;
const RTM_GETQDISC = { ...RTM_NEWQDISC, name: "RTM_GETQDISC", type: 38 } as const satisfies MessageSpec;
const RTM_NEWTFILTER = {
  name: "RTM_NEWTFILTER",
  type: 44,
  header: tcmsg,
  attributes: filterAttributes,
} as const satisfies MessageSpec;
const RTM_GETTFILTER = { ...RTM_NEWTFILTER, name: "RTM_GETTFILTER", type: 46 } as const satisfies MessageSpec;

/** TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) and TC_H_MIN_EGRESS (include/uapi/linux/pkt_sched.h). */
const PARENTS = { ingress: 0xffff_fff2, egress: 0xffff_fff3 } as const;

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

/** The filters of all links that have a clsact or ingress queueing discipline: one dump tells which those are. */
export function trafficFilters(route: Rtnetlink): TrafficFilter[] {
  const ask = request(RTM_GETQDISC, "reading the queueing disciplines", {}, {});
  const links = new Map<number, string>();
  for (const { header, attributes } of route.connection.dump(ask, RTM_NEWQDISC)) {
    if (attributes.kind === "clsact" || attributes.kind === "ingress")
      links.set(header.index, attributes.kind);
  }
  // An ingress qdisc has one side, and answers with its filters whichever side it is asked for.
  return [...links].flatMap(([index, kind]) => [
    ...filtersAt(route, index, "ingress"),
    ...(kind === "clsact" ? filtersAt(route, index, "egress") : []),
  ]);
}

function filtersAt(route: Rtnetlink, link: number, side: TrafficFilter["side"]): TrafficFilter[] {
  const ask = request(
    RTM_GETTFILTER,
    "reading the filters of a link",
    { index: link, parent: PARENTS[side] },
    {},
  );
  const found = new Map<string, TrafficFilter>();
  for (const { header, attributes } of route.connection.dump(ask, RTM_NEWTFILTER)) {
    const { filter } = attributes;
    // A filter without a handle stands for its whole priority, and is told again with one.
    if (filter === undefined || header.handle === 0) continue;
    const data = filter.kind === "bpf" ? filter.data : {};
    const kind = filter.kind === "other" ? filter.name : filter.kind;
    found.set(`${header.info}/${header.handle}`, {
      link,
      side,
      kind,
      ...(data.name === undefined ? {} : { name: data.name }),
      ...(data.id === undefined ? {} : { id: data.id }),
    });
  }
  return [...found.values()];
}
