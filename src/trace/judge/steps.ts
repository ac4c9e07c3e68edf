/** The nine steps of one packet, each with the evidence that it happened. Pure. */
import { flowState, flowTranslationText as entryText } from "../../flows/flow.ts";
import type { ConntrackEntry } from "../../linux/conntrack/entry.ts";
import { BY_PROGRAMS } from "../../linux/conntrack/status.ts";
import { summaryOf } from "../../linux/packet/packet.ts";
import { endLabel } from "./correlate.ts";
import { untranslatedAnswer } from "./elsewhere.ts";
import {
  isHairpin,
  isLocal,
  isReplyMatched,
  linkText,
  lostInBridge,
  realDestination,
  staysInPod,
  wasSwitched,
  type Case,
} from "./case.ts";
import type { NodeSide, TraceEvidence } from "../evidence.ts";
import { at, captures, seen, seenLeaving, startOf, stepReports, timeOf, type JudgedStep } from "./finding.ts";
import type { StepEvidence, StepNumber, StepReport, TraceStop } from "../report.ts";
import { chainLines } from "./rules.ts";
import { translationBackText, translationsOf, seenTranslationText } from "./translation.ts";
import { present } from "../../present.ts";

const STEP_TITLES: Readonly<Record<StepNumber, string>> = {
  1: "a process in the pod sends",
  2: "through the veth to the node",
  3: "the node decides to forward",
  4: "the source is translated",
  5: "conntrack remembers",
  6: "out by the uplink",
  7: "the answer arrives",
  8: "conntrack matches it and translates back",
  9: "delivered to the pod",
};

/** @param stop where it ended; undefined when it was answered */
export function stepsOf(of: Case, stop: TraceStop | undefined): StepReport[] {
  const inside = staysInPod(of) ? withoutIt("it stays in the pod: nothing is sent to the node") : undefined;
  const findings: Readonly<Record<StepNumber, JudgedStep>> = {
    1: sent(of),
    2: inside ?? crossedVeth(of),
    3: inside ?? forwarded(of),
    4: translated(of),
    5: inside ?? tracked(of),
    6: inside ?? left(of),
    7: inside === undefined ? answered(of) : withoutIt("the pod itself answers"),
    8: matched(of),
    9: delivered(of),
  };
  const titles = { ...STEP_TITLES, 4: translationTitle(of) };
  return stepReports(titles, findings, stop, startOf(of.correlation));
}

/** A destination that is translated must not stand under the title of a source. */
function translationTitle(of: Case): string {
  const ends = translationsOf(of).map(({ end }) => end);
  if (!ends.includes("destination")) return STEP_TITLES[4];
  return ends.includes("source") ? "source and destination are translated" : "the destination is translated";
}

// ── 1 and 2 ──────────────────────────────────────────────────────────────────────────────────────────────────────

function sent({ evidence, correlation }: Case): JudgedStep {
  const { pod } = evidence.survey;
  const packet = at(correlation.out, "pod", "out");
  const neighbour = evidence.neighbours.pod.find(
    (one) => one.address === pod.nextHop && one.interface === pod.link?.index,
  );
  const lines = [
    ...(pod.route.reachable
      ? [`route ${routeText(evidence.flow.destination, pod.nextHop, pod.link?.name)}`]
      : []),
    ...(pod.link === undefined ? [] : [`link ${linkText(pod.link)}`]),
    ...(neighbour === undefined
      ? []
      : [`neighbour ${neighbour.address} is ${neighbour.mac ?? "unknown"} (${neighbour.state})`]),
  ];
  return {
    proven: packet !== undefined,
    text:
      packet === undefined
        ? "nothing was seen leaving"
        : `${summaryOf(packet.packet)}, by ${packet.interface}`,
    evidence: [{ source: "the pod", lines }, ...captures([packet])],
    ...timeOf(packet),
  };
}

