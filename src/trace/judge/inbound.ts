/** A connection that a host outside began: a packet's way to the pod, and its answer's way back, in nine steps. Pure. */
import { flowTranslationText as entryText } from "../../flows/flow.ts";
import { summaryOf } from "../../linux/packet/packet.ts";
import { flowState } from "../../flows/flow.ts";
import type { Case } from "./case.ts";
import {
  endLabel,
  endsOf,
  eventsOfPackets,
  firstPacketEvents,
  firsts,
  placePacket,
  type Correlation,
} from "./correlate.ts";
import type { TraceEvidence } from "../evidence.ts";
import { at, captures, seen, seenLeaving, startOf, stepReports, timeOf, type JudgedStep } from "./finding.ts";
import { headingOf } from "./progress.ts";
import type { RuleReport, StepEvidence, StepNumber, StepReport, TraceStop } from "../report.ts";
import { chainLines, targetEnd, translatingRule } from "./rules.ts";
import { historyOf, settingsEvidence } from "./steps.ts";
import { translationEvidence } from "./translation.ts";
import { present } from "../../present.ts";

/** `back` goes to the pod and comes first; `out` is what the pod answers. `outside` has the end that was asked. */
export function correlateInbound(evidence: TraceEvidence): Correlation {
  const { flow } = evidence;
  const placed = evidence.packets.map((packet) => placePacket(packet, evidence));
  const back = firsts(placed.filter(({ packet }) => headingOf(packet, flow) === "back"));
  const beganUs = Math.min(...back.map(({ timeUs }) => timeUs));
  const out = firsts(
    placed.filter(({ packet, timeUs }) => timeUs >= beganUs && headingOf(packet, flow) === "out"),
  );
  const events = eventsOfPackets(evidence);
  const arrived = at(back, "uplink", "in");
  const asked = arrived === undefined ? askedOfEntry(evidence) : endsOf(arrived.packet)?.destination;
  return present({
    out,
    back,
    errors: [],
    neighbours: placed.filter(({ packet }) => packet.arp !== undefined || packet.icmp?.target !== undefined),
    outEvents: firstPacketEvents(events, (packet) => headingOf(packet, flow) === "out"),
    backEvents: firstPacketEvents(events, (packet) => headingOf(packet, flow) === "back"),
    outside:
      asked === undefined
        ? undefined
        : {
            source: asked,
            destination: { address: flow.destination, ...portOf(flow.destinationPort) },
          },
  });
}

function askedOfEntry({ entry, flowEvents }: TraceEvidence) {
  const original = (entry ?? flowEvents[0]?.entry)?.original;
  return original === undefined
    ? undefined
    : { address: original.destination, ...portOf(original.destinationPort) };
}

function portOf(port: number | undefined): { port?: number } {
  return present({ port });
}

const TITLES: Readonly<Record<StepNumber, string>> = {
  1: "a host outside sends",
  2: "the destination is translated",
  3: "the node decides to forward",
  4: "conntrack remembers",
  5: "through the veth to the pod",
  6: "delivered to the pod",
  7: "the pod answers",
  8: "conntrack matches it and translates back",
  9: "the answer leaves by the uplink",
};

export function inboundSteps(of: Case, stop: TraceStop | undefined): StepReport[] {
  const findings: Readonly<Record<StepNumber, JudgedStep>> = {
    1: arrived(of),
    2: translated(of),
    3: forwarded(of),
    4: tracked(of),
    5: crossedVeth(of),
    6: delivered(of),
    7: answered(of),
    8: translatedBack(of),
    9: left(of),
  };
  return stepReports(TITLES, findings, stop, startOf(of.correlation));
}

/** What the outside asked and what it stands for; undefined when the pod itself was asked. */
export function publishedEnd(
  of: Case,
): { before: string; after: string; rule?: RuleReport; evidence: readonly StepEvidence[] } | undefined {
  const { evidence, correlation, backRules } = of;
  const { flow } = evidence;
  if (correlation.outside === undefined) return undefined;
  const before = endLabel(correlation.outside.source, flow);
  const after = endLabel({ address: flow.source, port: flow.sourcePort }, flow);
  if (before === after) return undefined;
  const rule = translatingRule(backRules, evidence.rulesets, "destination")?.report;
  const legacy = evidence.legacyGrowth.find(({ verdict }) => targetEnd(verdict) === "destination");
  return present({
    before,
    after,
    rule,
    evidence: translationEvidence(rule, legacy),
  });
}

