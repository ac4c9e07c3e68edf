/**
 * One wayout at a time reads and then changes the NAT of a namespace. The lock is a file of ours under the namespace's
 * cookie: what others can open (the namespace itself, for one) they could also hold for ever.
 */
import { FileLock, type LockWait } from "../kernel/file-lock.ts";
import { removeIfEmpty } from "../kernel/file.ts";
import { queueFor, type Ending } from "../kernel/lock-queue.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { lockFailure } from "../kernel/own-place.ts";
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
 * @throws WayoutError `busy`, `run-not-shared`, `run-not-ours`, `no-privilege`
 */
export function takeNatLock(namespace: NetworkNamespace, doing: string, timeoutMs = TIMEOUT_MS): Disposable {
  return natLock(namespace, { doing, timeoutMs }, false);
}

function natLock(namespace: NetworkNamespace, wait: LockWait, toRemove: boolean): NatLock {
  const { doing } = wait;
  const path = pathFor(namespace);
  if (held.has(path)) return new NatLock(undefined);
  requireSharedRun(namespace, doing);
  try {
    const lock = toRemove ? FileLock.takeOrNobody(path, wait) : FileLock.take(path, wait);
    return new NatLock(lock.sign());
  } catch (error) {
    throw lockFailure(path, doing, error);
  }
}

/** Runs `inside` while no other wayout changes the NAT of this namespace. @throws as takeNatLock */
export function withNatLock<T>(namespace: NetworkNamespace, doing: string, inside: () => T): T {
  using _lock = takeNatLock(namespace, doing);
  return inside();
}

/** The same for what only takes away: no lock is needed where none can be made. @throws as takeNatLock */
export function withNatLockToRemove<T>(namespace: NetworkNamespace, doing: string, inside: () => T): T {
  using _lock = natLock(namespace, { doing, timeoutMs: TIMEOUT_MS }, true);
  return inside();
}

/**
 * The same for commands: who came first is served first, and a signal ends the wait.
 * @throws WayoutError `busy`, `interrupted`, `run-not-shared`, `run-not-ours`, `no-privilege`
 */
export async function inNatQueue<T>(
  namespace: NetworkNamespace,
  doing: string,
  inside: () => T,
  signal?: Ending,
): Promise<T> {
  requireSharedRun(namespace, doing);
  const wait = { doing, timeoutMs: TIMEOUT_MS, signal };
  const path = pathFor(namespace);
  const lock = await queueFor(path, wait).catch((error: unknown) => {
    throw lockFailure(path, doing, error);
  });
  using _lock = new NatLock(lock);
  return inside();
}
