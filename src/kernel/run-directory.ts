/** Where wayout keeps its locks, and what it has to remember until the next boot. */

/** Of the machine's root, and of users with a /run of their own. */
export const ROOTS_RUN_DIRECTORY = "/run/wayout";

let directory = ROOTS_RUN_DIRECTORY;

export function runDirectory(): string {
  return directory;
}

/** For own-run-directory.ts alone. */
export function setRunDirectory(path: string): void {
  directory = path;
}
