/** What a real packet adds to the prediction. */
import { catalogueEntry, type CauseCode } from "../causes/catalogue/all.ts";
import { finding } from "./check.ts";
import type { Diagnosis } from "./diagnose.ts";
import type { Evidence, Finding, Fix } from "./finding.ts";
import { metElsewhere } from "./sent-elsewhere.ts";
import { targetText } from "./wording.ts";
import { present } from "../present.ts";

export type ProbeResult =
  /** An answer came back; `refused`: the destination's own no. */
  | {
      readonly outcome: "answered" | "refused";
      /** In one sentence. */
      readonly said: string;
      /** Whom the packet was given to instead of the destination, where rules put another host in its place. */
      readonly redirected?: { readonly to: string; readonly by?: string };
      /** The connection was opened, and reset: a host on the way may have opened it in the destination's name. */
      readonly isReset?: true;
    }
  | ({ readonly outcome: "stopped" } & SeenStop)
  /** The probe could not be made. */
  | { readonly outcome: "not-sent"; readonly said: string };

/** Where and why the packet ended, as it was seen. */
export interface SeenStop {
  readonly code: CauseCode;
  /** In one sentence. */
  readonly said: string;
  /** `coming in at br0 on the node`, `in the socket of the pod`. */
  readonly lastSeen: string;
  /** The rule that dropped it, as `decisionPlace` calls it. */
  readonly rule?: string;
  readonly owner?: string;
  readonly evidence: readonly Evidence[];
  readonly fix: readonly Fix[];
  /** The next step, where no command is known that mends it. */
  readonly todo?: string;
}

/** Causes that only a packet shows: no check of the tables raises them. */
export const SEEN_CAUSES: readonly CauseCode[] = [
  "pod-ports-exhausted",
  "pod-cannot-send",
  "qdisc-drops",
  "kernel-drops",
  "refused-on-node",
  "refused-outside",
  "answer-from-elsewhere",
  "request-unanswered",
  "pod-silent",
  "no-answer",
  "stopped-elsewhere",
];

/** The diagnosis with the probe's word in it. The packet is right where the prediction differs. */
export function withProbe(diagnosis: Diagnosis, probe: ProbeResult): Diagnosis {
  switch (probe.outcome) {
    case "not-sent":
      return {
        ...diagnosis,
        answer: diagnosis.healthy
          ? `${diagnosis.answer}; no packet could be sent to prove it`
          : diagnosis.answer,
        gaps: [...diagnosis.gaps, `the live packet: ${probe.said}`],
      };
    case "answered":
      return answered(diagnosis, probe);
    case "refused":
      return refusesItself(diagnosis) || (probe.isReset === true && isNamed(diagnosis))
        ? confirmed(diagnosis, probe)
        : answered(diagnosis, probe);
    case "stopped":
      if (isNamed(diagnosis)) return confirmed(diagnosis, probe);
      return provesNothing(diagnosis, probe) ? unanswered(diagnosis, probe) : seen(diagnosis, probe);
  }
}

/** Whether a refusal is the very thing that was predicted: it comes from this node, not from the destination. */
function refusesItself({ findings }: Diagnosis): boolean {
  const [first] = findings.filter((one) => one.stopsTraffic);
  return first?.code === "ends-on-node" || first?.code === "ends-in-pod";
}

type Answered = Extract<ProbeResult, { readonly outcome: "answered" | "refused" }>;

/** An answer came back: findings that say it cannot, or that nobody can tell, are only possible. */
function answered(diagnosis: Diagnosis, probe: Answered): Diagnosis {
  const address = targetText(diagnosis.target);
  const known = diagnosis.healthy && diagnosis.certain;
  const findings = diagnosis.findings.flatMap((one) => {
    if (one.code === "filter-unknown") return [];
    return one.stopsTraffic && !OF_OLD_FLOWS.has(one.code) && one.share === undefined
      ? [{ ...one, stopsTraffic: false, severity: "warning" as const, confidence: "possible" as const }]
      : [one];
  });
  const stuck = findings.find((one) => one.stopsTraffic);
  const checklist = diagnosis.checklist.map((line) => {
    if (stuck !== undefined && line.step === catalogueEntry(stuck.code).step) return line;
    const isAnswered = findings.every((one) => catalogueEntry(one.code).step !== "filter");
    if (isAnswered && line.step === "filter" && line.status === "warned")
      return { ...line, status: "ok" as const, text: `a real packet got through: ${probe.said}` };
    return line.status === "broken" ? { ...line, status: "warned" as const } : line;
  });
  const answer =
    stuck === undefined
      ? answerOf(diagnosis, probe, address, known)
      : stuck.share !== undefined
        ? `${diagnosis.pod} reaches ${address} with some connections (a real packet: ${probe.said}) and not with others: ${stuck.text}`
        : `a new flow of ${diagnosis.pod} to ${address} gets through (a real packet: ${probe.said}), and one that is tracked already does not: ${stuck.text}`;
  return {
    ...diagnosis,
    healthy: stuck === undefined,
    certain: true,
    blind: false,
    findings,
    checklist,
    answer,
  };
}

