/**
 * Locks between processes: flock(2) on files that only their owner may open, so that nobody else can hold them. The
 * kernel lets go of them when the process ends, however it ends. Who holds one alone is written in it. Every wait ends:
 * with the lock, with an error that names the holder, or with a signal.
 */
import { rethrowMistake, WayoutError } from "../error.ts";
import { SystemError } from "../linux/errno.ts";
import { platform } from "#platform";
import {
  closeFile,
  isMissing,
  isOursAlone,
  makeDirectory,
  openFile,
  readDescriptor,
  readText,
  removeFile,
  statDescriptor,
  statFile,
  writeDescriptor,
} from "./file.ts";
import { flock, poll } from "./calls.ts";
import { identify, isAlive, isStopped, type ProcessIdentity } from "./process.ts";

/** sys/file.h */
const LOCK = { shared: 1, alone: 2 } as const;
const LOCK_NB = 4;
/** Pauses between two tries of who cannot be woken: short at first, for most locks are held for less than this. */
const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 20;

/** Something else stands in the place of the file or of a directory above it, or nothing can be made there at all. */
const NOBODY_CAN: ReadonlySet<string> = new Set(
  "ENOTDIR EISDIR EEXIST ELOOP ENOENT ENXIO EPERM EACCES".split(" "),
);

/** The descriptor of a lock that is no file, or not held any more. */
const NOTHING = -1;

export type LockMode = keyof typeof LOCK;

/** How a lock is waited for. */
export interface LockWait {
  /** What the caller is about to do: "attaching blue". */
  readonly doing: string;
  /** Longest to wait for one and the same holder. */
  readonly timeoutMs: number;
  readonly mode?: LockMode;
  /** Of a file that nobody ever takes away: then it need not be looked at whether it is still there. */
  readonly lasts?: true;
  /** Another program's lock: it is taken as it is, whoever else may open it. It lasts, too. */
  readonly others?: { readonly permissions: number };
}

/** What the file is to FileLock.try. */
type Kept = Pick<LockWait, "lasts" | "others">;

export class FileLock implements Disposable {
  #fd: number;

  private constructor(
    fd: number,
    readonly path: string,
  ) {
    this.#fd = fd;
  }

  /**
   * Takes the lock unless it is held; then undefined. Makes the file, and its directory, when they are missing.
   * One of ours that other users may open could be held by them for ever: it is made anew.
   * @throws SystemError when the file cannot be opened
   */
  static try(path: string, mode: LockMode = "alone", { lasts, others }: Kept = {}): FileLock | undefined {
    for (;;) {
      const fd = openOrMake(path, others?.permissions ?? 0o600);
      if (fd === undefined) return new FileLock(NOTHING, path);
      let current = false;
      try {
        if (others === undefined && !isOursAlone(statDescriptor(fd)) && wasTakenAway(path)) {
          closeFile(fd);
          continue;
        }
        if (!flock(fd, LOCK[mode] | LOCK_NB)) {
          closeFile(fd);
          return undefined;
        }
        current = lasts === true || others !== undefined || isFileAt(path, fd);
      } catch (error) {
        closeFile(fd);
        throw error;
      }
      if (current) return new FileLock(fd, path);
      // The holder removed the file while we opened it: our lock guards nothing that others look at.
      closeFile(fd);
    }
  }

