/** `doctor --watch`: looks again and again, and tells what changed. */
import type { Diagnosis } from "../doctor/diagnose.ts";
import { transitions, type Transition } from "../doctor/transitions.ts";
import { Interruption } from "./interruption.ts";
import { manyText } from "./doctor-report.ts";
import { style } from "./style.ts";

/** How long to wait between two looks: a look costs tens of milliseconds. */
const PAUSE_MS = 2_000;
const SLICE_MS = 100;

/** Ends with Ctrl-C. */
export async function watchDoctor(look: () => readonly Diagnosis[], json: boolean): Promise<void> {
  using stop = new Interruption();
  let before = look();
  if (json) print({ at: new Date().toISOString(), pods: before });
  else process.stdout.write(manyText(before));
  while (!(await pause(stop))) {
    const now = look();
    for (const change of transitions(before, now)) {
      if (json) print({ at: new Date().toISOString(), ...change });
      else
        process.stdout.write(`${style.quiet(new Date().toTimeString().slice(0, 8))} ${changeText(change)}\n`);
    }
    before = now;
  }
}

/** Waits between two looks; true as soon as somebody wants to stop. */
async function pause(stop: Interruption): Promise<boolean> {
  for (let waited = 0; waited < PAUSE_MS; waited += SLICE_MS) {
    if (await stop.happened()) return true;
    await Bun.sleep(SLICE_MS);
  }
  return stop.happened();
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function changeText({ kind, pod, text }: Transition): string {
  const mark = {
    broken: style.bad("✗"),
    warned: style.warn("!"),
    mended: style.good("✓"),
    gone: "–",
    came: "+",
  }[kind];
  return `${mark} ${style.strong(pod)} ${text}`;
}
