/**
 * Room `doctor/`: from a snapshot to the answer: all checks, causes that hide their symptoms, one sentence, one
 * checklist.
 *
 * In: a Snapshot, a pod of it, a destination; what a real packet showed (probe.ts).
 * Out: a Diagnosis: answer, checklist, findings with evidence, owner, consequence and fixes; what could not be judged.
 * Touches: nothing: it runs without privilege, on a file of another machine.
 */
import { messageOf } from "../error.ts";
import type { PodState, Snapshot } from "../snapshot/snapshot.ts";
import {
  causesOf,
  placeInOrder,
  catalogueEntry,
  ON_THE_WAY,
  READ_FOR,
  STEPS,
  type StepName,
} from "../causes/catalogue/all.ts";
import { anywhere, CheckContext, finding, type Check } from "./check.ts";
import { CHECKS } from "./checks/all.ts";
import { legsThatFail } from "./checks/legs.ts";
import { redirectionText } from "./checks/local-end.ts";
import type { Finding } from "./finding.ts";
import { tupleText } from "./predict/packet.ts";
import type { Prediction, Target } from "./predict/path.ts";
import { predictPath } from "./predict/predict.ts";
import { sentElsewhere, withRule, type SentElsewhere } from "./sent-elsewhere.ts";
import { judged } from "./remedy/judge.ts";
import { stepText } from "./step-text.ts";
import { stopText } from "./stop-text.ts";
import { onOthersWord } from "./whose-word.ts";
import { targetText, traceCommand } from "./wording.ts";
import { present } from "../present.ts";

/** `ok` ✓, `broken` ✗, `warned` !, `skipped` – (a step before it is broken, or it could not be looked at). */
export type StepStatus = "ok" | "broken" | "warned" | "skipped";

export interface ChecklistLine {
  readonly step: StepName;
  readonly title: string;
  readonly status: StepStatus;
  /** What was found, or why it was not looked at. */
  readonly text: string;
}

export interface Diagnosis {
  readonly pod: string;
  readonly target: Target;
  /** Nothing that was found stops the traffic. */
  readonly healthy: boolean;
  /** False: whether it works depends on something that cannot be read. */
  readonly certain: boolean;
  /** True: something that the packet meets could not be read, and nothing was found that stops it before. */
  readonly blind: boolean;
  /** The answer in one sentence. */
  readonly answer: string;
  readonly checklist: readonly ChecklistLine[];
  /** Causes, in the order in which the packet meets them; symptoms of other findings are left out. */
  readonly findings: readonly Finding[];
  /** What would be the reason if a real packet got no answer: right by the tables, and not by itself a fault. */
  readonly suspicions: readonly Finding[];
  /** `10.0.0.1:43210 → 198.51.100.80:443`, as sent and as it leaves. */
  readonly path: {
    readonly sent?: string;
    readonly left?: string;
    /** The rule that gave it another destination on the node. */
    readonly elsewhere?: SentElsewhere;
    readonly blindSpots: readonly string[];
  };
  /** What a check could not look at, and why. */
  readonly gaps: readonly string[];
}

/** Judges one pod's way to one target. Never throws on a strange snapshot: a check that fails says so in `gaps`. */
export function diagnose(snapshot: Snapshot, pod: PodState, target: Target): Diagnosis {
  const predicted = predictPath(snapshot, pod, target);
  const context = new CheckContext(snapshot, pod, target, predicted);
  const gaps: string[] = snapshot.missing
    .filter((one) => one.where === "node" || one.where === pod.name)
    .map((one) => `${one.what} of ${one.where}: ${one.why}`);
  const raised = withCausesOfLegs(context, raisedIn(context, gaps));
  const elsewhere = sentElsewhere(predicted.path);
  const causes = withoutSymptoms(raised).map((found) =>
    withRule(judged(context, found, raisedIn), elsewhere, predicted.path),
  );
  const findings = inOrder(withUnnamed(causes, predicted.path, pod.name));
  const stopping = findings.filter((one) => one.stopsTraffic);
  const unread = unreadSteps(snapshot, pod);
  const blind = [...unread.keys()].some((step) => ON_THE_WAY.has(step));
  const certain = predicted.certain && !blind && !mayBeTranslated(predicted.path);
  return {
    pod: pod.name,
    target,
    healthy: stopping.length === 0,
    certain,
    answer: answerOf(context, stopping, certain),
    blind: blind && stopping.length === 0,
    checklist: checklistOf(findings, context, unread),
    findings,
    suspicions: suspicionsIn(context, gaps),
    path: present({
      sent: predicted.path.sent === undefined ? undefined : tupleText(predicted.path.sent),
      left: predicted.path.left === undefined ? undefined : tupleText(predicted.path.left),
      elsewhere,
      blindSpots: predicted.path.blindSpots.map((spot) => spot.text),
    }),
    gaps,
  };
}

