/** The answer reached the node and did not reach the pod. */
import {
  type Case,
  type StopReason,
  ruleVerdict,
  growthEvidence,
  isReplyMatched,
  dropEvidence,
  nodeDrops,
} from "./case.ts";
import { reversePathStop, droppedByOthers, routeBackElsewhere } from "./shared-causes.ts";
import { endLabel, type PlacedPacket } from "./correlate.ts";
import { baseOf, droppingRule } from "./rules.ts";

export function stoppedOnReturn(of: Case): StopReason {
  const { evidence, correlation } = of;
  const matched = isReplyMatched(of);
  const step = matched ? 9 : 8;
  const arrived = correlation.back.find((packet) => packet.place === "uplink" && packet.way === "in");
  const rule = droppingRule(of.backRules.filter(({ event }) => event.where === "node"));
  if (rule !== undefined)
    return ruleVerdict(step, rule, `the answer, in ${baseOf(of.backRules, rule)?.hook ?? "a chain"}`);
  const entry =
    arrived === undefined
      ? undefined
      : evidence.survey.node?.links.find((link) => link.index === arrived.interfaceIndex);
  const translated =
    correlation.outside !== undefined && correlation.outside.source.address !== evidence.flow.source;
  const dropped = droppedByOthers(of, step);
  // What nobody translates back is for the node itself, which has no socket for it.
  const stray =
    !matched && translated ? nodeDrops(of).find(({ reason }) => reason === "NO_SOCKET") : undefined;
  // The kernel's own reason tells less than the route that led there; what a rule dropped never came so far.
  const known =
    reversePathStop(of, step, entry, correlation.outside?.destination.address ?? evidence.flow.destination) ??
    (dropped?.rule === undefined ? undefined : dropped) ??
    (matched || !translated ? routeBackElsewhere(of) : undefined) ??
    (stray === undefined ? dropped : undefined);
  if (known !== undefined) return { ...known, step };
  const elsewhere = fromElsewhere(of, arrived);
  if (!matched && elsewhere !== undefined) return elsewhere;
  if (!matched && translated) {
    return {
      step: 8,
      code: "answer-unrecognized",
      reason: `the answer came to ${endLabel(correlation.outside.source, evidence.flow)} and it belongs to no tracked connection: the node keeps it as its own`,
      todo: "does a rule keep it out of tracking (notrack), or another conntrack zone: nft list ruleset; conntrack -L",
      evidence: [...(stray === undefined ? [] : [dropEvidence(stray)]), ...growthEvidence(of)],
    };
  }
  const veth = correlation.back.find((packet) => packet.place === "veth" && packet.way === "out");
  return {
    step: 9,
    code: "stopped-elsewhere",
    reason:
      veth === undefined
        ? "the answer reached the node and was not forwarded to the pod"
        : `the answer left ${veth.interface} and did not arrive in the pod`,
    evidence: growthEvidence(of),
  };
}

/** An answer from another address than was asked is no answer to conntrack, nor to a connected socket. */
function fromElsewhere(
  { correlation, evidence }: Case,
  arrived: PlacedPacket | undefined,
): StopReason | undefined {
  const asked = correlation.outside?.destination.address;
  const source = arrived?.packet.ip?.source;
  if (arrived === undefined || asked === undefined || source === undefined || source === asked)
    return undefined;
  return {
    step: 8,
    code: "answer-from-elsewhere",
    reason: `it is answered, but from ${source}: ${asked} was asked, and the answer belongs to no tracked connection`,
    owner: `the program at ${evidence.flow.destination}`,
    todo: `the program at ${evidence.flow.destination} must answer from the address that it was asked at (bind to it)`,
    evidence: [{ source: `capture on ${arrived.interface}`, lines: [arrived.summary] }],
  };
}
