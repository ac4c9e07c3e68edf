/** What changed between two looks at the same pods. */
import type { Diagnosis } from "./diagnose.ts";

export interface Transition {
  readonly kind: "broken" | "warned" | "mended" | "came" | "gone";
  readonly pod: string;
  readonly text: string;
}

/** Findings are the same when their code and their sentence are. */
export function transitions(before: readonly Diagnosis[], now: readonly Diagnosis[]): Transition[] {
  const changes: Transition[] = [];
  const old = new Map(before.map((one) => [one.pod, one]));
  for (const { pod, findings, answer } of now) {
    const last = old.get(pod);
    old.delete(pod);
    if (last === undefined) {
      changes.push({ kind: "came", pod, text: answer });
      continue;
    }
    const key = ({ code, text }: { code: string; text: string }): string => `${code} ${text}`;
    const had = new Set(last.findings.map(key));
    const has = new Set(findings.map(key));
    for (const one of last.findings) {
      if (!has.has(key(one))) changes.push({ kind: "mended", pod, text: `no more: ${one.text}` });
    }
    for (const one of findings) {
      if (!had.has(key(one)))
        changes.push({ kind: one.stopsTraffic ? "broken" : "warned", pod, text: one.text });
    }
  }
  for (const pod of old.keys()) changes.push({ kind: "gone", pod, text: "is gone" });
  return changes;
}
