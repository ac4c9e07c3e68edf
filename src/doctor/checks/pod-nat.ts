/** The pod's own rules give its packets another source, with which they do not get through. */
import { finding, ruleEvidence, type CheckContext } from "../check.ts";
import type { Finding } from "../finding.ts";
import type { PathStep } from "../predict/path.ts";
import { predictPath } from "../predict/predict.ts";
import { takenAway } from "../remedy/taken-away.ts";
import { withChanges } from "../remedy/change.ts";
import { stopText } from "../stop-text.ts";
import { decisionPlace, decisionText } from "../wording.ts";
import { ownerOfDecision, ruleOfOwner } from "../whose.ts";
import { pastTranslation } from "./filter-cure.ts";

/** The step at which the pod's own rules decided about the source. */
export function translatedInPod({ path }: CheckContext): (PathStep & { readonly by: object }) | undefined {
  return path.steps.find(
    (step): step is PathStep & { readonly by: object } =>
      step.place === "pod" &&
      step.at === "postrouting" &&
      step.direction === "out" &&
      step.by !== undefined &&
      step.tuple.source !== path.sent?.source,
  );
}

/** A side car's translation to its tunnel's address, which stayed when the tunnel went, or leaves by another link. */
export function foreignInPod(context: CheckContext): Finding[] {
  const { path, pod, inside } = context;
  const step = translatedInPod(context);
  const by = step?.by;
  if (step === undefined || by === undefined || inside === undefined) return [];
  const past = pastTranslation(context, by, "pod");
  const changed = past?.change === undefined ? undefined : withChanges(context.snapshot, pod, [past.change]);
  if (changed === undefined) return [];
  const { path: after } = predictPath(changed.snapshot, changed.pod, context.target);
  const [gone] = takenAway(path.stops, after.stops) ?? [];
  if (gone === undefined) return [];
  const { source } = step.tuple;
  const holder = inside.view.state.addresses.find((one) => one.address === source);
  const link = inside.view.linkAt(holder?.interface);
  const whose = link === undefined ? "which is no address of the pod" : `the address of ${link.name}`;
  return [
    finding("pod-nat-foreign-address", {
      text: `${ruleOfOwner(by)} in ${pod.name} gives what it sends the address ${source}, ${whose}, and with that it does not get through: ${stopText(gone)}`,
      owner: ownerOfDecision(by),
      evidence: [
        ...ruleEvidence(by),
        { source: `source of the packet as it leaves ${path.podLink?.name ?? pod.name}`, value: source },
        { source: `addresses of ${pod.name}`, value: path.sent?.source ?? "none" },
      ],
      consequence: "the node has no way back to that address, and translates only the pod's own",
      fix: [past],
      advice: [`or take “${decisionText(by)}” out of ${decisionPlace(by)} in ${pod.name}`],
    }),
  ];
}