/** They say nothing of a new flow, as the probe's is, and stand whatever becomes of that. */
const OF_OLD_FLOWS: ReadonlySet<CauseCode> = new Set<CauseCode>(["flow-outdated", "flow-address-lost"]);

/** What the probe's packet says nothing of: those that carry something, that are sent at another time, or by others. */
const OF_OTHER_PACKETS: ReadonlySet<CauseCode> = new Set<CauseCode>([
  "filter-by-content",
  "filter-by-time",
  "other-senders-fail",
]);

function answerOf(diagnosis: Diagnosis, probe: Answered, address: string, known: boolean): string {
  const { redirected, said } = probe;
  const share = diagnosis.findings.find((one) => one.code === "branch-fails");
  if (share !== undefined) {
    const to = redirected === undefined ? "" : ` from ${redirected.to}`;
    return `${diagnosis.pod} got an answer for ${address}${to} this time (a real packet: ${said}); but ${share.text}`;
  }
  if (redirected !== undefined) {
    const by = redirected.by === undefined ? "" : ` by ${redirected.by}`;
    return `${diagnosis.pod} gets an answer for ${address}: it is redirected to ${redirected.to}${by} (a real packet: ${said})`;
  }
  const condition = diagnosis.findings.find((one) => OF_OTHER_PACKETS.has(one.code));
  if (condition !== undefined) {
    return `${diagnosis.pod} reaches ${address} (a real packet: ${said}); but ${condition.text}`;
  }
  if (known) return `${diagnosis.answer} (a real packet: ${said})`;
  const ofThePath = diagnosis.findings.some(
    (one) => one.stopsTraffic && catalogueEntry(one.code).step !== "dns",
  );
  const but = ofThePath ? ", although the tables say otherwise" : "";
  return `${diagnosis.pod} reaches ${address} (a real packet: ${said})${but}`;
}

/** Both say that it does not get there: the packet's word is one more piece of evidence. */
function confirmed(diagnosis: Diagnosis, probe: SeenStop | Answered): Diagnosis {
  const code = "code" in probe ? probe.code : undefined;
  const at = diagnosis.findings.findIndex((one) => one.stopsTraffic && one.code === code);
  const index = at < 0 ? diagnosis.findings.findIndex((one) => one.stopsTraffic) : at;
  const findings = diagnosis.findings.map((one, place) =>
    place === index
      ? { ...one, evidence: [...one.evidence, { source: "a real packet", value: probe.said }] }
      : one,
  );
  return { ...diagnosis, findings };
}

/** The connection stands, and a request over it was lost: what was possible by a rule's condition has happened. */
export function withRequest(diagnosis: Diagnosis, lost: SeenStop): Diagnosis {
  const possible = diagnosis.findings.find(
    (one) =>
      one.code === "filter-by-content" &&
      (lost.rule === undefined || one.evidence.some(({ source }) => source === lost.rule)),
  );
  if (possible === undefined) return diagnosis;
  const found: Finding = {
    ...possible,
    evidence: [...possible.evidence, { source: "an HTTP request over the connection", value: lost.said }],
    stopsTraffic: true,
    severity: "error",
    confidence: lost.rule === undefined ? "likely" : "certain",
  };
  return {
    ...diagnosis,
    healthy: false,
    findings: [found, ...diagnosis.findings.filter((one) => one !== possible)],
    checklist: diagnosis.checklist.map((line) =>
      line.step === "filter" ? { ...line, status: "broken", text: found.text } : line,
    ),
    answer: `${diagnosis.pod} opens connections to ${targetText(diagnosis.target)}, and a request over one is lost: ${found.text}`,
  };
}