/** What all checks find. A check that fails says so in `gaps`. */
function raisedIn(context: CheckContext, gaps: string[] = []): Finding[] {
  return CHECKS.flatMap((check) => answersOf(context, check, check.run, gaps));
}

/** A leg fails for a reason of its own, with its own owner and cure: they are told in one. */
function withCausesOfLegs(context: CheckContext, raised: readonly Finding[]): readonly Finding[] {
  const { snapshot, pod, target, predicted } = context;
  const legs = legsThatFail(predicted).filter((one) => !one.passedOver);
  if (legs.length === 0) return raised;
  const causes = legs.map((leg) => {
    const alone = { ...predicted, path: leg.path, legs: [], branches: [], doubts: [], otherwise: [] };
    const own = new CheckContext(snapshot, pod, target, alone);
    const found = withoutSymptoms(raisedIn(own)).find((one) => one.stopsTraffic);
    return found === undefined ? undefined : judged(own, found, raisedIn);
  });
  let at = 0;
  return raised.flatMap((found) => {
    if (found.code === "leg-fails") return [withCauseOfLeg(found, causes[at++])];
    return causes.some((cause) => cause?.code === found.code && cause.text === found.text) ? [] : [found];
  });
}

function withCauseOfLeg(found: Finding, cause: Finding | undefined): Finding {
  if (cause === undefined) return found;
  const evidence = [...found.evidence, ...cause.evidence];
  if (found.fix.length > 0) return { ...found, evidence };
  const { owner, fix, advice = [] } = cause;
  return { ...found, evidence, owner, fix, advice: [...(found.advice ?? []), ...advice] };
}

function answersOf(
  context: CheckContext,
  { step }: Check,
  ask: NonNullable<Check["suspects"]>,
  gaps: string[],
): readonly Finding[] {
  try {
    return ask(context).map((found) => onOthersWord(context, found));
  } catch (error) {
    gaps.push(`the check of ${STEPS[step]}: ${messageOf(error)}`);
    return [];
  }
}

/** Only of what gets through by the tables: where something stops it, that is the reason. */
function suspicionsIn(context: CheckContext, gaps: string[]): Finding[] {
  if (context.path.stops.length > 0) return [];
  const facts = suspectedIn(context, gaps).map((found) => judged(context, found, suspectedIn));
  return [...withoutSymptoms(facts), ...otherwiseIn(context)];
}

function suspectedIn(context: CheckContext, gaps: string[] = []): Finding[] {
  return CHECKS.flatMap((check) =>
    check.suspects === undefined ? [] : answersOf(context, check, check.suspects, gaps),
  );
}

/** More other ends of one path are not judged: each costs as much as the first. */
const MOST_OTHER_ENDS = 3;

/** What stops the packet where a question is answered the other way: a limit that is used up. */
function otherwiseIn({ snapshot, pod, target, predicted }: CheckContext): Finding[] {
  return predicted.otherwise
    .filter(({ path, by }) => path.stops.length > 0 && by.share === undefined)
    .slice(0, MOST_OTHER_ENDS)
    .flatMap(({ path, by }) => {
      const other = { ...predicted, path, doubts: [by], otherwise: [] };
      const context = new CheckContext(snapshot, pod, target, other);
      return withoutSymptoms(raisedIn(context))
        .filter((one) => one.stopsTraffic)
        .map((found) => judged(context, found, raisedIn));
    });
}

/** A finding is hidden while one of its causes stands. */
export function withoutSymptoms(raised: readonly Finding[]): Finding[] {
  const codes = new Set<string>(raised.map((one) => one.code));
  return raised.filter((one) => {
    for (const cause of causesOf(one.code)) if (codes.has(cause)) return false;
    return true;
  });
}

/** No rule translates the source, but a program where packets leave could: "no rule" is then not "no masquerade". */
function mayBeTranslated(path: Prediction): boolean {
  return (
    path.stops.some((stop) => stop.kind === "untranslated") &&
    path.blindSpots.some((spot) => spot.couldTranslate)
  );
}

