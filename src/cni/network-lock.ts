import { messageOf, WayoutError } from "../error.ts";
import { requireWritable } from "../kernel/file.ts";
import { FileLock, type LockMode } from "../kernel/file-lock.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
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
 * What belongs to a whole network (its NAT rules, its bridge) goes with its last attachment. Whoever attaches holds
 * the lock shared until the attachment can be seen; whoever takes the network's things away holds it alone, and so
 * finds no attachment half-made. It ends with its holder.
 * @throws WayoutError `busy`, `address-store`, `run-not-shared`
 */
export function lockNetwork(
  network: string,
  namespace: NetworkNamespace,
  mode: LockMode,
  timeoutMs = TIMEOUT_MS,
): FileLock {
  const doing = `waiting for other calls for network ${network}`;
  requireSharedRun(namespace, doing);
  const path = `${networkPath(network, namespace)}.lock`;
  try {
    return FileLock.take(path, { doing, timeoutMs, mode, lasts: true });
  } catch (error) {
    throw error instanceof WayoutError ? error : unusable(path, error);
  }
}

/** That the next ADD can write down what it must. @throws WayoutError `address-store` */
export function requireNotes(): void {
  try {
    requireWritable(RUN_DIRECTORY);
  } catch (error) {
    throw unusable(RUN_DIRECTORY, error);
  }
}

function unusable(path: string, error: unknown): WayoutError {
  return new WayoutError({
    code: "address-store",
    kind: "machine",
    doing: `opening ${path}`,
    said: messageOf(error),
    todo: "Check that /run is there and can be written by root.",
    cause: error,
  });
}