/** Whether the tables name a cause that stops the packet. */
function isNamed({ findings }: Diagnosis): boolean {
  // The probe goes to an address: what stands in the way of names alone did not stop it.
  return findings.some(
    (one) => one.stopsTraffic && one.code !== "stopped-elsewhere" && catalogueEntry(one.code).step !== "dns",
  );
}

/** A program answers over UDP what it likes: to a nameserver a question was sent, to any other server only bytes. */
function provesNothing({ target }: Diagnosis, { code }: SeenStop): boolean {
  return code === "no-answer" && target.protocol === "udp" && target.port !== 53;
}

function unanswered(diagnosis: Diagnosis, probe: SeenStop): Diagnosis {
  const found: Finding = {
    ...findingOf(diagnosis, probe, probe.said),
    consequence: "that proves nothing: over UDP a program answers only what it understands",
    stopsTraffic: false,
    severity: "warning",
    confidence: "possible",
  };
  return {
    ...diagnosis,
    findings: [...diagnosis.findings, found],
    answer: `${diagnosis.answer}; the datagram that was sent was not answered, which over UDP proves nothing`,
  };
}

/** Nothing with a name was found, and yet no answer came: the finding is what was seen. */
function seen(diagnosis: Diagnosis, probe: SeenStop): Diagnosis {
  const ruled = diagnosis.suspicions.find((one) => isOfRule(one, probe));
  if (ruled !== undefined) return suspected(diagnosis, probe, ruled, []);
  const [suspicion, ...others] = diagnosis.suspicions.filter((one) => couldExplain(one, probe));
  if (suspicion !== undefined) return suspected(diagnosis, probe, suspicion, others);
  // It was seen to stop, whatever its kind does elsewhere.
  const here: Finding = {
    ...findingOf(diagnosis, probe, `${sentenceOf(probe)}${spotText(diagnosis, probe)}`),
    stopsTraffic: true,
    severity: "error",
  };
  const { elsewhere } = diagnosis.path;
  const found =
    elsewhere === undefined || !UNANSWERED.has(probe.code)
      ? here
      : metElsewhere(here, elsewhere, wentTo(probe, targetText(diagnosis.target)));
  const { text } = found;
  const { step } = catalogueEntry(probe.code);
  return {
    ...diagnosis,
    healthy: false,
    findings: [
      found,
      ...diagnosis.findings.filter((one) => one.code !== probe.code && one.code !== "stopped-elsewhere"),
    ],
    checklist: diagnosis.checklist.map((line) => {
      if (line.step === step) return { ...line, status: "broken", text };
      return line.status === "broken" ? { ...line, status: "skipped", text: "not judged" } : line;
    }),
    answer: `${diagnosis.pod} cannot reach ${targetText(diagnosis.target)} because ${text}`,
  };
}

/** The rule that was seen to drop it is known to do so under a condition: that it has come to that was not known. */
function isOfRule({ code, evidence }: Finding, { code: seenCode, rule }: SeenStop): boolean {
  if (code !== seenCode) return false;
  // The kernel does not say which rule of iptables-legacy it was.
  if (rule === undefined) return evidence.some(({ source }) => /^ip6?tables-legacy /.test(source));
  return evidence.some(({ source }) => source === rule);
}

/** Another destination than the one asked for, where the packet was captured on its way there. */
function wentTo({ said, evidence }: SeenStop, target: string): string | undefined {
  const ends = [said, ...evidence.map(({ value }) => value)].flatMap(
    (text) => / → (\S+) /.exec(text)?.[1] ?? [],
  );
  return ends.find((end) => end !== target);
}

/** What is suspected of the pod's own link explains that its gateway is silent; all of it that no answer came. */
function couldExplain({ code }: Finding, probe: SeenStop): boolean {
  if (UNANSWERED.has(probe.code)) return true;
  // By the link that it should have left by it would have been translated.
  if (probe.code === "nat-missing") return code === "rule-captures";
  return probe.code === "pod-gateway-unresolved" && catalogueEntry(code).step === "bridge";
}

/** What says no more than that nobody answered. */
const UNANSWERED: ReadonlySet<CauseCode> = new Set<CauseCode>([
  "no-answer",
  "uplink-gateway-unresolved",
  "stopped-elsewhere",
]);