/** A packet that stops for a reason no check has a name for still gets an answer. */
function withUnnamed(findings: readonly Finding[], path: Prediction, pod: string): readonly Finding[] {
  const [stop] = path.stops;
  if (stop === undefined || findings.some((one) => one.stopsTraffic)) return findings;
  if (stop.kind === "filtered" && stop.stop.kind === "queue") return findings;
  if (stop.kind === "untranslated" && mayBeTranslated(path)) return findings;
  const last = path.steps.at(-1);
  const seen =
    last === undefined ? `in ${pod}` : `at ${last.at} ${last.place === "pod" ? `in ${pod}` : "on the node"}`;
  return [
    ...findings,
    finding("stopped-elsewhere", {
      text: `the packet was last seen ${seen}; then ${stopText(stop)}`,
      owner: "unknown",
      evidence: path.steps.map((step) => ({ source: `${step.place} ${step.at}`, value: step.text })),
      consequence: "it goes no further",
      fix: [anywhere(traceCommand(pod, path.target))],
      confidence: "likely",
    }),
  ];
}

function inOrder(findings: readonly Finding[]): Finding[] {
  const rank = (one: Finding): number => (one.stopsTraffic ? 0 : 1000) + placeInOrder(one.code);
  return findings.toSorted((a, b) => rank(a) - rank(b));
}

function answerOf(context: CheckContext, stopping: readonly Finding[], certain: boolean): string {
  const { path, target } = context;
  const pod = context.pod.name;
  const where = targetText(target);
  const [first] = stopping;
  if (first !== undefined) {
    const more = stopping.length === 1 ? "" : ` (and ${stopping.length - 1} more, below)`;
    return first.share === undefined
      ? `${pod} cannot reach ${where} because ${first.text}${more}`
      : `${pod} reaches ${where} with some connections and not with others: ${first.text}${more}`;
  }
  if (!certain) return `whether ${pod} reaches ${where} cannot be told from here`;
  const redirected = redirectionText(context);
  if (redirected !== undefined) {
    return `what ${pod} sends to ${where} is redirected: ${redirected}`;
  }
  const as = path.left === undefined || path.end !== "outside" ? "" : ` as ${path.left.source}`;
  switch (path.end) {
    case "outside":
      return `${pod} can reach ${where}: its packets leave by ${path.outLink?.name ?? "the node"}${as}, and answers find the way back`;
    case "node":
      return `${pod} can reach ${where}, which is on this node${ownLinkText(path)}`;
    case "pod":
      return `${pod} can reach ${where}, which is in the pod itself`;
    case "bridged":
      return `${pod} can reach ${where} over the bridge`;
    case "unknown":
      return `nothing on this node stops ${pod} from reaching ${where}; what comes behind cannot be seen from here`;
  }
}

function ownLinkText({ localEnd }: Prediction): string {
  return localEnd?.why.kind === "address" ? ` (an address of ${localEnd.why.link.name})` : "";
}

/** Steps of which something was not read, with why. */
function unreadSteps({ missing }: Snapshot, pod: PodState): Map<StepName, string> {
  const own = missing.filter(
    ({ where, absent }) => absent !== true && (where === "node" || where === pod.name),
  );
  const steps = new Map<StepName, string>();
  for (const step of Object.keys(READ_FOR) as StepName[]) {
    const one = own.find(({ what }) => READ_FOR[step].includes(what));
    if (one !== undefined) steps.set(step, `${one.what} of ${one.where} could not be read`);
  }
  return steps;
}

function checklistOf(
  findings: readonly Finding[],
  context: CheckContext,
  unread: ReadonlyMap<StepName, string>,
): ChecklistLine[] {
  const { path } = context;
  const names = Object.keys(STEPS) as StepName[];
  const ended = path.end === "unknown" && path.stops.length > 0;
  const lastStep = names.findLastIndex((step) =>
    findings.some((one) => one.stopsTraffic && catalogueEntry(one.code).step === step),
  );
  return names.map((step, index): ChecklistLine => {
    const own = findings.filter((one) => catalogueEntry(one.code).step === step);
    const worst = own.find((one) => one.stopsTraffic) ?? own[0];
    const title = STEPS[step];
    if (worst !== undefined) {
      return { step, title, status: worst.stopsTraffic ? "broken" : "warned", text: worst.text };
    }
    // Behind a place where the packet ends for good, what depends on the packet was not judged.
    const judged = !(ended && index > lastStep && OF_THE_PACKET.has(step));
    const why = unread.get(step);
    if (why !== undefined) return { step, title, status: "skipped", text: why };
    if (step === "nat" && mayBeTranslated(path)) {
      return { step, title, status: "warned", text: "no rule does it; something that cannot be read may" };
    }
    if (!judged) return { step, title, status: "skipped", text: "the packet does not get here" };
    const said = stepText(step, context);
    return { step, title, status: said.judged ? "ok" : "skipped", text: said.text };
  });
}

const OF_THE_PACKET: ReadonlySet<StepName> = new Set([
  "gateway",
  "bridge",
  "node-route",
  "reverse-path",
  "filter",
  "nat",
  "mtu",
]);
