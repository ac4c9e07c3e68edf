/**
 * The lab of an ordinary user. His namespaces live in a user namespace of his own, which ends with its last process:
 * so one process stays there, the keeper. Every later `wayout lab …` goes in beside it and runs there as root does
 * outside, with the same code.
 */
import { closeSync, openSync } from "node:fs";
import * as v from "valibot";
import { FileLock } from "../kernel/file-lock.ts";
import * as libc from "../kernel/libc.ts";
import { endProcess, identify, isRunning, type ProcessIdentity } from "../kernel/process.ts";
import { spawnIn } from "../kernel/spawn.ts";
import { StateFolder } from "../kernel/state-folder.ts";
import { asCaller } from "../kernel/umask.ts";
import { selfCommand } from "../self.ts";
import { last, startLasting } from "./lasting.ts";
import { LAB_PROCESSES } from "./processes.ts";
import { settleInRealm, spawnInRealm, waitForRealm } from "./realm.ts";
import { SIGKILL } from "../linux/signal.ts";

/** Tells what runs beside a keeper which one it is: `pid:start`. */
const KEEPER_VARIABLE = "WAYOUT_LAB_KEEPER";
const KEEPER_FILE = "lab-keeper.json";
const LOCK_FILE = "lab-keeper.lock";
const identity = v.object({ pid: v.number(), start: v.number() });

/** The keeper that runs now; undefined when this user has no lab. @throws WayoutError unsafe-state-folder */
export function findKeeper(): ProcessIdentity | undefined {
  using folder = StateFolder.find();
  return folder === undefined ? undefined : keeperIn(folder);
}

function keeperIn(folder: StateFolder): ProcessIdentity | undefined {
  try {
    const keeper = v.parse(identity, JSON.parse(folder.read(KEEPER_FILE) ?? ""));
    return isRunning(keeper, LAB_PROCESSES.keeper) ? keeper : undefined;
  } catch {
    return undefined;
  }
}

/** Starts a keeper, or finds the one that runs. @throws WayoutError when the machine forbids user namespaces */
export function ensureKeeper(): ProcessIdentity {
  using folder = StateFolder.make();
  using _lock = lockIn(folder, "starting the lab's keeper");
  return keeperIn(folder) ?? startKeeper(folder);
}

/** One command at a time starts or ends a keeper. */
function lockIn(folder: StateFolder, doing: string): FileLock {
  const TIMEOUT_MS = 10_000;
  return FileLock.take(folder.at(LOCK_FILE), { doing, timeoutMs: TIMEOUT_MS }).sign();
}

function startKeeper(folder: StateFolder): ProcessIdentity {
  let pid: number | undefined;
  try {
    return startLasting({
      doing: "starting the process that keeps the lab's namespaces",
      spawn: (place, argument) =>
        (pid = spawnInRealm([...selfCommand(), LAB_PROCESSES.keeper, argument], place)),
      remember: (keeper) => folder.write(KEEPER_FILE, JSON.stringify(keeper)),
    });
  } catch (error) {
    // It may have ended because the machine forbids what it needs: then that is told.
    if (pid !== undefined) waitForRealm(pid);
    throw error;
  }
}

/** Ends the keeper, and with it everything in its namespaces; what is left of one that ended by itself goes, too. */
export function dismissKeeper(): void {
  using folder = StateFolder.find();
  if (folder === undefined) return;
  const lock = lockIn(folder, "ending the lab's keeper");
  const keeper = keeperIn(folder);
  if (keeper !== undefined) endProcess(keeper, LAB_PROCESSES.keeper);
  folder.remove(KEEPER_FILE);
  lock.remove();
  folder.removeIfEmpty();
}

/** What the keeper does: makes the place private, says that it is ready, and stays. @param argument as startLasting gave it */
export function keep(argument: string): Promise<never> {
  return last(argument, settleInRealm);
}

/** Calls back when the keeper that this process was started beside is gone; never, when there is none. */
export function whenKeeperEnds(callback: () => void): void {
  const [pid, start] = (process.env[KEEPER_VARIABLE] ?? "").split(":").map(Number);
  if (pid === undefined || start === undefined) return;
  const CHECK_EVERY_MS = 500;
  setInterval(() => {
    if (!isRunning({ pid, start }, LAB_PROCESSES.keeper)) callback();
  }, CHECK_EVERY_MS).unref();
}

/** Runs a command of wayout beside the keeper, on this terminal, and returns its exit code. It ends with us. */
export function runBesideKeeper(keeper: ProcessIdentity, args: readonly string[]): number {
  // Ctrl-C is for the program inside; we only pass on how it ended.
  for (const signal of ["SIGINT", "SIGQUIT"] as const) process.on(signal, () => {});
  const ended = libc.waitpid(spawnBesideKeeper(keeper, args));
  return ended === undefined ? 1 : exitCodeOf(ended);
}

/** A command of wayout beside the keeper, while we do something else. */
export interface Beside {
  /** Its exit code; undefined while it runs. */
  readonly ended: () => number | undefined;
  /** Asks it to end in order. */
  readonly end: () => void;
}

/** Starts it; it ends with us. */
export function startBesideKeeper(keeper: ProcessIdentity, args: readonly string[]): Beside {
  const pid = spawnBesideKeeper(keeper, args);
  let asked = false;
  return {
    ended: () => {
      const ended = libc.waitpid(pid, WNOHANG);
      return ended === undefined ? undefined : exitCodeOf(ended);
    },
    end: () => {
      if (!asked) process.kill(pid, "SIGTERM");
      asked = true;
    },
  };
}

const WNOHANG = 1;

function exitCodeOf({ exitCode, signal }: { readonly exitCode: number; readonly signal: number }): number {
  const SIGNALLED = 128;
  return signal === 0 ? exitCode : SIGNALLED + signal;
}

function spawnBesideKeeper(keeper: ProcessIdentity, args: readonly string[]): number {
  const namespaces = ["user", "mnt", "net"].map((kind) => openSync(`/proc/${keeper.pid}/ns/${kind}`, "r"));
  try {
    // Still the same process: then those were its namespaces.
    if (identify(keeper.pid)?.start !== keeper.start) throw new Error("the lab's keeper ended just now");
    const environment = { ...process.env, [KEEPER_VARIABLE]: `${keeper.pid}:${keeper.start}` };
    return asCaller(() =>
      spawnIn({ enter: namespaces, deathSignal: SIGKILL }, [...selfCommand(), ...args], environment),
    );
  } finally {
    for (const fd of namespaces) closeSync(fd);
  }
}