function routeText(destination: string, nextHop: string | undefined, link: string | undefined): string {
  const via = nextHop === undefined || nextHop === destination ? "" : ` via ${nextHop}`;
  return `to ${destination}${via} dev ${link ?? "?"}`;
}

function crossedVeth(of: Case): JudgedStep {
  const { evidence, correlation } = of;
  const { hostLink, bridge, lower } = evidence.survey.node ?? {};
  if (lower !== undefined) return withoutIt(`the pod's interface is on ${lower.name}: there is no veth pair`);
  const veth = at(correlation.out, "veth", "in");
  // What br_netfilter gave another destination on the same bridge is seen leaving by it only.
  const onBridge = at(correlation.out, "bridge", "in") ?? at(correlation.out, "bridge", "out");
  const places = [
    ...(hostLink === undefined ? [] : [{ name: hostLink.name, packet: veth }]),
    ...(bridge === undefined ? [] : [{ name: bridge.name, packet: onBridge }]),
  ];
  if (bridge !== undefined && veth !== undefined && onBridge === undefined && wasSwitched(of)) {
    return {
      proven: true,
      text: `seen on ${hostLink?.name}, switched within ${bridge.name}: the destination is on the same network`,
      evidence: captures([veth]),
      ...timeOf(veth),
    };
  }
  return {
    proven: veth !== undefined && (bridge === undefined || onBridge !== undefined),
    text: places.length === 0 ? "the other end of the pod's veth was not found" : seenText(places),
    evidence: captures([veth, onBridge]),
    ...timeOf(veth),
  };
}

/** `seen on vt2 and on br0`, `seen on vt2, not on br0`. */
function seenText(places: readonly { readonly name: string; readonly packet: unknown }[]): string {
  const named = (isSeen: boolean): string =>
    places
      .flatMap(({ name, packet }) => ((packet !== undefined) === isSeen ? [`on ${name}`] : []))
      .join(" and ");
  const [seenAt, missedAt] = [named(true), named(false)];
  if (seenAt === "") return `not seen ${missedAt}`;
  return missedAt === "" ? `seen ${seenAt}` : `seen ${seenAt}, not ${missedAt}`;
}

/** A step that this path does without. */
function withoutIt(text: string): JudgedStep {
  return { proven: true, notNeeded: true, text, evidence: [] };
}

// ── 3 to 6 ───────────────────────────────────────────────────────────────────────────────────────────────────────

function forwarded(of: Case): JudgedStep {
  const { evidence, correlation } = of;
  const { node } = evidence.survey;
  const leaving = at(correlation.out, "uplink", "out");
  if (node === undefined) return { proven: false, text: "the node is not visible from here", evidence: [] };
  if (node.lower !== undefined)
    return withoutIt(`it leaves by ${node.lower.name} itself: the node's routing is not asked`);
  if (isLocal(of)) {
    return {
      proven: true,
      notNeeded: true,
      text: `${realDestination(of)} is the node itself`,
      evidence: [],
    };
  }
  if (wasSwitched(of)) {
    return {
      proven: true,
      notNeeded: true,
      text: "the bridge switched it; nothing was routed",
      evidence: [],
    };
  }
  const answer = node.route;
  const from = `from ${evidence.flow.source} iif ${node.entry?.name}`;
  const destination = realDestination(of);
  const route =
    answer === undefined
      ? []
      : [
          answer.reachable
            ? `${from} ${routeText(destination, node.nextHop, node.out?.name)}`
            : `${from}: ${answer.said} (${answer.code})`,
        ];
  const chains = chainLines(of.outRules.filter(({ event }) => event.where === "node"));
  // Postrouting comes after the decision; an entry is confirmed there.
  const forward =
    leaving !== undefined ||
    (isHairpin(of) && at(correlation.out, "bridge", "out") !== undefined) ||
    correlation.back.some(({ where }) => where === "node") ||
    evidence.flowEvents.length > 0 ||
    of.outRules.some(({ base }) => base?.hook === "postrouting");
  const anew =
    destination === evidence.flow.destination ? "" : `it is for ${destination} now, by a rule (4); `;
  return {
    proven: forward,
    text: forward
      ? `${anew}forwarding is on; ${node.entry?.name} → ${leaving?.interface ?? node.out?.name}`
      : "it was not seen leaving the node",
    evidence: [
      settingsEvidence(node),
      ...(route.length === 0 ? [] : [{ source: "route", lines: route }]),
      ...(chains.length === 0 ? [] : [{ source: "nf_tables trace", lines: chains }]),
    ],
  };
}

