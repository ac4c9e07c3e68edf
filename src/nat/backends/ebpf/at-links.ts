/** The programs as those see them who look at a whole node: what they want, where they are, what they count. */
import { programName, tcxPrograms } from "../../../kernel/bpf/programs.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import type { FastPathState, LinkTranslation } from "../link-translation.ts";
import { linksOf } from "./attachments.ts";
import { holdsPrograms } from "./bpf-directory.ts";
import { EbpfNat } from "./ebpf.ts";
import { lookAtFastPath } from "./fast-path-look.ts";
import { Lease } from "./lease.ts";
import type { NatIntent } from "../../intent.ts";
import { present } from "../../../present.ts";
import { GUARD, programNameAt } from "./names.ts";
import { ebpfCounts, ebpfRoom } from "./flows.ts";

/** undefined where there are no programs of ours. @throws SystemError EPERM */
export function ebpfAtLinks(namespace: NetworkNamespace): LinkTranslation | undefined {
  if (!holdsPrograms(namespace)) return undefined;
  using nat = new EbpfNat({ namespace });
  const links = linksOf(namespace);
  const names = new Map(links.map(({ index, name }) => [index, name]));
  const attached = tcxPrograms(namespace, [...names.keys()]);
  const linksWith = (side: "ingress" | "egress"): string[] =>
    attached
      .filter((one) => one.side === side && programName(one.id) === programNameAt(side))
      .map(({ link }) => names.get(link)!);
  const ingress = linksWith("ingress");
  // Where rules are asked about frames, the programs are at all ports of a bridge instead of the bridge itself.
  const byPorts = links.filter(({ index, kind }) => {
    const ports = kind === "bridge" ? links.filter(({ master }) => master === index) : [];
    return ports.length > 0 && ports.every(({ name }) => ingress.includes(name));
  });
  const intents = nat.intents();
  return present({
    backend: "ebpf",
    intents,
    egress: linksWith("egress"),
    ingress: [...ingress, ...byPorts.map(({ name }) => name)],
    guard: { family: GUARD.family, table: GUARD.table },
    room: ebpfRoom(namespace) ?? 0,
    counts: Object.fromEntries(
      [...(ebpfCounts(namespace) ?? [])].map(([what, count]) => [what, Number(count)]),
    ),
    fastPath: fastPathIn(namespace, intents),
  });
}

function fastPathIn(namespace: NetworkNamespace, intents: readonly NatIntent[]): FastPathState | undefined {
  using lease = Lease.of(namespace);
  switch (lease?.state) {
    case undefined:
    case "absent":
      return undefined;
    case "valid":
      return { open: true, obstacles: [] };
    case "held-off":
      return { open: false, obstacles: ["a trace wants to see packets on the long way"] };
    case "kept":
      return { open: false, obstacles: lookAtFastPath(namespace, intents).obstacles };
  }
}

/**
 * Until it is disposed of, or for so long, all packets take the long way, where they can be seen. undefined where there are no
 * programs of ours.
 */
export function holdFastPathOff(namespace: NetworkNamespace, ms: number): Disposable | undefined {
  const lease = Lease.of(namespace);
  if (lease === undefined) return undefined;
  const until = lease.holdOff(ms);
  return {
    [Symbol.dispose]() {
      lease.endHoldOff(until);
      lease[Symbol.dispose]();
    },
  };
}
