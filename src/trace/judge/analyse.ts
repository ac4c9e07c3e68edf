/** From the evidence to the report. Pure. */
import { summaryOf } from "../../linux/packet/packet.ts";
import { correlate, type Correlation } from "./correlate.ts";
import { isLocal, realDestination, staysInPod, wasSwitched, type Case } from "./case.ts";
import { diagnoseStop } from "./diagnose.ts";
import type { TraceEvidence } from "../evidence.ts";
import type { Station, Sighting, TraceReport } from "../report.ts";
import { metRules } from "./rules.ts";
import { at, startOf } from "./finding.ts";
import { correlateInbound, inboundSteps, publishedEnd } from "./inbound.ts";
import { stepsOf } from "./steps.ts";
import { isRefusedHere } from "./stop-redirected.ts";
import { translationsOf } from "./translation.ts";
import { present } from "../../present.ts";

/** @param destination as it was asked for and resolved */
export function analyse(evidence: TraceEvidence, destination: TraceReport["destination"]): TraceReport {
  const isInbound = evidence.isInbound === true;
  const correlation = isInbound ? correlateInbound(evidence) : correlate(evidence);
  const of: Case = {
    evidence,
    correlation,
    outRules: metRules(correlation.outEvents, evidence.rulesets),
    backRules: metRules(correlation.backEvents, evidence.rulesets),
  };
  const outcome = isInbound ? inboundOutcome(of) : outcomeOf(of);
  const stop = outcome === "stopped" ? diagnoseStop(of) : undefined;
  const state = evidence.exchange?.state;
  const answer = state?.kind === "answered" || state?.kind === "refused" ? state.what : undefined;
  const startUs = startOf(correlation);
  const deliveredUs = answerTimeUs(of) ?? evidence.exchange?.deliveredUs;
  return {
    pod: evidence.survey.pod.name,
    destination: {
      ...destination,
      ...present({ port: evidence.flow.destinationPort }),
    },
    ...present({ begunBy: isInbound ? "outside" : undefined }),
    outcome,
    ...present({ answer, stop }),
    path: pathOf(of),
    steps: isInbound ? inboundSteps(of, stop) : stepsOf(of, stop),
    sightings: sightingsOf(correlation, startUs),
    ...translationReports(of),
    ...present({
      roundTripUs:
        outcome === "stopped" || startUs === undefined || deliveredUs === undefined
          ? undefined
          : Math.round(deliveredUs - startUs),
    }),
    notes: notesOf(of),
    missing: [...(evidence.survey.pod.unread ?? []), ...evidence.missing],
  };
}

/** Answered is what the pod answered, and what left the node, where the node can be seen. */
function inboundOutcome({ evidence, correlation: { out } }: Case): TraceReport["outcome"] {
  const last = evidence.survey.node === undefined ? at(out, "pod", "out") : at(out, "uplink", "out");
  if (last === undefined) return "stopped";
  return last.packet.tcp?.flags.includes("RST") === true ? "refused" : "answered";
}

function outcomeOf(of: Case): TraceReport["outcome"] {
  const { evidence, correlation } = of;
  const state = evidence.exchange?.state.kind;
  if (state === "answered") return "answered";
  // A reset that the node made (a reject rule, a redirection to a port of its own) is no answer of the destination.
  if (state === "refused") return isFromDestination(of) && !isRefusedHere(of) ? "refused" : "stopped";
  const delivered = correlation.back.some((packet) => packet.place === "pod");
  return evidence.exchange === undefined && delivered ? "answered" : "stopped";
}

/**
 * Whether the refusal came from where the packet was sent, and not from a rule of the node or a router on the way. A
 * host without a listener resets a TCP connection; "port unreachable" to TCP comes from a firewall.
 */
function isFromDestination(of: Case): boolean {
  const { back, errors } = of.correlation;
  const destination = realDestination(of);
  const own =
    of.evidence.flow.protocol === "tcp"
      ? []
      : errors.filter(({ packet }) => packet.ip?.source === destination);
  const first = of.evidence.survey.node === undefined ? "pod" : "uplink";
  const arrived = [...back, ...own].some((packet) => packet.place === first && packet.way === "in");
  return arrived || isLocal(of) || wasSwitched(of) || staysInPod(of);
}

