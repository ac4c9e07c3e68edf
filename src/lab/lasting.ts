/**
 * Processes that stay when the command that started them has ended: an ordinary user's keeper, the servers of the
 * internet. Until it is written down who they are they die with their parent, so that a killed command leaves
 * none behind; and they have nothing of the caller, whose pipe would not end while they hold it.
 */
import { closeSync, read, readSync, writeSync } from "node:fs";
import { messageOf, WayoutError } from "../error.ts";
import * as libc from "../kernel/libc.ts";
import { identify, type ProcessIdentity } from "../kernel/process.ts";
import type { SpawnPlace } from "../kernel/spawn.ts";
import { SIGKILL } from "../linux/signal.ts";

/** What the two sides say to each other. Anything else that a starting process says is why it could not. */
const READY = "r";
const STAY = "s";
const STAYING = "k";

/** How to start one. */
export interface Start {
  /** For the message when it fails: "starting the servers of the lab's internet". */
  readonly doing: string;
  /** Starts it with the descriptors of `place` and these as its argument; returns its pid. */
  readonly spawn: (place: Pick<SpawnPlace, "deathSignal" | "detached" | "keep">, argument: string) => number;
  /** Told who it is; only when this has returned it stays for good. Absent: it ends with us. */
  readonly remember?: (process: ProcessIdentity) => void;
}

/** Starts one, and waits until it is ready. @throws WayoutError not-started with what it said */
export function startLasting({ doing, spawn, remember }: Start): ProcessIdentity {
  const fromChild = libc.pipe();
  const toChild = libc.pipe();
  const heard = (): string => {
    const said = Buffer.alloc(4096);
    return said.toString("utf8", 0, readSync(fromChild.readEnd, said));
  };
  let pid: number;
  try {
    const keep = [fromChild.writeEnd, toChild.readEnd];
    pid = spawn({ deathSignal: SIGKILL, detached: true, keep }, keep.join(","));
  } finally {
    closeSync(fromChild.writeEnd);
    closeSync(toChild.readEnd);
  }
  try {
    const said = heard();
    const process = said === READY ? identify(pid) : undefined;
    if (process === undefined) throw notStarted(doing, said);
    if (remember !== undefined) {
      remember(process);
      writeSync(toChild.writeEnd, STAY);
      if (heard() !== STAYING) throw notStarted(doing, "it ended before it could stay");
    }
    return process;
  } finally {
    closeSync(fromChild.readEnd);
    // One that ends with us must not take the closed pipe for our end: it is its death signal that tells.
    closeSync(toChild.writeEnd);
  }
}

function notStarted(doing: string, said: string): WayoutError {
  return new WayoutError({
    code: "not-started",
    kind: "broken",
    doing,
    said: said === "" || said === READY ? "it ended before it was ready" : said,
  });
}

/**
 * The other side: makes ready, says so, and stays when it is told to; until then it dies with its parent.
 * @param argument what startLasting gave
 */
export async function last(argument: string, makeReady: () => void | Promise<void>): Promise<never> {
  const [toParent, fromParent] = argument.split(",").map(Number) as [number, number];
  try {
    await makeReady();
  } catch (error) {
    writeSync(toParent, messageOf(error));
    process.exit(1);
  }
  writeSync(toParent, READY);
  read(fromParent, Buffer.alloc(1), 0, 1, null, (_error, length) => {
    if (length === 1) {
      const PR_SET_PDEATHSIG = 1;
      libc.prctl(PR_SET_PDEATHSIG, 0);
      writeSync(toParent, STAYING);
    }
    closeSync(toParent);
    closeSync(fromParent);
  });
  const ONE_HOUR_MS = 3_600_000;
  setInterval(() => {}, ONE_HOUR_MS);
  return new Promise<never>(() => {});
}
