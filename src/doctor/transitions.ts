/** What changed between two looks at the same pods. */
import { placeInOrder } from "../causes/catalogue/all.ts";
import type { Diagnosis } from "./diagnose.ts";
import type { Finding } from "./finding.ts";

export interface Transition {
  readonly kind: "broken" | "warned" | "mended" | "came" | "gone";
  readonly pod: string;
  readonly text: string;
}

/** What must be known of a diagnosis to tell what became different. */
export interface Verdict extends Pick<Diagnosis, "pod" | "healthy" | "answer"> {
  readonly findings: readonly VerdictFinding[];
}
export type VerdictFinding = Pick<Finding, "code" | "text" | "stopsTraffic">;

export function transitions(before: readonly Verdict[], now: readonly Verdict[]): Transition[] {
  const changes: Transition[] = [];
  const old = new Map(before.map((one) => [one.pod, one]));
  for (const diagnosis of now) {
    const { pod, answer } = diagnosis;
    const last = old.get(pod);
    old.delete(pod);
    if (last === undefined) changes.push({ kind: "came", pod, text: answer });
    else changes.push(...ofPod(last, diagnosis));
  }
  for (const pod of old.keys()) changes.push({ kind: "gone", pod, text: "is gone" });
  return changes;
}

function ofPod(last: Verdict, { pod, findings, healthy, answer }: Verdict): Transition[] {
  const changes: Transition[] = [];
  const nearest = Math.min(
    ...findings.filter((one) => one.stopsTraffic).map(({ code }) => placeInOrder(code)),
  );
  for (const one of last.findings) {
    if (isAmong(findings, one, last.findings)) continue;
    // Behind a place where packets end now, nobody can tell that it is better.
    if (placeInOrder(one.code) < nearest) changes.push({ kind: "mended", pod, text: `no more: ${one.text}` });
  }
  for (const one of findings) {
    if (isAmong(last.findings, one, findings)) continue;
    changes.push({ kind: one.stopsTraffic ? "broken" : "warned", pod, text: one.text });
  }
  if (healthy && !last.healthy) changes.push({ kind: "mended", pod, text: answer });
  return changes;
}

/**
 * The only finding of a code stays the same one when its sentence changes: it holds numbers that count on. Of several
 * the sentence tells which.
 */
function isAmong(
  others: readonly VerdictFinding[],
  one: VerdictFinding,
  own: readonly VerdictFinding[],
): boolean {
  const alike = others.filter(
    ({ code, stopsTraffic }) => code === one.code && stopsTraffic === one.stopsTraffic,
  );
  const twins = own.filter(({ code }) => code === one.code);
  if (alike.length === 1 && twins.length === 1) return true;
  return alike.some(({ text }) => text === one.text);
}
