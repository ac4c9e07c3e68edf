/** What a real packet adds to the prediction. */
import { entryOf, type CauseCode } from "../causes/catalogue.ts";
import { finding } from "./check.ts";
import type { Diagnosis } from "./diagnose.ts";
import type { Evidence, Finding, Fix } from "./finding.ts";
import { targetText } from "./wording.ts";

export type ProbeResult =
  /** An answer came back; `refused`: the destination's own no. */
  | {
      readonly outcome: "answered" | "refused";
      /** In one sentence. */
      readonly said: string;
      /** Whom the packet was given to instead of the destination, where rules put somebody in its place. */
      readonly redirected?: { readonly to: string; readonly by?: string };
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
  "bridge-port-locked",
  "ttl-exceeded",
  "qdisc-drops",
  "kernel-drops",
  "refused-on-node",
  "refused-outside",
  "source-unanswered",
  "answer-from-elsewhere",
  "answer-unrecognized",
  "request-unanswered",
  "pod-silent",
  "no-answer",
  "stopped-elsewhere",
];

/** The diagnosis with the probe's word in it. The packet is right where the prediction differs. */
export function withProbe(diagnosis: Diagnosis, probe: ProbeResult): Diagnosis {
  switch (probe.outcome) {
    case "not-sent":
      return { ...diagnosis, gaps: [...diagnosis.gaps, `the live packet: ${probe.said}`] };
    case "answered":
    case "refused":
      return answered(diagnosis, probe);
    case "stopped":
      if (isNamed(diagnosis)) return confirmed(diagnosis, probe);
      return provesNothing(diagnosis, probe) ? unanswered(diagnosis, probe) : seen(diagnosis, probe);
  }
}

type Answered = Extract<ProbeResult, { readonly outcome: "answered" | "refused" }>;

/** An answer came back: findings that say it cannot, or that nobody can tell, are only possible. */
function answered(diagnosis: Diagnosis, probe: Answered): Diagnosis {
  const address = targetText(diagnosis.target);
  const known = diagnosis.healthy && diagnosis.certain;
  const findings = diagnosis.findings.flatMap((one) => {
    if (one.code === "filter-unknown") return [];
    return one.stopsTraffic
      ? [{ ...one, stopsTraffic: false, severity: "warning" as const, confidence: "possible" as const }]
      : [one];
  });
  const checklist = diagnosis.checklist.map((line) => {
    if (findings.length < diagnosis.findings.length && line.step === "filter" && line.status === "warned")
      return { ...line, status: "ok" as const, text: `a real packet got through: ${probe.said}` };
    return line.status === "broken" ? { ...line, status: "warned" as const } : line;
  });
  return {
    ...diagnosis,
    healthy: true,
    certain: true,
    findings,
    checklist,
    answer: answerOf(diagnosis, probe, address, known),
  };
}

function answerOf(diagnosis: Diagnosis, probe: Answered, address: string, known: boolean): string {
  const { redirected, said } = probe;
  if (redirected !== undefined) {
    const by = redirected.by === undefined ? "" : ` by ${redirected.by}`;
    return `${diagnosis.pod} gets an answer for ${address}: it is redirected to ${redirected.to}${by} (a real packet: ${said})`;
  }
  if (known) return `${diagnosis.answer} (a real packet: ${said})`;
  const but = diagnosis.healthy ? "" : ", although the tables say otherwise";
  return `${diagnosis.pod} reaches ${address} (a real packet: ${said})${but}`;
}

/** Both say that it does not get there: the packet's word is one more piece of evidence. */
function confirmed(diagnosis: Diagnosis, probe: SeenStop): Diagnosis {
  const at = diagnosis.findings.findIndex((one) => one.stopsTraffic && one.code === probe.code);
  const index = at < 0 ? diagnosis.findings.findIndex((one) => one.stopsTraffic) : at;
  const findings = diagnosis.findings.map((one, place) =>
    place === index
      ? { ...one, evidence: [...one.evidence, { source: "a real packet", value: probe.said }] }
      : one,
  );
  return { ...diagnosis, findings };
}

/** Whether the tables name a cause that stops the packet. */
function isNamed({ findings }: Diagnosis): boolean {
  return findings.some((one) => one.stopsTraffic && one.code !== "stopped-elsewhere");
}

/** A program answers over UDP what it likes: to a nameserver a question was sent, to anybody else only bytes. */
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
  const text = sentenceOf(probe);
  // It was seen to stop, whatever its kind does elsewhere.
  const found: Finding = { ...findingOf(diagnosis, probe, text), stopsTraffic: true, severity: "error" };
  const { step } = entryOf(probe.code);
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

function findingOf(diagnosis: Diagnosis, probe: SeenStop, text: string): Finding {
  return finding(probe.code, {
    text,
    owner: ownerOf(diagnosis, probe),
    evidence: [
      { source: "a real packet", value: probe.said },
      { source: "last seen", value: probe.lastSeen },
      ...probe.evidence,
      ...diagnosis.path.blindSpots.map((value) => ({ source: "on its way", value })),
    ],
    consequence: "no answer comes back",
    fix: probe.fix,
    ...(probe.todo === undefined ? {} : { advice: [probe.todo] }),
    confidence: probe.code === "no-answer" || probe.code === "stopped-elsewhere" ? "likely" : "certain",
  });
}

/** What the trace says by itself, or where the packet was last seen when that is all there is to say. */
function sentenceOf({ code, said, lastSeen }: SeenStop): string {
  if (code !== "stopped-elsewhere") return said;
  const ofAnswer = /^the answer, (.*)$/.exec(lastSeen)?.[1];
  const place =
    ofAnswer === undefined ? `the packet was last seen ${lastSeen}` : `the answer was last seen ${ofAnswer}`;
  return `${place}; then ${said}`;
}

function ownerOf({ path }: Diagnosis, { owner }: SeenStop): string {
  if (owner !== undefined) return owner;
  const [spot] = path.blindSpots;
  return `unknown${spot === undefined ? "" : `; perhaps of ${spot}`}`;
}
