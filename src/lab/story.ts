/**
 * The article as a play: chapters, each with the command a person would type, what should happen, what did happen
 * (measured) and the evidence read from the kernel. The process that acts it lives in throw-away namespaces; it tells
 * what happens as events, one JSON object a line, to the process that shows it.
 */
import { writeSync } from "node:fs";
import { messageOf } from "../error.ts";

/** Something the kernel says. `source` is where it was read, in words a person could repeat. */
export interface Evidence {
  readonly source: string;
  readonly lines: readonly string[];
}

/** One thing tried. `ok` tells whether what was found is what was expected. */
export interface Step {
  /** Where the command is typed: a namespace's name. */
  readonly where: string;
  /** What a person would type there. */
  readonly command: string;
  readonly expected: string;
  readonly found: string;
  readonly ok: boolean;
  readonly evidence: readonly Evidence[];
}

export interface ChapterHead {
  readonly number: number;
  readonly title: string;
  /** Two or three sentences that say what this is about. */
  readonly intro: string;
}

export interface ChapterReport extends ChapterHead {
  readonly steps: readonly Step[];
}

/** What `wayout lab --json` prints. */
export interface StoryReport {
  readonly ok: boolean;
  readonly wallMs: number;
  readonly chapters: readonly ChapterReport[];
}

export type StoryEvent =
  | ({ readonly type: "chapter" } & ChapterHead)
  | ({ readonly type: "step" } & Step)
  | { readonly type: "done" };

/** A chapter to act: `act` does things in a world of type W and reports them as steps. */
export interface Chapter<W> extends ChapterHead {
  readonly act: (world: W, report: (step: Step) => void) => void | Promise<void>;
}

/**
 * Acts chapters in order. A chapter that fails unexpectedly becomes a step that is not ok, and the play goes on: later
 * chapters may fail too, but the world is always taken down.
 */
export async function act<W>(
  chapters: readonly Chapter<W>[],
  world: W,
  tell: (event: StoryEvent) => void,
): Promise<void> {
  for (const chapter of chapters) {
    const { number, title, intro } = chapter;
    tell({ type: "chapter", number, title, intro });
    try {
      await chapter.act(world, (step) => tell({ type: "step", ...step }));
    } catch (error) {
      tell({
        type: "step",
        where: "wayout",
        command: title,
        expected: "the chapter runs to its end",
        found: messageOf(error),
        ok: false,
        evidence: [],
      });
    }
  }
  tell({ type: "done" });
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
  readonly #chapters: { head: ChapterHead; steps: Step[] }[] = [];
  readonly #began = performance.now();
  #done = false;

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
      case "done":
        this.#done = true;
        break;
    }
  }

  report(): StoryReport {
    const chapters = this.#chapters.map(({ head, steps }) => ({ ...head, steps }));
    const steps = chapters.flatMap((chapter) => chapter.steps);
    return {
      ok: this.#done && steps.length > 0 && steps.every((step) => step.ok),
      wallMs: Math.round(performance.now() - this.#began),
      chapters,
    };
  }
}
