/** Programs and filters attached to links: they see packets beside netfilter, and only their names can be told. */
import type { Link } from "../kernel/route/link.ts";
import type { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { trafficFilters } from "../kernel/route/traffic-control.ts";
import type { ProgramState } from "./snapshot.ts";

export function readPrograms(route: Rtnetlink, links: readonly Link[]): ProgramState[] {
  const names = new Map(links.map((link) => [link.index, link.name]));
  const express = links.flatMap((link) =>
    (link.xdp?.programIds ?? []).map((id) => ({ link: link.name, hook: "xdp", id })),
  );
  const filters = trafficFilters(route).map(({ link, side, kind, name, id }) => ({
    link: names.get(link) ?? `link ${link}`,
    hook: `tc ${side}`,
    ...(kind === "bpf" ? {} : { kind }),
    ...(name === undefined ? {} : { name }),
    ...(id === undefined ? {} : { id }),
  }));
  return [...express, ...filters];
}
