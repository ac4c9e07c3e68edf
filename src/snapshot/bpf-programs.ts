/** Programs and filters attached to links: they see packets beside netfilter, and only their names can be told. */
import { programName, tcxPrograms } from "../kernel/bpf/programs.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { Link } from "../linux/route/link.ts";
import type { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { trafficFilters } from "../kernel/route/traffic-control.ts";
import type { ProgramState } from "./snapshot.ts";
import { present } from "../present.ts";

export function readPrograms(
  namespace: NetworkNamespace,
  route: Rtnetlink,
  links: readonly Link[],
): ProgramState[] {
  const names = new Map(links.map((link) => [link.index, link.name]));
  const nameOf = (link: number): string => names.get(link) ?? `link ${link}`;
  const express = links.flatMap((link) =>
    (link.xdp?.programIds ?? []).map((id) => ({ link: link.name, hook: "xdp", id })),
  );
  const chained = tcxPrograms(namespace, [...names.keys()]).map(({ link, side, id }) => ({
    link: nameOf(link),
    hook: `tcx ${side}`,
    id,
  }));
  const filters = trafficFilters(route).map(({ link, side, kind, name, id }) =>
    present({
      link: nameOf(link),
      hook: `tc ${side}`,
      kind: kind === "bpf" ? undefined : kind,
      name,
      id,
    }),
  );
  return [...express, ...chained, ...filters].map(named);
}

/** What the program was loaded as tells more than what a tc filter is called. */
function named(program: ProgramState): ProgramState {
  const name = program.id === undefined ? undefined : programName(program.id);
  return name === undefined ? program : { ...program, name };
}