function arrived({ correlation }: Case): JudgedStep {
  const packet = at(correlation.back, "uplink", "in");
  return seen(packet, `, at ${packet?.interface}`, "it was not seen coming in");
}

function translated(of: Case): JudgedStep {
  const change = publishedEnd(of);
  if (change === undefined) {
    return { proven: true, notNeeded: true, text: "the pod's own address was asked", evidence: [] };
  }
  const before =
    change.evidence.length > 0 ? "" : "; the rule decided when the connection began, before this trace";
  return { proven: true, text: `${change.before} → ${change.after}${before}`, evidence: change.evidence };
}

function forwarded(of: Case): JudgedStep {
  const { node } = of.evidence.survey;
  if (node === undefined) return { proven: false, text: "the node is not visible from here", evidence: [] };
  const onNode = of.backRules.filter(({ event }) => event.where === "node");
  const chains = chainLines(onNode);
  const inside = at(of.correlation.back, "bridge", "out") ?? at(of.correlation.back, "veth", "out");
  return {
    proven: inside !== undefined,
    text:
      inside === undefined
        ? "it was not seen leaving for the pod"
        : `forwarding is on; → ${node.entry?.name ?? inside.interface}`,
    evidence: [
      settingsEvidence(node),
      ...(chains.length === 0 ? [] : [{ source: "nf_tables trace", lines: chains }]),
    ],
  };
}

function tracked({ evidence }: Case): JudgedStep {
  const entry = evidence.flowEvents[0]?.entry ?? evidence.entry;
  if (entry === undefined) {
    return { proven: false, notNeeded: true, text: "not tracked: nothing is translated", evidence: [] };
  }
  return { proven: true, text: entryText(entry), evidence: [historyOf(evidence, entry)] };
}

function crossedVeth({ evidence, correlation }: Case): JudgedStep {
  const { hostLink, bridge } = evidence.survey.node ?? {};
  const onBridge = at(correlation.back, "bridge", "out");
  const veth = at(correlation.back, "veth", "out");
  const names = [bridge, hostLink].flatMap((link) => (link === undefined ? [] : [link.name]));
  return {
    proven: veth !== undefined,
    text:
      names.length === 0
        ? "the other end of the pod's veth was not found"
        : `seen on ${names.join(" and on ")}`,
    evidence: captures([onBridge, veth]),
    ...timeOf(onBridge ?? veth),
  };
}

function delivered({ correlation }: Case): JudgedStep {
  return seen(at(correlation.back, "pod", "in"), "", "it was not seen in the pod");
}

function answered({ correlation }: Case): JudgedStep {
  const packet = at(correlation.out, "pod", "out");
  const veth = at(correlation.out, "veth", "in");
  return {
    proven: packet !== undefined,
    text:
      packet === undefined ? "the pod said nothing" : `${summaryOf(packet.packet)}, by ${packet.interface}`,
    evidence: captures([packet, veth, at(correlation.out, "bridge", "in")]),
    ...timeOf(packet),
  };
}

function translatedBack(of: Case): JudgedStep {
  const change = publishedEnd(of);
  if (change === undefined) {
    return {
      proven: true,
      notNeeded: true,
      text: "nothing was translated, nothing is translated back",
      evidence: [],
    };
  }
  const { entry, flowEvents } = of.evidence;
  const last = entry ?? flowEvents.at(-1)?.entry;
  const leaving = at(of.correlation.out, "uplink", "out");
  const chains = chainLines(of.outRules.filter(({ event }) => event.where === "node"));
  const source = leaving === undefined ? undefined : endsOf(leaving.packet)?.source;
  const seenAs = source === undefined ? undefined : endLabel(source, of.evidence.flow);
  return {
    proven: seenAs === change.before,
    text:
      seenAs === undefined || seenAs === change.before
        ? `source ${change.after} → ${change.before}`
        : `it left as ${seenAs}, not as ${change.before}`,
    evidence: [
      ...(last === undefined
        ? []
        : [{ source: "conntrack", lines: [`state ${flowState(last)}, ${last.flags.join(", ")}`] }]),
      ...(chains.length === 0 ? [] : [{ source: "nf_tables trace", lines: chains }]),
    ],
  };
}

function left({ correlation }: Case): JudgedStep {
  return seenLeaving(at(correlation.out, "uplink", "out"));
}
