/** `doctor --fix`: shows each change, asks, makes it, looks again. */
import { createInterface } from "node:readline/promises";
import type { Diagnosis } from "../doctor/diagnose.ts";
import type { Fix } from "../doctor/finding.ts";
import { messageOf } from "../error.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import { carryOut } from "../repair/repair.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import type { DoctorOptions } from "./doctor.ts";
import { tell, tellAside } from "./output.ts";
import { style } from "./style.ts";

interface Step {
  readonly pod: string;
  readonly fix: Fix;
}

/** At most this many rounds: behind one cause there may stand another. */
const MOST_ROUNDS = 5;

/**
 * Mends what is ours, round by round, and returns the last look; undefined when there was nothing to mend or nobody
 * agreed. What belongs to others stays a printed command.
 */
export async function applyFixes(
  snapshot: Snapshot,
  diagnoses: readonly Diagnosis[],
  options: DoctorOptions,
  look: () => readonly Diagnosis[],
): Promise<readonly Diagnosis[] | undefined> {
  let current = diagnoses;
  let changed = false;
  const done = new Set<string>();
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const steps = stepsOf(current).filter(({ fix }) => !done.has(fix.command));
    if (steps.length === 0) break;
    let made = false;
    for (const step of steps) {
      if (!(await agreed(step.fix, options))) continue;
      done.add(step.fix.command);
      made = mend(snapshot, step) || made;
    }
    if (!made) break;
    changed = true;
    current = look();
    if (current.every((one) => one.healthy)) break;
  }
  return changed ? current : undefined;
}

/** Changes of ours, each once, those of stopping causes. */
function stepsOf(diagnoses: readonly Diagnosis[]): Step[] {
  const steps = new Map<string, Step>();
  for (const { pod, findings } of diagnoses) {
    for (const finding of findings) {
      if (!finding.stopsTraffic) continue;
      for (const fix of finding.fix) if (fix.repair !== undefined) steps.set(fix.command, { pod, fix });
    }
  }
  return [...steps.values()];
}

async function agreed(fix: Fix, { yes, json }: DoctorOptions): Promise<boolean> {
  if (json !== true) tell((line) => `${style.hint("→")} ${style.command(line)}\n`, fix.command);
  if (yes === true) return true;
  if (!process.stdin.isTTY) return false;
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test(await lines.question("  do it? [y/N] "));
  } finally {
    lines.close();
  }
}

function mend(snapshot: Snapshot, { pod: name, fix }: Step): boolean {
  const path = snapshot.pods.find((one) => one.name === name)?.state?.path;
  try {
    using node = open(snapshot.node.path);
    using pod = open(path);
    carryOut(fix.repair!, { node, pod });
    tellAside(() => `  ${style.good("✓")} done\n`);
    return true;
  } catch (error) {
    tellAside((said) => `  ${style.bad("✗")} ${said}\n`, messageOf(error));
    return false;
  }
}

function open(path: string | undefined): NetworkNamespace {
  return path === undefined ? NetworkNamespace.current() : NetworkNamespace.open(path);
}
