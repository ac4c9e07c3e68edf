/**
 * Where wayout keeps its locks, and what it has to remember until the next boot. Who is root only in a user namespace,
 * with the machine's /run above him, may not write there: what he keeps lies in his own state folder.
 */
import { ownerOf, removeIfEmpty } from "./file.ts";

/** Of the machine's root, and of whoever has a /run of his own. */
export const ROOTS_RUN_DIRECTORY = "/run/wayout";

let directory = ROOTS_RUN_DIRECTORY;

export function runDirectory(): string {
  return directory;
}

/** At the start of a command. A plugin call is a runtime's, which has a /run. @throws WayoutError `unsafe-state-folder` */
export async function settleRunDirectory(): Promise<void> {
  if (process.geteuid!() !== 0 || [0, undefined].includes(ownerOf("/run"))) return;
  const { StateFolder } = await import("./state-folder.ts");
  using folder = StateFolder.make();
  directory = folder.path;
}

/** At its end: a command that had nothing to keep leaves no folder. */
export function leaveRunDirectory(): void {
  if (directory !== ROOTS_RUN_DIRECTORY) removeIfEmpty(directory);
}
