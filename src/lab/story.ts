/**
 * Room `lab/`: the article as a play: chapters, each with the command a person would type, what should happen, what
 * did happen (measured) and the evidence read from the kernel. The process that acts it runs in throw-away namespaces;
 * it reports what happens as events, one JSON object a line, to the process that shows it.
 *
 * In: a chapter to run, a fault to make or undo.
 * Out: events of the story; a lab that stays up (up-and-down.ts).
 * Touches: namespaces of its own; for a lab that stays, four names under /run/netns and /run/wayout/lab.json.
 */
import { writeSync } from "node:fs";
import { messageOf, WayoutError, type ErrorParts } from "../error.ts";

/** Something the kernel says. `source` is where it was read, in words a person could repeat. */
export interface StoryEvidence {
  readonly source: string;
  readonly lines: readonly string[];
}

/** One thing tried. `ok` tells whether what was found is what was expected. */
export interface StoryStep {
  /** Where the command is typed: a namespace's name. */
  readonly where: string;
  /** What a person would type there. */
  readonly command: string;
  readonly expected: string;
  readonly found: string;
  readonly ok: boolean;
  readonly evidence: readonly StoryEvidence[];
}

export interface ChapterHead {
  readonly number: number;
  readonly title: string;
  /** Two or three sentences that say what this is about. */
  readonly intro: string;
}

export interface ChapterReport extends ChapterHead {
  readonly steps: readonly StoryStep[];
}

/** What `wayout lab --json` prints. */
export interface StoryReport {
  readonly ok: boolean;
  readonly wallMs: number;
  readonly chapters: readonly ChapterReport[];
}

export type StoryEvent =
  | ({ readonly type: "chapter" } & ChapterHead)
  | ({ readonly type: "step" } & StoryStep)
  /** The world itself cannot be had here: there is no story. */
  | ({ readonly type: "impossible" } & Omit<ErrorParts, "cause">)
  | { readonly type: "done" };

/** A chapter to act: `act` does things in a world of type W and reports them as steps. */
export interface Chapter<W> extends ChapterHead {
  /** Later chapters stand on what this one does: when it fails, the story ends with it. */
  readonly needed?: true;
  readonly act: (world: W, report: (step: StoryStep) => void) => void | Promise<void>;
}

/**
 * Acts chapters in order. A chapter that fails unexpectedly becomes a step that is not ok, and the play goes on; but not
 * past one that others need: what they would find says nothing.
 */
export async function act<W>(
  chapters: readonly Chapter<W>[],
  world: W,
  tell: (event: StoryEvent) => void,
): Promise<void> {
  for (const [index, chapter] of chapters.entries()) {
    const { number, title, intro } = chapter;
    let ok = true;
    const report = (step: StoryStep): void => {
      ok &&= step.ok;
      tell({ type: "step", ...step });
    };
    tell({ type: "chapter", number, title, intro });
    try {
      await chapter.act(world, report);
    } catch (error) {
      report(ownStep(title, "the chapter runs to its end", messageOf(error)));
    }
    const later = chapters.slice(index + 1);
    if (ok || chapter.needed !== true || later.length === 0) continue;
    const numbers = later.map((one) => one.number).join(", ");
    report(ownStep(`chapters ${numbers}`, "later steps depend on this one", "not told: this one failed"));
    return;
  }
  tell({ type: "done" });
}

/** A step that is about the story itself, and went wrong. */
function ownStep(command: string, expected: string, found: string): StoryStep {
  return { where: "wayout", command, expected, found, ok: false, evidence: [] };
}

/** Tells events through a pipe, each in one write. */
export function tellThrough(fd: number): (event: StoryEvent) => void {
  return (event) => {
    const line = Buffer.from(`${JSON.stringify(event)}\n`);
    for (let at = 0; at < line.length;) at += writeSync(fd, line, at);
  };
}

/** Collects events into a report. */
export class StoryRecord {
  readonly #chapters: { head: ChapterHead; steps: StoryStep[] }[] = [];
  readonly #began = performance.now();
  #done = false;
  #impossible: WayoutError | undefined;

  add(event: StoryEvent): void {
    switch (event.type) {
      case "chapter": {
        const { number, title, intro } = event;
        this.#chapters.push({ head: { number, title, intro }, steps: [] });
        break;
      }
      case "step": {
        const { type: _type, ...step } = event;
        this.#chapters.at(-1)?.steps.push(step);
        break;
      }
      case "impossible": {
        const { type: _type, ...parts } = event;
        this.#impossible = new WayoutError(parts);
        break;
      }
      case "done":
        this.#done = true;
        break;
    }
  }

  /** @throws WayoutError when the world could not be had */
  report(): StoryReport {
    if (this.#impossible !== undefined) throw this.#impossible;
    const chapters = this.#chapters.map(({ head, steps }) => ({ ...head, steps }));
    const steps = chapters.flatMap((chapter) => chapter.steps);
    return {
      ok: this.#done && steps.length > 0 && steps.every((step) => step.ok),
      wallMs: Math.round(performance.now() - this.#began),
      chapters,
    };
  }
}
