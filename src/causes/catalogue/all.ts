/**
 * Room `causes/`: every cause that the doctor and the trace know by name, in the order in which a packet meets them.
 * docs/findings.md is made from this table. The code that raises a finding stands in doctor/checks/, one file for each
 * step.
 *
 * In: a code.
 * Out: its title, severity, step, explanation, and the causes that hide it; small facts by which doctor and trace both
 *   judge (facts.ts).
 * Touches: nothing.
 */
import { BRIDGE } from "./bridge.ts";
import { CONNTRACK } from "./conntrack.ts";
import { DNS } from "./dns.ts";
import { FILTER } from "./filter.ts";
import { FORWARDING } from "./forwarding.ts";
import { GATEWAY } from "./gateway.ts";
import { HOUSEKEEPING } from "./housekeeping.ts";
import { MTU } from "./mtu.ts";
import { NAT } from "./nat.ts";
import { NETWORK_PLUGINS } from "./network-plugins.ts";
import { NODE_ROUTE } from "./node-route.ts";
import { POD_ADDRESS } from "./pod-address.ts";
import { POD_LINK } from "./pod-link.ts";
import { POD_ROUTE } from "./pod-route.ts";
import { REVERSE_PATH } from "./reverse-path.ts";
import type { CatalogueEntry } from "../steps.ts";

export * from "../steps.ts";

/** In the order in which a packet meets them. */
export const CATALOGUE = {
  ...POD_LINK,
  ...POD_ADDRESS,
  ...POD_ROUTE,
  ...GATEWAY,
  ...BRIDGE,
  ...FORWARDING,
  ...NODE_ROUTE,
  ...REVERSE_PATH,
  ...FILTER,
  ...NAT,
  ...CONNTRACK,
  ...MTU,
  ...DNS,
  ...HOUSEKEEPING,
  ...NETWORK_PLUGINS,
} as const satisfies Readonly<Record<string, CatalogueEntry>>;

/** The name of a cause: of what the doctor finds, and of what ends a traced packet. */
export type CauseCode = keyof typeof CATALOGUE;
export type FindingCode = CauseCode;

/** The entry of a code, with its plain type. */
export function catalogueEntry(code: FindingCode): CatalogueEntry {
  return CATALOGUE[code];
}

const ORDER = new Map(Object.keys(CATALOGUE).map((code, index) => [code, index]));

/** How early a packet meets it; 0 for the code of another version. */
export function placeInOrder(code: string): number {
  return ORDER.get(code) ?? 0;
}

/** All codes that hide this one while they stand, directly or through others. */
export function causesOf(code: FindingCode): ReadonlySet<string> {
  const causes = new Set<string>();
  const visit = (one: string): void => {
    for (const cause of catalogueEntry(one as FindingCode).dependsOn) {
      if (causes.has(cause)) continue;
      causes.add(cause);
      visit(cause);
    }
  };
  visit(code);
  return causes;
}
