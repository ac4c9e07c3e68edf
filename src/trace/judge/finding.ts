/** What a step came to, and how it is set against the outcome. Pure. */
import { summaryOf } from "../../linux/packet/packet.ts";
import { sightingText, type Correlation, type PlacedPacket } from "./correlate.ts";
import type { StationKind, StepEvidence, StepNumber, StepReport, TraceStop } from "../report.ts";
import { present } from "../../present.ts";

/** What a step came to, before it is set against the outcome. */
export interface JudgedStep {
  readonly proven: boolean;
  readonly text: string;
  readonly evidence: readonly StepEvidence[];
  readonly timeUs?: number;
  readonly notNeeded?: boolean;
}

/** The nine reports. @param stop where it ended; undefined when it was answered */
export function stepReports(
  titles: Readonly<Record<StepNumber, string>>,
  findings: Readonly<Record<StepNumber, JudgedStep>>,
  stop: TraceStop | undefined,
  startUs: number | undefined,
): StepReport[] {
  return (Object.keys(findings).map(Number) as StepNumber[]).map((number) => {
    const finding = findings[number];
    return {
      number,
      title: titles[number],
      ...statusAndText(number, finding, stop),
      evidence: number === stop?.step ? withStop(finding.evidence, stop.evidence) : finding.evidence,
      ...present({
        atUs:
          finding.timeUs === undefined || startUs === undefined
            ? undefined
            : round(Math.max(0, finding.timeUs - startUs)),
      }),
    };
  });
}

/** What the step shows already need not be said again by what ended there. */
function withStop(own: readonly StepEvidence[], stop: readonly StepEvidence[]): StepEvidence[] {
  const sources = new Set(own.map(({ source }) => source));
  return [...own, ...stop.filter(({ source }) => !sources.has(source))];
}

function statusAndText(
  number: StepNumber,
  finding: JudgedStep,
  stop: TraceStop | undefined,
): Pick<StepReport, "status" | "text"> {
  if (number === stop?.step) return { status: "stopped", text: stop.reason };
  const isBehind = stop !== undefined && number > stop.step;
  if (finding.notNeeded === true && !isBehind) return { status: "not-needed", text: finding.text };
  if (isBehind && (finding.notNeeded === true || !finding.proven)) {
    return { status: "not-reached", text: "it did not get this far" };
  }
  if (finding.proven) return { status: "proven", text: finding.text };
  return { status: "unseen", text: finding.text };
}

/** When the exchange's first packet was first seen. */
export function startOf({ out, back }: Correlation): number | undefined {
  const times = [...out, ...back].map((packet) => packet.timeUs);
  return times.length === 0 ? undefined : Math.min(...times);
}

function round(us: number): number {
  return Math.round(us * 10) / 10;
}

export function at(
  packets: readonly PlacedPacket[],
  place: StationKind,
  way: "in" | "out",
): PlacedPacket | undefined {
  return packets.find((packet) => packet.place === place && packet.way === way);
}

export function captures(packets: readonly (PlacedPacket | undefined)[]): StepEvidence[] {
  const lines = packets.flatMap((packet) => (packet === undefined ? [] : [sightingText(packet)]));
  return lines.length === 0 ? [] : [{ source: "capture", lines }];
}

export function timeOf(packet: PlacedPacket | undefined): { timeUs?: number } {
  return packet === undefined ? {} : { timeUs: packet.timeUs };
}

/** A step that is proven by a packet alone. @param place said behind it: ", at eth0" */
export function seen(packet: PlacedPacket | undefined, place: string, otherwise: string): JudgedStep {
  return {
    proven: packet !== undefined,
    text: packet === undefined ? otherwise : `${summaryOf(packet.packet)}${place}`,
    evidence: captures([packet]),
    ...timeOf(packet),
  };
}

export function seenLeaving(packet: PlacedPacket | undefined): JudgedStep {
  return seen(packet, `, by ${packet?.interface}`, "it was not seen leaving the node");
}
