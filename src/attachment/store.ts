/**
 * Where the attachments of each node are remembered: /run/wayout/attachments/<cookie>.json. The kernel forgets bridges,
 * rules and namespaces at a reboot, and /run forgets with it.
 */
import { readFileSync } from "node:fs";
import * as v from "valibot";
import { codeOf, isRefusal, messageOf, WayoutError } from "../error.ts";
import { removeReplaced, replaceFile } from "../kernel/durable-file.ts";
import { FileLock } from "../kernel/file-lock.ts";
import { fileVersion, makeDirectory, removeIfEmpty } from "../kernel/file.ts";
import { queueFor } from "../kernel/lock-queue.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { lockFailure, obstacleAt, placeFailure } from "../kernel/own-place.ts";
import { runDirectory } from "../kernel/run-directory.ts";
import { requireSharedRun } from "../kernel/shared-run.ts";
import { inNatQueue } from "../nat/lock.ts";
import { EMPTY, nodeRecord, type NodeRecord } from "./record.ts";

/** How long a command waits for one that is at work; each takes a fraction of a second. */
const TIMEOUT_MS = 20_000;
const NO_ROOM = "Make room under /run: wayout changes nothing that it cannot record.";

/** The records of one node. */
export class AttachmentStore {
  readonly path: string;
  readonly #directory = `${runDirectory()}/attachments`;

  constructor(private readonly node: NetworkNamespace) {
    this.path = `${this.#directory}/${node.cookie}.json`;
  }

  /** Another text when the record may be another one. */
  get version(): string {
    return fileVersion(this.path);
  }

  /** @throws WayoutError bad-record when the file is not one of ours */
  read(): NodeRecord {
    let text: string;
    try {
      text = readFileSync(this.path, "utf8");
    } catch (error) {
      if (codeOf(error) === "ENOENT" && obstacleAt(this.path, "file") === undefined) return EMPTY;
      if (isRefusal(error)) throw error;
      throw this.#failure("bad-record", `reading ${this.path}`, error, "See what keeps it from being read.");
    }
    try {
      return v.parse(nodeRecord, JSON.parse(text));
    } catch (error) {
      throw new WayoutError({
        code: "bad-record",
        kind: "broken",
        doing: `reading ${this.path}`,
        said: messageOf(error),
        todo: "It lists what 'wayout attach' made. Delete those objects by hand before you move the file away.",
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
      if (record.attachments.length === 0 && record.networks.length === 0) removeReplaced(this.path);
      else {
        // The lock made it, unless /run is read-only or full: then this is what says so.
        makeDirectory(this.#directory, 0o755);
        replaceFile(this.path, `${JSON.stringify(record, null, 2)}\n`);
      }
    } catch (error) {
      throw this.#failure("record-not-written", `writing ${this.path}`, error, NO_ROOM);
    }
  }

  /**
   * Runs `work` while no other command changes attachments, or the NAT of this node. Who came first is served first.
   * Waiting lets signals through; `work` is synchronous, so that none can cut it in two.
   * @param signal ends the waiting
   * @throws WayoutError busy, interrupted, run-not-shared, run-not-ours, no-privilege
   */
  async locked<T>(doing: string, work: () => T, signal?: AbortSignal): Promise<T> {
    requireSharedRun(this.node, doing);
    const lock = await this.#queue(doing, signal);
    try {
      return await inNatQueue(this.node, doing, work, signal);
    } finally {
      lock.remove();
      removeIfEmpty(this.#directory);
      removeIfEmpty(runDirectory());
    }
  }

  /** The same at once, or not at all: undefined while another command is at work. */
  ifUnlocked<T>(work: () => T): T | undefined {
    const lock = FileLock.try(`${this.path}.lock`);
    if (lock === undefined) return undefined;
    try {
      return work();
    } finally {
      lock.remove();
    }
  }

  async #queue(doing: string, signal: AbortSignal | undefined): Promise<FileLock> {
    const lock = `${this.path}.lock`;
    try {
      return await queueFor(lock, { doing, timeoutMs: TIMEOUT_MS, signal });
    } catch (error) {
      throw lockFailure(lock, doing, error, "record-not-written");
    }
  }

  #failure(code: string, doing: string, error: unknown, todo: string): WayoutError {
    const told = placeFailure(this.path, "file", error, todo);
    return new WayoutError({ code, kind: "machine", doing, ...told, cause: error });
  }
}
