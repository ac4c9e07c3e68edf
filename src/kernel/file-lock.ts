/** Locks between processes: flock(2) on a file. The kernel lets go of it when the process ends, however it ends. */
import { closeSync, fstatSync, openSync, rmSync, statSync } from "node:fs";
import * as libc from "./libc.ts";

const LOCK_EX = 2;
const LOCK_NB = 4;

export class FileLock implements Disposable {
  #fd: number;

  private constructor(
    fd: number,
    readonly path: string,
  ) {
    this.#fd = fd;
  }

  /**
   * Takes the lock, making the file when it is missing; its directory must exist.
   * @param patience `wait` until the holder lets go, or `try` and get undefined when somebody holds it
   * @throws Node's error when the file cannot be opened
   */
  static take(path: string, patience: "wait"): FileLock;
  static take(path: string, patience: "try"): FileLock | undefined;
  static take(path: string, patience: "wait" | "try"): FileLock | undefined {
    for (;;) {
      const fd = openSync(path, "a+", 0o644);
      let current = false;
      try {
        if (!libc.flock(fd, LOCK_EX | (patience === "try" ? LOCK_NB : 0))) {
          closeSync(fd);
          return undefined;
        }
        current = isFileAt(path, fd);
      } catch (error) {
        closeSync(fd);
        throw error;
      }
      if (current) return new FileLock(fd, path);
      // The holder removed the file while we waited: our lock guards nothing that others look at.
      closeSync(fd);
    }
  }

  /** Lets go and takes the file away, so that nothing is left. Those who wait for it begin anew with a fresh file. */
  remove(): void {
    if (this.#fd >= 0) rmSync(this.path, { force: true });
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}

function isFileAt(path: string, fd: number): boolean {
  try {
    return statSync(path).ino === fstatSync(fd).ino;
  } catch {
    return false;
  }
}
