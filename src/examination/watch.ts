/** Looking again whenever something changes, and now and then; what became different comes out as it happens. */
import { transitions, type Transition } from "../doctor/transitions.ts";
import { messageOf } from "../error.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import { ChangeWatch } from "../snapshot/change-watch.ts";
import { examine, type Examination, type ExaminationRequest } from "./examine.ts";

/** Settings and failing neighbours announce nothing: they are found by looking again after this, */
const PAUSE_MS = 2_000;
/** or, where a look takes long, after this many times as long. */
const REST = 10;
const SLICE_MS = 100;

/** The first look as a whole, then each change. */
export type WatchEvent =
  | { readonly kind: "began"; readonly examination: Examination }
  | { readonly kind: "changed"; readonly transition: Transition };

/** Goes on until `signal` is aborted. @throws what the first look throws; a later one that fails is a transition */
export async function* watch(request: ExaminationRequest, signal: AbortSignal): AsyncGenerator<WatchEvent> {
  let before = examine(request);
  yield { kind: "began", examination: before };
  using watches = new Watches(request.pod !== undefined);
  watches.follow(before);
  let lastMs = 0;
  let trouble = "";
  while (!(await pause(signal, watches, Math.max(PAUSE_MS, REST * lastMs)))) {
    const began = performance.now();
    const changes: Transition[] = [];
    try {
      const now = examine(request);
      watches.follow(now);
      changes.push(...transitions(before.diagnoses, now.diagnoses));
      before = now;
      trouble = "";
    } catch (error) {
      // A pod that goes may come back.
      const said = messageOf(error);
      if (said !== trouble) changes.push({ kind: "gone", pod: before.diagnoses[0]?.pod ?? "", text: said });
      trouble = said;
    }
    lastMs = performance.now() - began;
    for (const transition of changes) yield { kind: "changed", transition };
  }
}

/** The namespaces that tell when something changes in them. */
class Watches implements Disposable {
  readonly #open = new Map<number, ChangeWatch>();

  /** @param single whether it is about one pod, whose own namespace is then watched, too */
  constructor(private readonly single: boolean) {}

  /** Watches what was looked at, and no longer what has been made anew since. */
  follow({ snapshot, diagnoses }: Examination): void {
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

/** Waits until the next look is due; true when the user wants to stop. A change that has begun is finished first. */
async function pause(signal: AbortSignal, watches: Watches, longestMs: number): Promise<boolean> {
  let changing = false;
  for (let waited = 0; waited < longestMs && !signal.aborted; waited += SLICE_MS) {
    await Bun.sleep(SLICE_MS);
    const changed = watches.changed();
    if (changing && !changed) break;
    changing = changing || changed;
  }
  return signal.aborted;
}
