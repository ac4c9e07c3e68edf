/** A connection in the words of `wayout conntrack list`. Pure. */
import { endText as textOfEnd } from "../../address/ip.ts";
import type { FlowEnd } from "../../flows/flow.ts";
import type { FlowRecord } from "../../flows/flow-record.ts";

export function endText({ address, port }: FlowEnd): string {
  return textOfEnd(address, port);
}

const SPANS = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
] as const;

/** `118 s`, `5 min`, `5 d`: from two of the larger unit on, in that one. */
export function spanText(seconds: number): string {
  const [length, unit] = SPANS.find(([one]) => Math.round(seconds / one) >= 2) ?? [1, "s"];
  return `${Math.round(seconds / length)} ${unit}`;
}

/** `10.0.0.1:5432 ↔ 203.0.113.5:61234 → 198.51.100.80:443`. */
export function translationText({ translation }: FlowRecord): string {
  const { source, sourceOutside, destination, destinationReal } = translation;
  const left =
    sourceOutside === undefined ? endText(source) : `${endText(source)} ↔ ${endText(sourceOutside)}`;
  const right =
    destinationReal === undefined
      ? endText(destination)
      : `${endText(destination)} ↔ ${endText(destinationReal)}`;
  return `${left} → ${right}`;
}
