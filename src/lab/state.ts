/** What a lab that stays up has to remember, and the lock that lets only one command at a time change it. */
import { ROOTS_RUN_DIRECTORY } from "../kernel/run-directory.ts";
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import * as v from "valibot";
import { WayoutError } from "../error.ts";
import { FileLock } from "../kernel/file-lock.ts";
import { removeIfEmpty } from "../kernel/file.ts";
import { lockFailure } from "../kernel/own-place.ts";

const STATE_FILE = `${ROOTS_RUN_DIRECTORY}/lab.json`;
const LOCK_FILE = `${ROOTS_RUN_DIRECTORY}/lab.lock`;

const identity = v.object({ pid: v.number(), start: v.number() });

const schema = v.object({
  version: v.literal(1),
  /** `building`, or being taken down: in a file that stays it means that a run was killed half-way. */
  phase: v.picklist(["building", "up"]),
  /** Namespaces this lab has made, or was about to make. */
  namespaces: v.array(v.string()),
  /** The process that plays the internet's servers. */
  servers: v.optional(identity),
  /** Files and directories made outside the namespaces, to be removed again, in this order. */
  made: v.array(v.string()),
  /** Names of the faults that are in place (`lab break`). */
  faults: v.array(v.string()),
});

export type LabState = v.InferOutput<typeof schema>;

/** The lab that is remembered; undefined when there is none. A file that cannot be understood counts as half-made. */
export function readState(): LabState | undefined {
  let text: string;
  try {
    text = readFileSync(STATE_FILE, "utf8");
  } catch {
    return undefined;
  }
  try {
    return v.parse(schema, JSON.parse(text));
  } catch {
    return { version: 1, phase: "building", namespaces: [], made: [], faults: [] };
  }
}

/** Writes beside and renames, so that a reader, or a crash, never meets half a file. */
export function writeState(state: LabState): void {
  mkdirSync(ROOTS_RUN_DIRECTORY, { recursive: true });
  const beside = `${STATE_FILE}.new`;
  const fd = openSync(beside, "w", 0o644);
  try {
    writeSync(fd, `${JSON.stringify(state, null, 2)}\n`);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(beside, STATE_FILE);
}

export function forgetState(): void {
  rmSync(STATE_FILE, { force: true });
  rmSync(`${STATE_FILE}.new`, { force: true });
}

function takeLock(doing: string): FileLock | undefined {
  try {
    return FileLock.try(LOCK_FILE);
  } catch (error) {
    throw lockFailure(LOCK_FILE, doing, error);
  }
}

/**
 * Runs `work` while no other command changes the lab. Afterwards nothing is left of lock and directory when there is
 * no lab. @throws WayoutError lab-busy
 */
export async function withLabLock<T>(doing: string, work: () => T | Promise<T>): Promise<T> {
  using lock = takeLock(doing)?.sign();
  if (lock === undefined) {
    throw new WayoutError({
      code: "lab-busy",
      kind: "broken",
      doing,
      said: "another 'wayout lab' is building or removing the lab",
      todo: "Wait until it is done; 'wayout lab status' shows its state.",
    });
  }
  try {
    return await work();
  } finally {
    if (!existsSync(STATE_FILE)) {
      // A run that was killed before its first note stood leaves one that was not yet whole.
      forgetState();
      lock.remove();
      removeIfEmpty(ROOTS_RUN_DIRECTORY);
    }
  }
}