/** Before the outside is blamed: something on this node explains it. */
function suspected(
  diagnosis: Diagnosis,
  probe: SeenStop,
  suspicion: Finding,
  others: readonly Finding[],
): Diagnosis {
  const found: Finding = {
    ...suspicion,
    evidence: [
      ...suspicion.evidence,
      { source: "a real packet", value: probe.said },
      { source: "last seen", value: probe.lastSeen },
    ],
    stopsTraffic: true,
    severity: "error",
  };
  const possible = others.map((one) => ({
    ...one,
    stopsTraffic: false,
    severity: "warning" as const,
    confidence: "possible" as const,
  }));
  const { step } = catalogueEntry(found.code);
  const { text } = found;
  return {
    ...diagnosis,
    healthy: false,
    findings: [
      found,
      ...possible,
      // It has been answered.
      ...diagnosis.findings.filter((one) => one.code !== found.code && one.code !== "filter-unknown"),
    ],
    checklist: diagnosis.checklist.map((line) =>
      line.step === step ? { ...line, status: "broken", text } : line,
    ),
    answer: UNANSWERED.has(probe.code)
      ? `${diagnosis.pod} cannot reach ${targetText(diagnosis.target)}: no answer comes, and ${text}`
      : `${diagnosis.pod} cannot reach ${targetText(diagnosis.target)} because ${text}`,
  };
}

function findingOf(diagnosis: Diagnosis, probe: SeenStop, text: string): Finding {
  return finding(
    probe.code,
    present({
      text,
      owner: ownerOf(diagnosis, probe),
      evidence: [
        ...(text === probe.said ? [] : [{ source: "a real packet", value: probe.said }]),
        { source: "a real packet, last seen", value: probe.lastSeen },
        ...probe.evidence,
        ...diagnosis.path.blindSpots.map((value) => ({ source: "on its way", value })),
      ],
      consequence: "no answer comes back",
      fix: probe.fix,
      advice: todoOf(diagnosis, probe),
      confidence: probe.code === "no-answer" || probe.code === "stopped-elsewhere" ? "likely" : "certain",
    }),
  );
}

/** Before the outside is looked at: programs of this node that see the packets, which nobody can look into from here. */
function todoOf({ path }: Diagnosis, { code, todo }: SeenStop): string[] {
  const isProgram = path.blindSpots.some((text) => text.startsWith("program "));
  const own =
    isProgram && UNANSWERED.has(code) ? ["see what the programs named do: bpftool net; ip -d link"] : [];
  return [...own, ...(todo === undefined ? [] : [todo])];
}

/** What the trace says by itself, or where the packet was last seen when that is all there is to say. */
function sentenceOf({ code, said, lastSeen }: SeenStop): string {
  if (code !== "stopped-elsewhere") return said;
  const ofAnswer = /^the answer, (.*)$/.exec(lastSeen)?.[1];
  const place =
    ofAnswer === undefined ? `the packet was last seen ${lastSeen}` : `the answer was last seen ${ofAnswer}`;
  return `${place}; then ${said}`;
}

/** A program that could have done it is named in the same sentence: the rest of the report blames what it can see. */
function spotText(diagnosis: Diagnosis, probe: SeenStop): string {
  const { blindSpots } = diagnosis.path;
  if (probe.code === "kernel-drops") {
    const spot = spotAt(diagnosis, probe);
    return spot === undefined ? "" : `; ${spot} may have done it`;
  }
  if (!UNANSWERED.has(probe.code) || blindSpots.length === 0) return "";
  return `; ${blindSpots.join(" and ")} ${blindSpots.length === 1 ? "sees" : "see"} the packets, and may drop them or their answers`;
}

/** What cannot be looked into at the very device where it ended is the likeliest. */
function spotAt({ path }: Diagnosis, probe: SeenStop): string | undefined {
  const device = deviceOf(probe);
  return path.blindSpots.find((text) => text.split(" ").includes(device ?? ""));
}

/** The device at which the kernel dropped it, where it says so. */
export function deviceOf({ said }: SeenStop): string | undefined {
  return / at (\S+) (?:on the node|in the pod)/.exec(said)?.[1];
}

function ownerOf(diagnosis: Diagnosis, probe: SeenStop): string {
  if (probe.owner !== undefined && (probe.code !== "no-answer" || diagnosis.path.blindSpots.length === 0))
    return probe.owner;
  const spot = spotAt(diagnosis, probe) ?? diagnosis.path.blindSpots[0];
  if (probe.owner !== undefined) return `${spot}, or ${probe.owner}`;
  return `unknown${spot === undefined ? "" : `; perhaps of ${spot}`}`;
}
