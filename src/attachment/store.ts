/**
 * Where the attachments of each node are remembered: /run/wayout/attachments/<cookie>.json. The kernel forgets bridges,
 * rules and namespaces at a reboot, and /run forgets with it.
 */
import { command } from "../text/command.ts";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import * as v from "valibot";
import { messageOf, WayoutError } from "../error.ts";
import { replaceFile } from "../kernel/durable-file.ts";
import { FileLock } from "../kernel/file-lock.ts";
import { removeIfEmpty } from "../kernel/file.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { EMPTY, nodeRecord, type NodeRecord } from "./record.ts";

const DIRECTORY = "/run/wayout/attachments";
/** How long a command waits for another one that is at work; each takes a fraction of a second. */
const PATIENCE_MS = 20_000;
const PAUSE_MS = 15;

/** The records of one node. */
export class AttachmentStore {
  readonly path: string;

  constructor(node: NetworkNamespace) {
    this.path = `${DIRECTORY}/${node.cookie}.json`;
  }

  /** @throws WayoutError bad-record when the file is not one of ours */
  read(): NodeRecord {
    let text: string;
    try {
      text = readFileSync(this.path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return EMPTY;
      throw error;
    }
    try {
      return v.parse(nodeRecord, JSON.parse(text));
    } catch (error) {
      throw new WayoutError({
        code: "bad-record",
        kind: "broken",
        doing: `reading ${this.path}`,
        said: messageOf(error),
        todo: "It lists what 'wayout attach' made. Move it away only after taking that down by hand.",
        cause: error,
      });
    }
  }

  /**
   * Remembers; a record without anything to remember is removed. Only under the lock.
   * @throws WayoutError record-not-written; then the old record stands
   */
  write(record: NodeRecord): void {
    try {
      if (record.attachments.length === 0 && record.networks.length === 0) rmSync(this.path, { force: true });
      else replaceFile(this.path, `${JSON.stringify(record, null, 2)}\n`);
    } catch (error) {
      throw new WayoutError({
        code: "record-not-written",
        kind: "machine",
        doing: `writing ${this.path}`,
        said: messageOf(error),
        todo: "Make room under /run: nothing is made or changed that could not be remembered.",
        cause: error,
      });
    }
  }

  /**
   * Runs `work` while no other command changes attachments. Waiting lets signals through; `work` is synchronous, so
   * that none can cut it in two.
   * @param signal ends the waiting
   * @throws WayoutError attachments-busy, interrupted, no-privilege
   */
  async locked<T>(doing: string, work: () => T, signal?: AbortSignal): Promise<T> {
    const lock = await this.#take(doing, signal);
    try {
      return work();
    } finally {
      lock.remove();
      removeIfEmpty(DIRECTORY);
      removeIfEmpty(dirname(DIRECTORY));
    }
  }

  async #take(doing: string, signal: AbortSignal | undefined): Promise<FileLock> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      if (signal?.aborted === true) {
        throw new WayoutError({
          code: "interrupted",
          kind: "broken",
          doing,
          said: "interrupted while it waited for another command; nothing was done",
        });
      }
      const lock = this.#try(doing);
      if (lock !== undefined) return lock;
      if (performance.now() > deadline) {
        throw new WayoutError({
          code: "attachments-busy",
          kind: "broken",
          doing,
          said: `another command has held ${this.path}.lock for ${PATIENCE_MS / 1000} s`,
          todo: `${command`fuser ${this.path}.lock` ?? "fuser"} names its process.`,
        });
      }
      await Bun.sleep(PAUSE_MS);
    }
  }

  #try(doing: string): FileLock | undefined {
    try {
      mkdirSync(DIRECTORY, { recursive: true });
      return FileLock.take(`${this.path}.lock`, "try");
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // The last holder removed the empty directory between our two calls.
      if (code === "ENOENT") return undefined;
      if (code !== "EACCES" && code !== "EPERM" && code !== "EROFS") throw error;
      throw new WayoutError({
        code: "no-privilege",
        kind: "machine",
        doing,
        said: `this user may not write to ${DIRECTORY} (${code})`,
        todo: "Run it as root.",
        cause: error,
      });
    }
  }
}
