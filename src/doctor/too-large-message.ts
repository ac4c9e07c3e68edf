/** The message that a packet was too large, and who drops it. */
import { finding, type CheckContext, ruleEvidence } from "./check.ts";
import { filterCure, type Filtered } from "./checks/filter-cure.ts";
import type { Finding } from "./finding.ts";
import { stopOfTooLarge, type Speaker } from "./predict/too-large.ts";
import { smallerPackets } from "./smaller-packets.ts";
import { ownerOfDecision } from "./whose.ts";
import { quotedDecision } from "./wording.ts";

/** The pod's way out is narrower than its link, and what the node says about it does not reach the pod. */
export function deafToTheNode(context: CheckContext, own: number, pathMtu: number): Finding | undefined {
  const stop = stopOfItsMessage(context, "node");
  if (stop === undefined) return undefined;
  const { podLink, outLink } = context.path;
  return finding("mtu-black-hole", {
    text: `${context.pod.name} sends packets of up to ${own} bytes, ${outLink?.name} takes ${pathMtu}, and ${ruleName(stop)} drops the message that says so`,
    owner: ownerOfDecision(stop.stop.by),
    evidence: [
      { source: `mtu of ${podLink?.name} in ${context.pod.name}`, value: String(own) },
      { source: `mtu of the way out (${outLink?.name})`, value: String(pathMtu) },
      ...ruleEvidence(stop.stop.by),
    ],
    consequence: "small requests work, large transfers hang",
    fix: filterCure(context, stop, "from any sender").fix,
    advice: smallerPackets(context, pathMtu).advice,
  });
}

/** The rule that drops it. @param speaker who says it */
export function stopOfItsMessage(
  { snapshot, pod, target }: CheckContext,
  speaker: Speaker,
): Filtered | undefined {
  const stop = stopOfTooLarge(snapshot, pod, target, speaker);
  return stop?.kind === "filtered" ? stop : undefined;
}

export function ruleName({ stop }: Filtered): string {
  return quotedDecision(stop.by);
}
