/** The lab under the page: what is broken in it on purpose, and its story. */
import type { LabStatus } from "../../lab/up-and-down.ts";
import type { StoryReport } from "../../lab/story.ts";
import { ask } from "./ask.ts";
import { Keeper } from "./kept.ts";
import { lookAgain } from "./looking.ts";

/** As `wayout lab break --list --json` has it. */
interface LabFault {
  readonly name: string;
  readonly title: string;
}

export const lab = new Keeper<LabStatus>();
export const faults = new Keeper<readonly LabFault[]>();
export const story = new Keeper<StoryReport>();

export async function readLab(): Promise<void> {
  await Promise.all([
    lab.ask((signal) => ask("/v1/lab", { signal })),
    faults.ask((signal) => ask("/v1/lab/faults", { signal })),
  ]);
}

/** Breaks, or mends; everything, or a surprise, when no fault is named. */
export async function act(word: "break" | "mend", fault?: string): Promise<void> {
  await lab.ask(async (signal) => {
    await ask(`/v1/lab/${word}`, { method: "POST", parameters: { fault }, signal });
    return ask<LabStatus>("/v1/lab", { signal });
  });
  lookAgain();
}

export function playStory(): Promise<void> {
  return story.ask((signal) => ask("/v1/lab/story", { method: "POST", signal }), true);
}
