/** Programs attached to links: they see packets beside netfilter, and only their names can be told. */
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { Link } from "../kernel/route/link.ts";
import type { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import type { ProgramState } from "./snapshot.ts";

export function readPrograms(
  _namespace: NetworkNamespace,
  _route: Rtnetlink,
  links: readonly Link[],
): ProgramState[] {
  return links.flatMap((link) =>
    (link.xdp?.programIds ?? []).map((id) => ({ link: link.name, hook: "xdp", id })),
  );
}
