/** Rules that let this packet through now and would drop another one, or this one at another time. */
import type { FindingCode } from "../../causes/catalogue/all.ts";
import { finding, type CheckContext, ruleEvidence } from "../check.ts";
import type { Finding } from "../finding.ts";
import type { DoubtSubject } from "../predict/oracle.ts";
import type { Otherwise } from "../predict/predict.ts";
import { quotedDecision } from "../wording.ts";
import { ownerOfDecision } from "../whose.ts";
import { counterEvidence, type Filtered } from "./filter-cure.ts";

interface Condition {
  readonly code: FindingCode;
  /** On which condition it drops. */
  readonly when: string;
  readonly consequence: string;
  readonly advice: string;
}

const CONDITIONS: Readonly<Partial<Record<DoubtSubject, Condition>>> = {
  content: {
    code: "filter-by-content",
    when: "by what a packet carries, or by its size: the first packet of a connection says nothing about the later ones",
    consequence: "a connection may open, and hang or be reset as soon as it carries what the rule looks for",
    advice: "watch the rule's counter while the pod repeats what fails",
  },
  time: {
    code: "filter-by-time",
    when: "at certain times, and not now",
    consequence: "what works now will not work then",
    advice: "change the times in the rule, if they are not meant for the pods",
  },
};

export function onCondition(context: CheckContext): Finding[] {
  const { predicted, path } = context;
  if (path.stops.length > 0) return [];
  return predicted.otherwise.flatMap((one) => conditional(context, one));
}

function conditional({ pod }: CheckContext, { by: doubt, path }: Otherwise): Finding[] {
  const condition = doubt.of === undefined ? undefined : CONDITIONS[doubt.of];
  const stop = path.stops.find((one): one is Filtered => one.kind === "filtered");
  if (condition === undefined || stop === undefined) return [];
  const { by } = stop.stop;
  const what = stop.direction === "out" ? `what ${pod.name} sends` : `the answers to ${pod.name}`;
  return [
    finding(condition.code, {
      text: `${quotedDecision(by)} drops ${what} ${condition.when}`,
      owner: ownerOfDecision(by),
      evidence: [...ruleEvidence(by), { source: "depends on", value: doubt.about }, ...counterEvidence(by)],
      consequence: condition.consequence,
      advice: [condition.advice],
      confidence: "possible",
    }),
  ];
}
