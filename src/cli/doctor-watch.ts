/** `doctor --watch`: looks whenever something changes, and now and then; tells what became different. */
import { transitions, type Transition } from "../doctor/transitions.ts";
import { messageOf } from "../error.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import { ChangeWatch } from "../snapshot/change-watch.ts";
import type { Examined } from "./doctor.ts";
import { manyText } from "./doctor-report.ts";
import { Interruption } from "./interruption.ts";
import { printJsonLine, tell } from "./output.ts";
import { style } from "./style.ts";

/** Settings and failing neighbours announce nothing: they are found by looking again after this, */
const PAUSE_MS = 2_000;
/** or, where a look takes long, after this many times as long. */
const REST = 10;
const SLICE_MS = 100;

/** Ends with Ctrl-C. @param single whether it is about one pod, whose own namespace is then watched, too */
export async function watchDoctor(look: () => Examined, json: boolean, single: boolean): Promise<void> {
  using stop = new Interruption();
  const first = look();
  let before = first.diagnoses;
  if (json) printJsonLine({ at: new Date().toISOString(), pods: before });
  else tell(manyText, before);
  using watches = new Watches(single);
  watches.follow(first);
  let lastMs = 0;
  let trouble = "";
  while (!(await pause(stop, watches, Math.max(PAUSE_MS, REST * lastMs)))) {
    const began = performance.now();
    try {
      const examined = look();
      watches.follow(examined);
      for (const change of transitions(before, examined.diagnoses)) tellChange(change, json);
      before = examined.diagnoses;
      trouble = "";
    } catch (error) {
      // A pod that goes may come back.
      const said = messageOf(error);
      if (said !== trouble) tellChange({ kind: "gone", pod: before[0]?.pod ?? "", text: said }, json);
      trouble = said;
    }
    lastMs = performance.now() - began;
  }
}

/** The namespaces that tell when something changes in them. */
class Watches implements Disposable {
  readonly #open = new Map<number, ChangeWatch>();

  constructor(private readonly single: boolean) {}

  /** Watches what was looked at, and no longer what has been made anew since. */
  follow({ snapshot, diagnoses }: Examined): void {
    const pod = snapshot.pods.find((one) => one.name === diagnoses[0]?.pod)?.state;
    const states = [snapshot.node, ...(this.single && pod !== undefined ? [pod] : [])];
    for (const [inode, watch] of this.#open) {
      if (states.some((state) => state.inode === inode)) continue;
      watch.close();
      this.#open.delete(inode);
    }
    for (const { inode, path } of states) {
      if (this.#open.has(inode)) continue;
      using namespace = path === undefined ? NetworkNamespace.current() : NetworkNamespace.open(path);
      this.#open.set(inode, new ChangeWatch(namespace));
    }
  }

  changed(): boolean {
    return [...this.#open.values()].filter((watch) => watch.changed()).length > 0;
  }

  [Symbol.dispose](): void {
    for (const watch of this.#open.values()) watch.close();
  }
}

/** Waits until the next look is due; true as soon as somebody wants to stop. A change is let come to its end. */
async function pause(stop: Interruption, watches: Watches, longestMs: number): Promise<boolean> {
  let changing = false;
  for (let waited = 0; waited < longestMs; waited += SLICE_MS) {
    if (await stop.happened()) return true;
    await Bun.sleep(SLICE_MS);
    const changed = watches.changed();
    if (changing && !changed) break;
    changing = changing || changed;
  }
  return stop.happened();
}

function tellChange(change: Transition, json: boolean): void {
  if (json) printJsonLine({ at: new Date().toISOString(), ...change });
  else tell(changeText, change);
}

function changeText({ kind, pod, text }: Transition): string {
  const mark = {
    broken: style.bad("✗"),
    warned: style.warn("!"),
    mended: style.good("✓"),
    gone: "–",
    came: "+",
  }[kind];
  // Answers begin with the pod's name already.
  const said = text.startsWith(`${pod} `) ? text.slice(pod.length + 1) : text;
  return `${style.quiet(new Date().toTimeString().slice(0, 8))} ${mark} ${style.strong(pod)} ${said}\n`;
}
