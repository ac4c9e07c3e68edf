/** What many pods have in common: equal findings once, with the pods that have them. Pure. */
import type { Diagnosis } from "../doctor/diagnose.ts";
import type { Finding } from "../doctor/finding.ts";

export interface FindingGroup {
  readonly finding: Finding;
  readonly pods: readonly string[];
}

/** Findings with the same code and the same evidence are one; those that stop most pods come first. */
export function groupFindings(diagnoses: readonly Diagnosis[]): FindingGroup[] {
  const groups = new Map<string, { finding: Finding; pods: string[] }>();
  for (const { pod, findings } of diagnoses) {
    for (const finding of findings) {
      // The pod's own name and address differ; what is wrong does not.
      const fixed = finding.evidence.filter(
        ({ source }) => !source.includes(pod) && !source.includes("packet"),
      );
      const key = JSON.stringify([finding.code, finding.owner, fixed]);
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { finding, pods: [pod] });
      else group.pods.push(pod);
    }
  }
  return [...groups.values()].sort(
    (a, b) =>
      Number(b.finding.stopsTraffic) - Number(a.finding.stopsTraffic) || b.pods.length - a.pods.length,
  );
}
