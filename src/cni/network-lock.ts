import { messageOf, WayoutError } from "../error.ts";
import { closeFile, makeDirectory, openFile } from "../kernel/file.ts";
import { flock } from "../kernel/libc.ts";

/** sys/file.h */
const LOCK_SH = 1;
const LOCK_EX = 2;

/** Locks and what was found in order last time; gone with a reboot, as what they speak of is. */
export const RUN_DIRECTORY = "/run/wayout/cni";

/**
 * What belongs to a whole network (its NAT rules, its bridge) goes with its last attachment. Whoever attaches holds
 * the lock shared until the attachment can be seen; whoever takes the network's things away holds it alone, and so
 * finds no attachment half-made. It ends with its holder.
 */
export class NetworkLock implements Disposable {
  readonly #fd: number;

  /** @throws WayoutError `address-store` */
  constructor(network: string, mode: "shared" | "alone") {
    const path = `${RUN_DIRECTORY}/${network}.lock`;
    try {
      makeDirectory(RUN_DIRECTORY, 0o755);
      this.#fd = openFile(path, "a+", 0o600);
    } catch (error) {
      throw new WayoutError({
        code: "address-store",
        kind: "machine",
        doing: `opening ${path}`,
        said: messageOf(error),
        todo: "Check that /run is there and can be written by root.",
        cause: error,
      });
    }
    flock(this.#fd, mode === "shared" ? LOCK_SH : LOCK_EX);
  }

  [Symbol.dispose](): void {
    closeFile(this.#fd);
  }
}