  /**
   * Waits for the lock, this thread doing nothing else. A signal that the process does not handle ends it, as always.
   * @throws WayoutError `busy`
   */
  static take(path: string, wait: LockWait): FileLock {
    const { mode = "alone", timeoutMs } = wait;
    for (let waitedMs = 0, pauseMs = FIRST_PAUSE_MS; ; waitedMs += pauseMs) {
      const lock = FileLock.try(path, mode, wait);
      if (lock !== undefined) return lock;
      if (waitedMs >= timeoutMs) throw busy(path, wait);
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS, Math.max(timeoutMs - waitedMs, 1));
      poll([], pauseMs);
    }
  }

  /**
   * The same for a caller that only takes things away: where no such file can be made, by nobody, there is nobody to wait for,
   * and what is in the way must not keep a pod from being ended.
   * @throws WayoutError `busy`
   */
  static takeOrNobody(path: string, wait: LockWait): FileLock {
    try {
      return FileLock.take(path, wait);
    } catch (error) {
      if (error instanceof SystemError && NOBODY_CAN.has(error.code)) return new FileLock(NOTHING, path);
      throw error;
    }
  }

  /** Writes down who holds it. For those that are held for long enough to be waited for. */
  sign(): this {
    const self = this.#fd < 0 ? undefined : identify(platform.pid());
    // Of one length, so that it covers whatever the last holder wrote.
    if (self !== undefined) write(this.#fd, `${`${self.pid} ${self.start}`.padEnd(31)}\n`);
    return this;
  }

  /** Lets go and takes the file away, so that nothing is left. Those who wait for it begin anew with a fresh file. */
  remove(): void {
    try {
      if (this.#fd >= 0) removeFile(this.path);
    } catch (error) {
      // The file system became read-only, and the file stays; without its lock it holds nobody up.
      if (!hasNoRoom(error)) throw error;
    } finally {
      this[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) closeFile(this.#fd);
    this.#fd = NOTHING;
  }
}

/** More often than others can remove the directory between two calls of ours. */
const MOST_ATTEMPTS = 100;

/**
 * Its last user may be removing the directory at this moment. On a read-only or full file system a file
 * that is there can be locked all the same; one that is not there nobody can make, and so there is nobody to wait for:
 * undefined. Who only takes things away must not be kept from it by that.
 */
function openOrMake(path: string, permissions: number): number | undefined {
  for (let attempt = 1; ; attempt++) {
    try {
      return openFile(path, "lock", permissions);
    } catch (error) {
      if (hasNoRoom(error)) return openIfThere(path);
      // In a directory that was removed while it is mounted, the kernel says so for ever.
      if (!isMissing(error) || attempt === MOST_ATTEMPTS) throw error;
    }
    try {
      makeDirectory(path.slice(0, path.lastIndexOf("/")), 0o755);
    } catch (error) {
      if (hasNoRoom(error)) return undefined;
      throw error;
    }
  }
}

/** False on a read-only file system: there it stays what it is. */
function wasTakenAway(path: string): boolean {
  try {
    removeFile(path);
    return true;
  } catch (error) {
    if (hasNoRoom(error)) return false;
    throw error;
  }
}

function openIfThere(path: string): number | undefined {
  try {
    return openFile(path, "r");
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function hasNoRoom(error: unknown): boolean {
  return error instanceof SystemError && ["EROFS", "ENOSPC", "EDQUOT"].includes(error.code);
}

/** A full disk keeps nobody from holding a lock: then only the kernel knows who does. */
function write(fd: number, text: string): void {
  try {
    writeDescriptor(fd, text);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
  }
}

function isFileAt(path: string, fd: number): boolean {
  try {
    return statFile(path).inode === statDescriptor(fd).inode;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** The error of a wait that was in vain: it says who holds the lock, as far as this can be known. */
export function busy(path: string, { doing, timeoutMs }: Pick<LockWait, "doing" | "timeoutMs">): WayoutError {
  const holder = lockHolder(path);
  return new WayoutError({
    code: "busy",
    kind: "broken",
    doing,
    said: `${holder === undefined ? "another process" : processText(holder)} has held ${path} for ${timeoutMs / 1000} s`,
    todo: holder === undefined ? `See who holds it: fuser -v ${path}` : todoAbout(holder),
    details: { lock: path, ...(holder === undefined ? {} : { pid: holder.pid }) },
  });
}

/** Who holds a lock: by what it wrote down, or, of one that nobody signs (host-local's, iptables'), by the kernel's list. */
export function lockHolder(path: string): ProcessIdentity | undefined {
  try {
    return signedBy(path) ?? listedFor(path);
  } catch (error) {
    rethrowMistake(error);
    return undefined;
  }
}

function signedBy(path: string): ProcessIdentity | undefined {
  const fd = openFile(path, "r");
  try {
    const [, pid, start] = /^(\d+) (\d+) *\n/.exec(readDescriptor(fd)) ?? [];
    const holder = { pid: Number(pid), start: Number(start) };
    return isAlive(holder) ? holder : undefined;
  } finally {
    closeFile(fd);
  }
}

/** proc_locks(5): `1: FLOCK ADVISORY WRITE 4711 00:19:123 0 EOF`. A holder in another pid namespace is not listed. */
function listedFor(path: string): ProcessIdentity | undefined {
  const { inode } = statFile(path);
  for (const line of readText("/proc/locks").split("\n")) {
    const [, pid, found] = /^\d+: FLOCK +\S+ +\S+ +(\d+) [0-9a-f]+:[0-9a-f]+:(\d+) /.exec(line) ?? [];
    if (Number(found) === inode) return identify(Number(pid));
  }
  return undefined;
}

/** A process that was stopped never comes to its end by itself. */
function todoAbout({ pid }: ProcessIdentity): string {
  return isStopped(pid)
    ? `It was stopped (SIGSTOP, or by a debugger). Let it go on: kill -CONT ${pid}`
    : `Wait until it is done, or see what it does: ps -fp ${pid}`;
}

function processText({ pid }: ProcessIdentity): string {
  try {
    const words = readText(`/proc/${pid}/cmdline`).split("\0").join(" ").trim();
    return words === "" ? `process ${pid}` : `process ${pid} (${words.slice(0, 80)})`;
  } catch (error) {
    if (error instanceof SystemError) return `process ${pid}`;
    throw error;
  }
}