/** A line for forwarding, a line for reverse path filtering. */
export function settingsEvidence({ sysctls, entry, out }: NodeSide): StepEvidence {
  const links = [entry, out].flatMap((link) => (link === undefined ? [] : [`.conf.${link.name}.`]));
  const isOnTheWay = (name: string): boolean =>
    !name.includes(".conf.") || [".conf.all.", ...links].some((part) => name.includes(part));
  const lines = ["forward", "rp_filter"].flatMap((word) => {
    const ofKind = Object.entries(sysctls).filter(([name]) => name.includes(word) && isOnTheWay(name));
    return ofKind.length === 0 ? [] : [ofKind.map(([name, value]) => `${name} = ${value}`).join(", ")];
  });
  return { source: "sysctl", lines };
}

function translated(of: Case): JudgedStep {
  const { evidence, correlation } = of;
  const { flow } = evidence;
  const translations = translationsOf(of);
  if (translations.length > 0) {
    return {
      proven: true,
      text: `${seenTranslationText(translations)}${isByPrograms(evidence.entry) ? `, by ${PROGRAMS} where it leaves` : ""}`,
      evidence: translations.flatMap((translation) => translation.evidence),
    };
  }
  if (isLocal(of) || wasSwitched(of) || staysInPod(of)) return withoutIt("nothing leaves the node");
  if (correlation.outside === undefined)
    return { proven: false, text: "it was not seen leaving the node", evidence: [] };
  const source = endLabel({ address: flow.source, port: flow.sourcePort }, flow);
  return {
    proven: true,
    notNeeded: true,
    text: `it keeps its source ${source}: nothing translates it`,
    evidence: [],
  };
}

function tracked(of: Case): JudgedStep {
  const { evidence, correlation } = of;
  const entry = isByPrograms(evidence.entry)
    ? evidence.entry
    : (evidence.flowEvents[0]?.entry ?? evidence.entry);
  const isNeeded = translationsOf(of).length > 0;
  if (entry === undefined) {
    const hasLeft = correlation.out.some((packet) => packet.place === "uplink" && packet.way === "out");
    const text = !isNeeded
      ? "not tracked: no rule in this namespace asks for connection tracking"
      : hasLeft
        ? "conntrack has no entry for it"
        : "an entry is kept once the packet has left: there is none yet";
    const notNeeded = evidence.survey.node !== undefined && !(isNeeded && hasLeft);
    return present({ proven: false, notNeeded: notNeeded || undefined, text, evidence: [] });
  }
  return { proven: true, text: entryText(entry), evidence: [historyOf(evidence, entry)] };
}

const PROGRAMS = "wayout's eBPF program";

/** Whether it stands in the maps of our programs instead of the kernel's table. */
function isByPrograms(entry: ConntrackEntry | undefined): entry is ConntrackEntry {
  return entry !== undefined && (entry.status & BY_PROGRAMS) !== 0;
}

/** What became of the entry meanwhile, and how it stands. */
export function historyOf({ entry, flowEvents }: TraceEvidence, known: ConntrackEntry): StepEvidence {
  const last = entry ?? flowEvents.at(-1)?.entry ?? known;
  const { timeoutSeconds } = last;
  const left = timeoutSeconds === undefined ? "" : `, forgotten in ${timeoutSeconds} s`;
  return {
    source: isByPrograms(last) ? PROGRAMS : "conntrack",
    lines: [
      ...flowEvents.slice(0, 6).map(({ kind, entry: one }) => `${kind} ${flowState(one)}`),
      `now ${flowState(last)}${left}`,
    ],
  };
}

