/** What a real packet adds to the prediction. */
import { command } from "../text/command.ts";
import { entryOf } from "./catalogue.ts";
import { anywhere, finding } from "./check.ts";
import type { Diagnosis } from "./diagnose.ts";
import { targetText } from "./wording.ts";

export interface ProbeResult {
  /** `answered` and `refused`: an answer came back. `stopped`: none did. `not-sent`: the probe could not be made. */
  readonly outcome: "answered" | "refused" | "stopped" | "not-sent";
  /** In one sentence. */
  readonly said: string;
  /** Where the packet was last seen: `coming in at br0 on the node`, `in the socket of the pod`. */
  readonly lastSeen?: string;
  /** Stable word for the reason. */
  readonly code?: string;
}

/** The reason words that mean: it left the node as it should, and nobody answered. */
const OUTSIDE = /^(?:nobody-answered|refused-outside)$/;

/** The diagnosis with the probe's word in it. The packet is right where the prediction differs. */
export function withProbe(diagnosis: Diagnosis, probe: ProbeResult): Diagnosis {
  switch (probe.outcome) {
    case "not-sent":
      return { ...diagnosis, gaps: [...diagnosis.gaps, `the live packet: ${probe.said}`] };
    case "answered":
    case "refused":
      return answered(diagnosis, probe);
    case "stopped":
      return diagnosis.healthy ? contradicted(diagnosis, probe) : diagnosis;
  }
}

/** An answer came back: findings that say it cannot are only possible. */
function answered(diagnosis: Diagnosis, probe: ProbeResult): Diagnosis {
  const address = targetText(diagnosis.target);
  if (diagnosis.healthy)
    return { ...diagnosis, answer: `${diagnosis.answer} (a real packet: ${probe.said})` };
  const findings = diagnosis.findings.map((one) =>
    one.stopsTraffic
      ? { ...one, stopsTraffic: false, severity: "warning" as const, confidence: "possible" as const }
      : one,
  );
  const checklist = diagnosis.checklist.map((line) =>
    line.status === "broken" ? { ...line, status: "warned" as const } : line,
  );
  return {
    ...diagnosis,
    healthy: true,
    findings,
    checklist,
    answer: `${diagnosis.pod} reaches ${address} (${probe.said}), although the tables say otherwise`,
  };
}

/** Nothing was found, and yet no answer came: the packet tells where it was last seen. */
function contradicted(diagnosis: Diagnosis, probe: ProbeResult): Diagnosis {
  const outside = OUTSIDE.test(probe.code ?? "");
  const code = outside ? "no-answer" : "stopped-elsewhere";
  const seen = probe.lastSeen ?? "in the pod";
  const [spot] = diagnosis.path.blindSpots;
  const text = outside
    ? `the packet left the node as it should, and nobody answered`
    : `${lastSeenText(seen)}; then ${probe.said}`;
  const found = finding(code, {
    text,
    owner: outside
      ? "the network outside, or the destination"
      : `unknown${spot === undefined ? "" : `; perhaps of ${spot}`}`,
    evidence: [
      { source: "a real packet", value: probe.said },
      { source: "last seen", value: seen },
      ...diagnosis.path.blindSpots.map((value) => ({ source: "on its way", value })),
    ],
    consequence: "no answer comes back",
    ...(outside
      ? { advice: ["ask whoever runs the network outside: security group, provider's filter, proxy"] }
      : { fix: [anywhere(command`wayout trace ${diagnosis.pod} ${diagnosis.target.address}`)] }),
    confidence: "likely",
  });
  return {
    ...diagnosis,
    healthy: false,
    findings: [found, ...diagnosis.findings],
    checklist: diagnosis.checklist.map((line) =>
      line.step === entryOf(code).step ? { ...line, status: "broken", text } : line,
    ),
    answer: `${diagnosis.pod} cannot reach ${targetText(diagnosis.target)} because ${text}`,
  };
}

/** `the answer, leaving br0 on the node` is about the answer, everything else about the packet. */
function lastSeenText(seen: string): string {
  const ofAnswer = /^the answer, (.*)$/.exec(seen)?.[1];
  return ofAnswer === undefined ? `the packet was last seen ${seen}` : `the answer was last seen ${ofAnswer}`;
}
