/** Why a connection that a host outside began came to nothing. Pure. */
import { dropIn, dropVerdict, growthEvidence, ruleVerdict, type Case, type StopReason } from "./case.ts";
import { droppedByOthers } from "./shared-causes.ts";
import { at } from "./finding.ts";
import { baseOf, droppingRule } from "./rules.ts";

/** The stages follow the packet to the pod, and then its answer. */
export function stoppedInbound(of: Case): StopReason {
  const { back, out } = of.correlation;
  if (at(back, "pod", "in") === undefined) return lostOnTheWay(of);
  return at(out, "pod", "out") === undefined ? silentPod(of) : lostAnswer(of);
}

function lostOnTheWay(of: Case): StopReason {
  const rule = droppingRule(of.backRules.filter(({ event }) => event.where === "node"));
  if (rule !== undefined) return ruleVerdict(3, rule, `in ${baseOf(of.backRules, rule)?.hook ?? "a chain"}`);
  const known = droppedByOthers(of, 3);
  if (known !== undefined) return known;
  const veth = at(of.correlation.back, "veth", "out");
  return {
    step: veth === undefined ? 3 : 6,
    code: "stopped-elsewhere",
    reason:
      veth === undefined
        ? "a rule translated it to the pod, and it was neither seen leaving for the pod nor reported as dropped"
        : `it left ${veth.interface} and did not arrive in the pod`,
    evidence: growthEvidence(of),
  };
}

function silentPod(of: Case): StopReason {
  const rule = droppingRule(of.backRules.filter(({ event }) => event.where === "pod"));
  if (rule !== undefined) return ruleVerdict(7, rule, "in the pod itself");
  const drop = dropIn(of, of.evidence.survey.pod.inode);
  if (drop !== undefined) return dropVerdict(of, 7, drop, "in the pod");
  const { sourcePort, protocol } = of.evidence.flow;
  return {
    step: 7,
    code: "pod-silent",
    reason: "it was delivered to the pod, and the pod did not answer",
    todo: `in the pod: does a program listen on ${protocol} port ${sourcePort} (ss -ln)?`,
  };
}

function lostAnswer(of: Case): StopReason {
  const rule = droppingRule(of.outRules);
  if (rule !== undefined) {
    return ruleVerdict(8, rule, `the answer, in ${baseOf(of.outRules, rule)?.hook ?? "a chain"}`);
  }
  return (
    droppedByOthers(of, 9) ?? {
      step: 9,
      code: "stopped-elsewhere",
      reason: "the pod answered, and the answer was not seen leaving the node",
      evidence: growthEvidence(of),
    }
  );
}
