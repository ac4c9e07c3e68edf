/** Every rule of the node that could translate the pod's source, and how near it comes. */
import type { CheckContext } from "../check.ts";
import { Machine, type GivenMark } from "../predict/machine.ts";
import { sourceNatCandidates, type Candidate } from "../predict/near-miss.ts";
import { Oracle } from "../predict/oracle.ts";
import { firstPacket } from "../predict/packet.ts";

/** Rules that translate, judged with the packet as it stands at postrouting. */
export function nearest(context: CheckContext): Candidate[] {
  const mark = context.path.marks?.at(-1)?.mark ?? 0;
  return candidatesFor(context, mark).filter((one) => !isForMarked(one));
}

/** A rule translates by a mark that the packet had, and that another rule has overwritten since. */
export interface LostMark {
  readonly candidate: Candidate;
  readonly given: GivenMark;
  readonly overwritten: GivenMark;
}

export function lostMark(context: CheckContext): LostMark | undefined {
  const { marks = [] } = context.path;
  const translating = marks.map(({ mark }) => candidatesFor(context, mark).find(isTranslating));
  const last = translating.findLastIndex((one) => one !== undefined);
  const candidate = translating[last];
  const overwritten = marks[last + 1];
  if (candidate === undefined || overwritten === undefined) return undefined;
  const first = translating.findIndex((one) => one?.rule === candidate.rule);
  return { candidate, given: marks[first]!, overwritten };
}

function isTranslating({ misses, before, unreachable }: Candidate): boolean {
  return misses.length === 0 && before === undefined && unreachable === undefined;
}

function candidatesFor(context: CheckContext, mark: number): Candidate[] {
  const { sent, left, outLink, inLink } = context.path;
  if (sent === undefined || left === undefined) return [];
  const packet = {
    ...firstPacket(context.family, {
      ...sent,
      destination: left.destination,
      destinationPort: left.destinationPort,
    }),
    iif: inLink?.name,
    oif: outLink?.name,
    mark,
  };
  const machine = new Machine(context.node.view, new Oracle(), packet, undefined, "postrouting");
  return sourceNatCandidates(machine, context.node.hooks.tables);
}

/**
 * Whether it translates only what another rule marked for it (kube-proxy's 0x4000, portmap's 0x2000): for services and
 * published ports. Ordinary traffic is not meant, however near it comes.
 */
function isForMarked({ misses, before }: Candidate): boolean {
  return misses.some((miss) => asksForMark(miss.rule)) || (before !== undefined && asksForMark(before.rule));
}

function asksForMark({ expressions }: Candidate["rule"]): boolean {
  return expressions.some(
    (one) =>
      ((one.kind === "meta" || one.kind === "ct") && one.key === "mark" && one.dreg !== undefined) ||
      (one.kind === "match" && (one.name === "mark" || one.name === "connmark")),
  );
}
