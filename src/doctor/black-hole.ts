/** Small packets pass, large ones are lost: what the tables say about it, and what pings of several sizes add. */
import type { PodState, Snapshot } from "../snapshot/snapshot.ts";
import { CheckContext, finding, ruleEvidence } from "./check.ts";
import { filterCure } from "./checks/filter-cure.ts";
import type { Diagnosis } from "./diagnose.ts";
import type { Evidence, Finding } from "./finding.ts";
import type { Target } from "./predict/path.ts";
import { predictPath } from "./predict/predict.ts";
import { smallerPackets } from "./smaller-packets.ts";
import { ownerOfDecision } from "./whose.ts";
import { ruleName, stopOfItsMessage } from "./too-large-message.ts";
import { targetText } from "./wording.ts";

/** What came back of pings with DF set, in bytes of the whole IP packet. */
export interface SizeProbe {
  /** Sizes that were answered. */
  readonly passed: readonly number[];
  /** Sizes that were not answered, twice, and about which nobody said anything. */
  readonly lost: readonly number[];
  /** Of the lost ones: seen leaving by the uplink, and those whose answer was seen coming back to it. */
  readonly left: readonly number[];
  readonly returned: readonly number[];
  /** The pod when absent: its own were not answered. */
  readonly from?: "the node";
}

/** The largest packet that the pod may send there, and where it leaves the node; undefined when it does not leave. */
export function wayOut(
  snapshot: Snapshot,
  pod: PodState,
  target: Target,
): { readonly mtu: number; readonly uplink: string } | undefined {
  const { end, podLink, outLink } = predictPath(snapshot, pod, target).path;
  if (end !== "outside" || podLink?.mtu === undefined || outLink === undefined) return undefined;
  return { mtu: podLink.mtu, uplink: outLink.name };
}

/** The diagnosis with what the pings say in it: a black hole is a cause, whatever the tables promise. */
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

/**
 * What the node's own pings say where the pod's are dropped: routers tell the node that a size is too large, and whether
 * they can tell the pod is a question for the tables.
 */
export function withNodeSizes(
  snapshot: Snapshot,
  pod: PodState,
  diagnosis: Diagnosis,
  {
    passed,
    told,
    lost,
  }: {
    readonly passed: readonly number[];
    readonly told: readonly number[];
    readonly lost: readonly number[];
  },
): Diagnosis {
  const passes = Math.max(0, ...passed);
  const tooLarge = told.filter((size) => size > passes);
  if (passes === 0 || tooLarge.length === 0) return diagnosis;
  const { target } = diagnosis;
  const context = new CheckContext(snapshot, pod, target, predictPath(snapshot, pod, target));
  if (stopOfItsMessage(context, "outside") === undefined) return diagnosis;
  return withSizes(snapshot, pod, diagnosis, {
    passed,
    lost: [...tooLarge, ...lost],
    left: tooLarge,
    returned: [],
    from: "the node",
  });
}

function blackHole(context: CheckContext, passes: number, lost: number, probe: SizeProbe): Finding {
  const { target } = context;
  const place = placeOfLoss(context, probe);
  const stop = place.isOutside ? stopOfItsMessage(context, "outside") : undefined;
  const smaller = smallerPackets(context, passes);
  return finding("mtu-black-hole", {
    text:
      stop === undefined
        ? `packets of ${passes} bytes come through to ${target.address}, those of ${lost} are lost ${place.text}, and no message says so`
        : `packets of ${lost} bytes to ${target.address} are lost, and ${ruleName(stop)} would drop the message that says so`,
    owner: stop === undefined ? place.owner : ownerOfDecision(stop.stop.by),
    evidence: [
      {
        source: `pings with DF set to ${target.address}${probe.from === undefined ? "" : `, from ${probe.from}`}`,
        value: `answered: ${probe.passed.join(", ")} bytes; ${probe.from === undefined ? "lost, and no message came back" : "too large"}: ${probe.lost.join(", ")}`,
      },
      ...(probe.from === undefined ? seenAtUplink(context, probe) : []),
      ...ruleEvidence(stop?.stop.by),
    ],
    consequence: "small requests work, large transfers hang",
    fix: [...(stop === undefined ? [] : filterCure(context, stop, "from any sender").fix), ...smaller.fix],
    advice: [
      ...smaller.advice,
      "accept “fragmentation needed” (ICMP type 3 code 4, ICMPv6 type 2) there and on every router of the path",
    ],
    confidence: stop === undefined ? "likely" : "certain",
  });
}

/** Which way they die, as far as the captures at the uplink tell. */
function placeOfLoss(
  { path }: CheckContext,
  { lost, left, returned }: SizeProbe,
): { readonly text: string; readonly owner: string; readonly isOutside: boolean } {
  const uplink = path.outLink?.name ?? "the uplink";
  if (returned.length > 0)
    return { text: `on the node behind ${uplink}, on the answer's way`, owner: "the node", isOutside: false };
  if (left.length === 0) return { text: `on the node before ${uplink}`, owner: "the node", isOutside: false };
  const all = left.length === lost.length ? "" : "mostly ";
  return { text: `${all}behind ${uplink}`, owner: "the network outside", isOutside: true };
}

function seenAtUplink({ path }: CheckContext, { left, returned }: SizeProbe): Evidence[] {
  const list = (sizes: readonly number[]): string => (sizes.length === 0 ? "none" : sizes.join(", "));
  return [
    {
      source: `capture on ${path.outLink?.name ?? "the uplink"}`,
      value: `of the lost ones left: ${list(left)}; their answers came back: ${list(returned)}`,
    },
  ];
}
