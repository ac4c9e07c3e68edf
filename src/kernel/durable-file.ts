/** Files that are whole at every moment: a reader, a crash or a full disk meets the old text or the new, never half. */
import { closeSync, fsyncSync, openSync, readdirSync, renameSync, rmSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { identify } from "./process.ts";
import { BESIDE } from "../naming/names.ts";

/**
 * Puts `text` in place of what the file held: written beside it, brought to the disk, renamed. On failure (ENOSPC,
 * EDQUOT) the old text stands and nothing is left beside it. The directory must exist.
 * @throws Node's error
 */
export function replaceFile(path: string, text: string, mode = 0o644): void {
  sweepBeside(path);
  const beside = `${path}${BESIDE}${process.pid}`;
  try {
    writeWhole(beside, text, mode);
    renameSync(beside, path);
  } catch (error) {
    rmSync(beside, { force: true });
    throw error;
  }
  // The new name itself must survive a power cut, too (fsync(2)).
  const directory = openSync(dirname(path), "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/** Removes the file, and what writers of it left who were killed before it was whole. */
export function removeReplaced(path: string): void {
  rmSync(path, { force: true });
  sweepBeside(path);
}

/** What writers of this file left beside it when they were killed. One that still runs is at work. */
export function sweepBeside(path: string): void {
  const prefix = `${basename(path)}${BESIDE}`;
  for (const name of namesIn(dirname(path))) {
    if (!name.startsWith(prefix)) continue;
    const pid = Number(name.slice(prefix.length));
    if (pid !== process.pid && identify(pid) === undefined)
      rmSync(join(dirname(path), name), { force: true });
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    // It is missing or not ours to read: what is to be written there tells more.
    return [];
  }
}

function writeWhole(path: string, text: string, mode: number): void {
  const bytes = Buffer.from(text);
  const fd = openSync(path, "w", mode);
  try {
    for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
