/** Mending what the doctor found, step by step: each change is confirmed by the caller, made, and looked at again. */
import type { Diagnosis } from "../doctor/diagnose.ts";
import type { Fix } from "../doctor/finding.ts";
import { messageOf, WayoutError } from "../error.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import { requireSharedRun } from "../kernel/shared-run.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import type { Examination } from "./examine.ts";
import { carryOut } from "./repair.ts";

/** One change, for one pod. */
export interface FixStep {
  readonly pod: string;
  readonly fix: Fix;
}

/** Decides about the changes. */
export interface FixAudience {
  /** Whether to make it. */
  confirm(step: FixStep): boolean | Promise<boolean>;
  /** It is made. @param failure what was said, when it is not */
  made(step: FixStep, failure: string | undefined): void;
}

/** At most this many rounds: behind one cause there may stand another. */
const MOST_ROUNDS = 5;

/**
 * Mends what is ours, round by round, and returns the last look; undefined when there was nothing to mend or nothing
 * was confirmed. What belongs to others stays a proposed command.
 */
export async function applyFixes(
  examination: Examination,
  audience: FixAudience,
  look: () => Examination,
): Promise<Examination | undefined> {
  let current = examination;
  const done = new Set<string>();
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const steps = fixSteps(current.diagnoses).filter((step) => !done.has(keyOf(step)));
    let made = false;
    for (const step of steps) {
      if (!(await audience.confirm(step))) continue;
      done.add(keyOf(step));
      const failure = mend(current.snapshot, step);
      audience.made(step, failure);
      made = made || failure === undefined;
    }
    if (!made) break;
    current = look();
    if (current.diagnoses.every((one) => one.healthy)) break;
  }
  return current === examination ? undefined : current;
}

/** Changes of ours, each once, those of stopping causes. */
export function fixSteps(diagnoses: readonly Diagnosis[]): FixStep[] {
  const steps = new Map<string, FixStep>();
  for (const { pod, findings } of diagnoses) {
    for (const finding of findings) {
      if (!finding.stopsTraffic) continue;
      for (const fix of finding.fix) {
        const step = { pod, fix };
        if (fix.repair !== undefined) steps.set(keyOf(step), step);
      }
    }
  }
  return [...steps.values()];
}

/** What changes the node is one change for all pods; what changes a pod is its own. */
function keyOf({ pod, fix }: FixStep): string {
  return JSON.stringify([fix.place === "pod" ? pod : "", fix.repair]);
}

/** What was said when it failed, and what to do about it. */
function mend(snapshot: Snapshot, { pod: name, fix }: FixStep): string | undefined {
  const path = snapshot.pods.find((one) => one.name === name)?.state?.path;
  try {
    using node = open(snapshot.node.path);
    using pod = open(path);
    if (fix.place !== "pod") requireSharedRun(node, "mending the node");
    carryOut(fix.repair!, { node, pod });
    return undefined;
  } catch (error) {
    const todo = error instanceof WayoutError ? error.todo : undefined;
    return todo === undefined ? messageOf(error) : `${messageOf(error)}. ${todo}`;
  }
}

function open(path: string | undefined): NetworkNamespace {
  return path === undefined ? NetworkNamespace.current() : NetworkNamespace.open(path);
}
