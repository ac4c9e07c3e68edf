import { WayoutError } from "../error.ts";
import { FileLock, type LockMode } from "../kernel/file-lock.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { placeFailure, requirePlace, requireWritable } from "../kernel/own-place.ts";
import { ROOTS_RUN_DIRECTORY } from "../kernel/run-directory.ts";
import { requireSharedRun } from "../kernel/shared-run.ts";

/** Locks, and which addresses are in use; gone with a reboot, as what they speak of is. */
const RUN_DIRECTORY = `${ROOTS_RUN_DIRECTORY}/cni`;

/** Longest that a call waits: an ADD that asks a DHCP server takes some seconds, and a runtime gives up after minutes. */
const TIMEOUT_MS = 30_000;

/** Where it is kept: two networks of one name in two namespaces are two networks. */
export function networkPath(network: string, { cookie }: NetworkNamespace): string {
  return `${RUN_DIRECTORY}/${cookie}/${network}`;
}

/**
 * What belongs to a whole network (its NAT rules, its bridge) goes with its last attachment. An ADD holds
 * the lock shared until the attachment can be seen; a DEL that takes the network's things away holds it alone, and so
 * finds no attachment half-made. It ends with its holder.
 * @throws WayoutError `busy`, `address-store`, `run-not-shared`, `run-not-ours`
 */
export function lockNetwork(
  network: string,
  namespace: NetworkNamespace,
  mode: LockMode,
  timeoutMs = TIMEOUT_MS,
): FileLock {
  const doing = `waiting for other calls for network ${network}`;
  requireSharedRun(namespace, doing);
  const path = lockPath(network, namespace);
  try {
    const wait = { doing, timeoutMs, mode, lasts: true } as const;
    return mode === "alone" ? FileLock.takeOrNobody(path, wait) : FileLock.take(path, wait);
  } catch (error) {
    throw error instanceof WayoutError ? error : unusable(path, "file", error);
  }
}

/** Beside the lock: which addresses are in use. */
export function usedPath(network: string, namespace: NetworkNamespace): string {
  return `${networkPath(network, namespace)}.used`;
}

/** That the next ADD can write down what it must. @throws WayoutError `address-store` */
export function requireNotes(network: string, namespace: NetworkNamespace): void {
  const lock = lockPath(network, namespace);
  const used = usedPath(network, namespace);
  try {
    requireWritable(used, "names");
  } catch (error) {
    throw unusable(used, "directory", error);
  }
  try {
    requirePlace(lock, "file");
  } catch (error) {
    throw unusable(lock, "file", error);
  }
}

function lockPath(network: string, namespace: NetworkNamespace): string {
  return `${networkPath(network, namespace)}.lock`;
}

function unusable(path: string, wanted: "file" | "directory", error: unknown): WayoutError {
  return new WayoutError({
    code: "address-store",
    kind: "machine",
    doing: `opening ${path}`,
    ...placeFailure(path, wanted, error, "Check that /run is there, can be written by root and has room."),
    cause: error,
  });
}
