import { messageOf, WayoutError } from "../error.ts";
import { FileLock, type LockMode } from "../kernel/file-lock.ts";

/** Locks and what was found in order last time; gone with a reboot, as what they speak of is. */
export const RUN_DIRECTORY = "/run/wayout/cni";

/** Longest that a call waits: an ADD that asks a DHCP server takes some seconds, and a runtime gives up after minutes. */
const TIMEOUT_MS = 30_000;

/**
 * What belongs to a whole network (its NAT rules, its bridge) goes with its last attachment. Whoever attaches holds
 * the lock shared until the attachment can be seen; whoever takes the network's things away holds it alone, and so
 * finds no attachment half-made. It ends with its holder.
 * @throws WayoutError `busy`, `address-store`
 */
export function lockNetwork(network: string, mode: LockMode, timeoutMs = TIMEOUT_MS): FileLock {
  const path = `${RUN_DIRECTORY}/${network}.lock`;
  try {
    const doing = `waiting for other calls for network ${network}`;
    return FileLock.take(path, { doing, timeoutMs, mode, lasts: true });
  } catch (error) {
    if (error instanceof WayoutError) throw error;
    throw new WayoutError({
      code: "address-store",
      kind: "machine",
      doing: `opening ${path}`,
      said: messageOf(error),
      todo: "Check that /run is there and can be written by root.",
      cause: error,
    });
  }
}