function left(of: Case): JudgedStep {
  const packet = at(of.correlation.out, "uplink", "out");
  if (isLocal(of) || (packet === undefined && wasSwitched(of))) {
    return { proven: true, notNeeded: true, text: "nothing leaves the node", evidence: [] };
  }
  if (isHairpin(of)) {
    return { proven: true, notNeeded: true, text: "it goes back to the pod that sent it", evidence: [] };
  }
  const bridge = lostInBridge(of);
  if (bridge !== undefined && of.correlation.back.length === 0) {
    return {
      proven: false,
      text: `given to the bridge ${bridge.name}, and seen at none of its ports`,
      evidence: captures([packet]),
    };
  }
  return seenLeaving(packet);
}

// ── 7 to 9 ───────────────────────────────────────────────────────────────────────────────────────────────────────

function answered(of: Case): JudgedStep {
  const packet = at(of.correlation.back, "uplink", "in");
  const atVeth = at(of.correlation.back, "veth", "out");
  const isInside = isLocal(of) || wasSwitched(of) || isHairpin(of);
  if (packet === undefined && atVeth !== undefined && isInside) {
    return {
      proven: true,
      notNeeded: true,
      text: isHairpin(of) ? "the pod itself answers" : "the answer came from this node",
      evidence: [],
      timeUs: atVeth.timeUs,
    };
  }
  return seen(packet, `, at ${packet?.interface}`, "no answer was seen");
}

function matched(of: Case): JudgedStep {
  const { evidence, correlation } = of;
  const translations = translationsOf(of);
  const isTranslated = translations.length > 0;
  const entry = evidence.entry ?? evidence.flowEvents.at(-1)?.entry;
  if (entry === undefined && !isTranslated) {
    return {
      proven: true,
      notNeeded: true,
      text: "nothing was translated, nothing is translated back",
      evidence: [],
    };
  }
  const inside = correlation.back.find(({ packet }) => packet.ip?.destination === evidence.flow.source);
  const asItCame = untranslatedAnswer(of);
  const isBack = isTranslated && correlation.back.length > 0;
  const change =
    asItCame !== undefined
      ? `it reached the pod as it came: ${asItCame.summary}`
      : isBack
        ? translationBackText(translations)
        : "the answer belongs to the entry";
  const counters = entry?.counters?.reply;
  const chains = chainLines(of.backRules.filter(({ event }) => event.where === "node"));
  return {
    proven: asItCame === undefined && (isReplyMatched(of) || (inside !== undefined && isTranslated)),
    text: change,
    evidence: [
      ...(entry === undefined
        ? []
        : [
            {
              source: isByPrograms(entry) ? PROGRAMS : "conntrack",
              lines: [
                `state ${flowState(entry)}, ${entry.flags.join(", ")}`,
                ...(counters === undefined
                  ? []
                  : [`answers so far: ${counters.packets} packets, ${counters.bytes} bytes`]),
              ],
            },
          ]),
      ...(chains.length === 0 ? [] : [{ source: "nf_tables trace", lines: chains }]),
    ],
  };
}

function delivered({ evidence, correlation }: Case): JudgedStep {
  const veth = at(correlation.back, "veth", "out");
  const pod = at(correlation.back, "pod", "in");
  const { exchange } = evidence;
  const socket =
    exchange?.state.kind === "answered" || exchange?.state.kind === "refused"
      ? exchange.state.what
      : undefined;
  return {
    proven: pod !== undefined && (exchange === undefined || socket !== undefined),
    text:
      pod === undefined
        ? "no answer was seen in the pod"
        : `${summaryOf(pod.packet)}${socket === undefined ? "" : `; the socket: ${socket}`}`,
    evidence: captures([veth, pod]),
    ...timeOf(pod),
  };
}