function answerTimeUs({ evidence, correlation: { out, back } }: Case): number | undefined {
  if (evidence.isInbound === true) return (at(out, "uplink", "out") ?? at(out, "pod", "out"))?.timeUs;
  return back.find((packet) => packet.place === "pod")?.timeUs;
}

/** The stations of the picture. */
function pathOf(of: Case): Station[] {
  const { evidence, correlation } = of;
  const { survey, flow } = evidence;
  const { node } = survey;
  const leaving = correlation.out.find((packet) => packet.place === "uplink" && packet.way === "out");
  const uplink = leaving?.interface ?? node?.out?.name;
  const uplinkAddress = node?.addresses.find(
    (address) =>
      address.family === flow.family &&
      address.interface === node.links.find((link) => link.name === uplink)?.index &&
      address.scope === "global",
  )?.address;
  const entryAddress = node?.addresses.find(
    (address) => address.interface === node.entry?.index && address.family === flow.family,
  )?.address;
  const places: Station[] = [{ kind: "pod", name: survey.pod.name, address: flow.source }];
  if (staysInPod(of)) return places;
  if (node?.hostLink !== undefined) places.push({ kind: "veth", name: node.hostLink.name });
  if (node?.bridge !== undefined) {
    places.push(
      present({
        kind: "bridge",
        name: node.bridge.name,
        address: entryAddress,
      }),
    );
  }
  places.push({ kind: "node", name: "node" });
  if (uplink !== undefined) {
    places.push(
      present({
        kind: "uplink",
        name: uplink,
        address: uplinkAddress,
      }),
    );
  }
  places.push({ kind: "outside", name: evidence.peer ?? "outside", address: realDestination(of) });
  return places;
}

function sightingsOf({ out, back }: Correlation, startUs: number | undefined): Sighting[] {
  const label =
    (heading: "out" | "back") =>
    (packet: Correlation["out"][number]): Sighting => ({
      heading,
      place: packet.place,
      interface: packet.interface,
      atUs: Math.round((packet.timeUs - (startUs ?? packet.timeUs)) * 10) / 10,
      summary: summaryOf(packet.packet),
    });
  return [...out.map(label("out")), ...back.map(label("back"))].toSorted((a, b) => a.atUs - b.atUs);
}

function translationReports(of: Case): Pick<TraceReport, "translation" | "destinationTranslation"> {
  if (of.evidence.isInbound === true) {
    const published = publishedEnd(of);
    if (published === undefined) return {};
    const { before, after, rule } = published;
    return { destinationTranslation: present({ before, after, rule }) };
  }
  const reports = translationsOf(of).map(({ end, before, after, rule }) => ({
    [end === "source" ? "translation" : "destinationTranslation"]: present({
      before,
      after,
      rule,
    }),
  }));
  return Object.assign({}, ...reports) as Pick<TraceReport, "translation" | "destinationTranslation">;
}

/** An address that one would look for outside, and that is this node's own. */
function endsHere(of: Case): string[] {
  const { node } = of.evidence.survey;
  const { destination } = of.evidence.flow;
  if (node === undefined || !isLocal(of) || realDestination(of) !== destination) return [];
  const own = node.addresses.find(({ address }) => address === destination);
  if (own === undefined) return [`a local route takes ${destination}: it ends on this node`];
  const link = node.links.find(({ index }) => index === own.interface);
  if (link === undefined || link.index === node.entry?.index) return [];
  return [`${destination} is an address of ${link.name}: it ends on this node`];
}

function notesOf(of: Case): string[] {
  const { evidence } = of;
  const notes: string[] = endsHere(of);
  const podLink = evidence.survey.pod.link;
  const { node } = evidence.survey;
  const outMtu =
    (node?.route?.reachable === true ? node.route.route.metrics.mtu : undefined) ?? node?.out?.mtu;
  if (podLink !== undefined && outMtu !== undefined && podLink.mtu > outMtu) {
    notes.push(
      `${podLink.name} in the pod has mtu ${podLink.mtu}, the way out takes ${outMtu}: larger packets depend on ICMP "too big" reaching the sender`,
    );
  }
  if (evidence.lostPackets > 0) {
    notes.push(`the kernel had no room for ${evidence.lostPackets} captured packets: there is much traffic`);
  }
  return notes;
}
