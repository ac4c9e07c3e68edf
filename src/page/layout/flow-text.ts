/** A connection in the words of `wayout conntrack list`. Pure. */
import type { FlowEnd } from "../../flows/flow.ts";
import type { FlowRecord } from "../../flows/flow-record.ts";

export function endText({ address, port }: FlowEnd): string {
  if (port === undefined) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
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
