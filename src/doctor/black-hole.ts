/** Small packets pass, large ones are lost: what the tables say about it, and what echoes of several sizes add. */
import type { PodState, Snapshot } from "../snapshot/snapshot.ts";
import { CheckContext, finding } from "./check.ts";
import { filterCure, type Filtered } from "./checks/filter-cure.ts";
import { smaller } from "./checks/smaller.ts";
import type { Diagnosis } from "./diagnose.ts";
import type { Evidence, Finding } from "./finding.ts";
import type { Target } from "./predict/path.ts";
import { predictPath } from "./predict/predict.ts";
import { stopOfTooLarge, type Speaker } from "./predict/too-large.ts";
import { ownerOfDecision } from "./whose.ts";
import { decisionPlace, decisionText, targetText } from "./wording.ts";

/** What came back of echoes that must not be cut, in bytes of the whole IP packet. */
export interface SizeProbe {
  /** Sizes that were answered. */
  readonly passed: readonly number[];
  /** Sizes that were not answered, twice, and about which nobody said anything. */
  readonly lost: readonly number[];
}

/** The pod's way out is narrower than its link, and what the node says about it does not reach the pod. */
export function deafToTheNode(context: CheckContext, own: number, pathMtu: number): Finding | undefined {
  const stop = dropped(context, "node");
  if (stop === undefined) return undefined;
  const { podLink, outLink } = context.path;
  return finding("mtu-black-hole", {
    text: `${context.pod.name} sends packets of up to ${own} bytes, ${outLink?.name} takes ${pathMtu}, and ${ruleName(stop)} drops the message that says so`,
    owner: ownerOfDecision(stop.stop.by),
    evidence: [
      { source: `mtu of ${podLink?.name} in ${context.pod.name}`, value: String(own) },
      { source: `mtu of the way out (${outLink?.name})`, value: String(pathMtu) },
      ruleEvidence(stop),
    ],
    consequence: "small requests work, large transfers hang",
    fix: filterCure(context, stop, "from anybody").fix,
    advice: [`or smaller packets from the start: mtu ${pathMtu} for the pods' network`],
  });
}

/** The largest packet that the pod may send there; undefined when it does not leave the node. */
export function largestSent(snapshot: Snapshot, pod: PodState, target: Target): number | undefined {
  const { path } = predictPath(snapshot, pod, target);
  return path.end === "outside" ? path.podLink?.mtu : undefined;
}

/** The diagnosis with what the echoes say in it: a black hole is a cause, whatever the tables promise. */
export function withSizes(
  snapshot: Snapshot,
  pod: PodState,
  diagnosis: Diagnosis,
  probe: SizeProbe,
): Diagnosis {
  const passes = Math.max(0, ...probe.passed);
  const lost = probe.lost.filter((size) => size > passes);
  if (passes === 0 || lost.length === 0 || !diagnosis.healthy) return diagnosis;
  const { target } = diagnosis;
  const context = new CheckContext(snapshot, pod, target, predictPath(snapshot, pod, target));
  const found = blackHole(context, passes, Math.min(...lost), probe);
  return {
    ...diagnosis,
    healthy: false,
    answer: `${diagnosis.pod} reaches ${targetText(target)} only with small packets: ${found.text}`,
    findings: [found, ...diagnosis.findings.filter((one) => one.code !== "mtu-too-large")],
    checklist: diagnosis.checklist.map((line) =>
      line.step === "mtu" ? { ...line, status: "broken", text: found.text } : line,
    ),
  };
}

function blackHole(context: CheckContext, passes: number, lost: number, probe: SizeProbe): Finding {
  const { target, pod } = context;
  const stop = dropped(context, "outside");
  const sizes: Evidence = {
    source: `echoes to ${target.address} that must not be cut`,
    value: `answered: ${probe.passed.join(", ")} bytes; lost without a word: ${probe.lost.join(", ")}`,
  };
  return finding("mtu-black-hole", {
    text:
      stop === undefined
        ? `packets of ${passes} bytes come through to ${target.address}, those of ${lost} are lost, and no message says so`
        : `packets of ${lost} bytes to ${target.address} are lost, and ${ruleName(stop)} would drop the message that says so`,
    owner: stop === undefined ? "the network outside" : ownerOfDecision(stop.stop.by),
    evidence: stop === undefined ? [sizes] : [sizes, ruleEvidence(stop)],
    consequence: "small requests work, large transfers hang",
    fix: [
      ...(stop === undefined ? [] : filterCure(context, stop, "from anybody").fix),
      ...smaller(context, passes),
    ],
    advice: [
      `for every pod of the node: mtu ${passes} in the network's configuration`,
      "let “fragmentation needed” (ICMP type 3 code 4, ICMPv6 type 2) through, there and on every router of the way",
    ],
    confidence: pod.state === undefined || stop === undefined ? "likely" : "certain",
  });
}

function dropped({ snapshot, pod, target }: CheckContext, speaker: Speaker): Filtered | undefined {
  const stop = stopOfTooLarge(snapshot, pod, target, speaker);
  return stop?.kind === "filtered" ? stop : undefined;
}

function ruleName({ stop }: Filtered): string {
  return `“${decisionText(stop.by)}” in ${stop.by.table.family} ${stop.by.table.name} ${stop.by.chain.name}`;
}

function ruleEvidence({ stop }: Filtered): Evidence {
  return { source: decisionPlace(stop.by), value: decisionText(stop.by) };
}
