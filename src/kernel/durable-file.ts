/** Files that are whole at every moment: a reader, a crash or a full disk meets the old text or the new, never half. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Puts `text` in place of what the file held: written beside it, brought to the disk, renamed. On failure (ENOSPC,
 * EDQUOT) the old text stands and nothing is left beside it. The directory must exist.
 * @throws Node's error
 */
export function replaceFile(path: string, text: string, mode = 0o644): void {
  const beside = `${path}.new-${process.pid}`;
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
