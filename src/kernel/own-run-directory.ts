/**
 * Who is root only in a user namespace, with the machine's /run above him, may not write there: what he has to remember
 * lies in his own state folder.
 */
import { ownerOf, removeIfEmpty } from "./file.ts";
import { ROOTS_RUN_DIRECTORY, runDirectory, setRunDirectory } from "./run-directory.ts";

/** At the start of a command. A plugin call is a runtime's, which has a /run. @throws WayoutError `unsafe-state-folder` */
export async function settleRunDirectory(): Promise<void> {
  if (process.geteuid!() !== 0 || [0, undefined].includes(ownerOf("/run"))) return;
  const { StateFolder } = await import("./state-folder.ts");
  using folder = StateFolder.make();
  setRunDirectory(folder.path);
}

/** At its end: a command that had nothing to keep leaves no folder. */
export function leaveRunDirectory(): void {
  if (runDirectory() !== ROOTS_RUN_DIRECTORY) removeIfEmpty(runDirectory());
}
