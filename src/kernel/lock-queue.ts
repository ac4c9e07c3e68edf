/**
 * A fair wait for a lock that many commands may want at once: who came first is served first. Each who waits holds a
 * ticket, a locked file beside the lock that is named by the time it came; a ticket that can be locked is that of a
 * process which died, and is removed. The event loop runs meanwhile, so that signals get through.
 */
import { rethrowMistake, WayoutError } from "../error.ts";
import { platform } from "#platform";
import { clockUs, monotonicMs } from "./calls.ts";
import { busy, FileLock, lockHolder, type LockWait } from "./file-lock.ts";
import { namesIn } from "./file.ts";

const PAUSE_MS = 10;
/** Who has many before them need not look often. */
const LONGEST_PAUSE_MS = 200;
/** However steadily the queue moves, nobody waits for longer. */
const LONGEST_WAIT_MS = 300_000;

/** As much of an AbortSignal as is looked at. */
export interface Ending {
  readonly aborted: boolean;
}

export interface QueueWait extends LockWait {
  /** Ends the waiting. */
  readonly signal?: Ending | undefined;
}

/** @throws WayoutError `busy`, `interrupted` */
export async function queueFor(path: string, wait: QueueWait): Promise<FileLock> {
  const begun = monotonicMs();
  let ticket: FileLock | undefined;
  let holder = "";
  let since = begun;
  try {
    for (;;) {
      if (wait.signal?.aborted === true) throw interrupted(wait.doing);
      const before = ahead(path, ticket?.path);
      const lock = before === 0 ? FileLock.try(path, wait.mode) : undefined;
      if (lock !== undefined) return lock.sign();
      ticket ??= takeTicket(path);
      const now = monotonicMs();
      const found = JSON.stringify([lockHolder(path), before]);
      if (found !== holder) [holder, since] = [found, now];
      if (now - since > wait.timeoutMs) throw busy(path, wait);
      if (now - begun > LONGEST_WAIT_MS) throw busy(path, { ...wait, timeoutMs: LONGEST_WAIT_MS });
      await platform.pause(Math.min(PAUSE_MS * (before + 1), LONGEST_PAUSE_MS));
    }
  } finally {
    ticket?.remove();
  }
}

/** How many wait who came before the holder of this ticket; without one, how many wait. */
function ahead(path: string, own: string | undefined): number {
  const at = path.lastIndexOf("/") + 1;
  const directory = path.slice(0, at);
  const tickets = ticketsIn(directory, `${path.slice(at)}.wait-`);
  for (const [index, name] of tickets.entries()) {
    const ticket = `${directory}${name}`;
    if (own !== undefined && ticket >= own) return 0;
    if (isAbandoned(ticket)) continue;
    const ownIndex = own === undefined ? tickets.length : tickets.indexOf(own.slice(at));
    return Math.max(ownIndex - index, 1);
  }
  return 0;
}

/** In the order in which they were taken. */
function ticketsIn(directory: string, prefix: string): string[] {
  // Where there is no directory its last user has removed it.
  return namesIn(directory).filter((name) => name.startsWith(prefix));
}

function isAbandoned(ticket: string): boolean {
  try {
    const lock = FileLock.try(ticket);
    lock?.remove();
    return lock !== undefined;
  } catch (error) {
    rethrowMistake(error);
    // A directory, a link: nobody waits with that.
    return true;
  }
}

function takeTicket(path: string): FileLock {
  for (;;) {
    const time = String(Math.floor(clockUs(1))).padStart(16, "0");
    const ticket = FileLock.try(`${path}.wait-${time}-${platform.pid()}`);
    // A process that looked whether we are dead holds it for a moment.
    if (ticket !== undefined) return ticket;
  }
}

function interrupted(doing: string): WayoutError {
  return new WayoutError({
    code: "interrupted",
    kind: "broken",
    doing,
    said: "interrupted while it waited for another command; nothing was changed",
  });
}
