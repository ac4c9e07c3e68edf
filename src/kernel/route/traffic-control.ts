/** Reads the filters of traffic control in a namespace. */
import { request } from "../../linux/netlink/message.ts";
import {
  FILTER_PARENTS,
  RTM_GETQDISC,
  RTM_GETTFILTER,
  RTM_NEWQDISC,
  RTM_NEWTFILTER,
  type TrafficFilter,
} from "../../linux/route/traffic-control.ts";
import type { Rtnetlink } from "./rtnetlink.ts";
import { present } from "../../present.ts";

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
    { index: link, parent: FILTER_PARENTS[side] },
    {},
  );
  const found = new Map<string, TrafficFilter>();
  for (const { header, attributes } of route.connection.dump(ask, RTM_NEWTFILTER)) {
    const { filter } = attributes;
    // A filter without a handle stands for its whole priority, and is told again with one.
    if (filter === undefined || header.handle === 0) continue;
    const data = filter.kind === "bpf" ? filter.data : {};
    const kind = filter.kind === "other" ? filter.name : filter.kind;
    found.set(
      `${header.info}/${header.handle}`,
      present({
        link,
        side,
        kind,
        name: data.name,
        id: data.id,
      }),
    );
  }
  return [...found.values()];
}
