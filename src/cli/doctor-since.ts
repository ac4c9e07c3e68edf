/** Since when a pod is broken and after whose change, as a running agent noted it. */
import { byCulprit } from "../agent/culprit.ts";
import type { StoredEvent } from "../agent/journal/journal.ts";
import type { Diagnosis } from "../doctor/diagnose.ts";
import { agentsEvents } from "./agent-history.ts";
import { DAY_MS, momentText } from "./moment.ts";
import { note } from "./output.ts";

const MOST_EVENTS = 1_000;

/** Notes the newest loss of those that are broken now; nothing without an agent, or when it noted none. */
export async function noteSince(diagnoses: readonly Diagnosis[]): Promise<void> {
  const broken = new Set(diagnoses.filter(({ healthy }) => !healthy).map(({ pod }) => pod));
  const events = await agentsEvents({ since: Date.now() - DAY_MS, kind: "way-out" }, MOST_EVENTS);
  const loss = events?.findLast(({ effects = [] }) =>
    effects.some(({ pod, became }) => became === "broken" && broken.has(pod)),
  );
  if (loss !== undefined) note(sinceText(loss));
}

function sinceText({ at, text, by }: StoredEvent): string {
  const who = by === undefined ? "" : `, ${byCulprit(by)}`;
  return `Since ${momentText(at)}: ${text}${who}. 'wayout history' shows what else changed.`;
}
