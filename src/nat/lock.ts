/**
 * One wayout at a time reads and then changes the NAT of a namespace. The lock is a file of ours under the namespace's
 * cookie: what others can open (the namespace itself, for one) they could also hold for ever.
 */
import { WayoutError } from "../error.ts";
import { SystemError } from "../linux/errno.ts";
import { FileLock } from "../kernel/file-lock.ts";
import { removeIfEmpty } from "../kernel/file.ts";
import { queueFor, type Ending } from "../kernel/lock-queue.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { runDirectory } from "../kernel/run-directory.ts";
import { requireSharedRun } from "../kernel/shared-run.ts";

/** A change of rules takes some ten milliseconds, through iptables a few hundred. */
const TIMEOUT_MS = 20_000;

/** What this process holds: who holds the lock around several changes need not wait for himself. */
const held = new Set<string>();

function directory(): string {
  return `${runDirectory()}/locks`;
}

function pathFor(namespace: NetworkNamespace): string {
  return `${directory()}/nat-${namespace.cookie}`;
}

/** Held until it is disposed of. */
class NatLock implements Disposable {
  /** @param lock undefined inside of another: that one holds it */
  constructor(private readonly lock: FileLock | undefined) {
    if (lock !== undefined) held.add(lock.path);
  }

  [Symbol.dispose](): void {
    if (this.lock === undefined) return;
    held.delete(this.lock.path);
    this.lock.remove();
    removeIfEmpty(directory());
    removeIfEmpty(runDirectory());
  }
}

/**
 * Keeps every other wayout from changing the NAT of this namespace.
 * @param doing for the error: "writing the NAT rules of policy"
 * @throws WayoutError `busy`, `run-not-shared`, `no-privilege`
 */
export function takeNatLock(namespace: NetworkNamespace, doing: string, timeoutMs = TIMEOUT_MS): Disposable {
  const path = pathFor(namespace);
  if (held.has(path)) return new NatLock(undefined);
  requireSharedRun(namespace, doing);
  return explained(doing, () => new NatLock(FileLock.take(path, { doing, timeoutMs }).sign()));
}

/** Runs `inside` while no other wayout changes the NAT of this namespace. @throws as takeNatLock */
export function withNatLock<T>(namespace: NetworkNamespace, doing: string, inside: () => T): T {
  using _lock = takeNatLock(namespace, doing);
  return inside();
}

/**
 * The same for commands: who came first is served first, and a signal ends the wait.
 * @throws WayoutError `busy`, `interrupted`, `run-not-shared`, `no-privilege`
 */
export async function inNatQueue<T>(
  namespace: NetworkNamespace,
  doing: string,
  inside: () => T,
  signal?: Ending,
): Promise<T> {
  requireSharedRun(namespace, doing);
  const wait = { doing, timeoutMs: TIMEOUT_MS, signal };
  const lock = await queueFor(pathFor(namespace), wait).catch((error: unknown) => {
    throw refusal(doing, error);
  });
  using _lock = new NatLock(lock);
  return inside();
}

function explained<T>(doing: string, take: () => T): T {
  try {
    return take();
  } catch (error) {
    throw refusal(doing, error);
  }
}

function refusal(doing: string, error: unknown): unknown {
  if (!(error instanceof SystemError)) return error;
  const denied = error.code === "EACCES" || error.code === "EPERM";
  return new WayoutError({
    code: denied ? "no-privilege" : "no-lock",
    kind: "machine",
    doing,
    said: `it takes a lock in ${directory()}: ${error.message}`,
    todo: denied ? "Run it as root." : `Check that ${directory()} can be written and has room.`,
    cause: error,
  });
}
