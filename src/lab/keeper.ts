/**
 * The lab of an ordinary user. His namespaces live in a user namespace of his own, which ends with its last process:
 * so one process stays there, the keeper. Every later `wayout lab …` goes in beside it and runs there as root does
 * outside, with the same code.
 */
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import * as v from "valibot";
import { WayoutError } from "../error.ts";
import * as libc from "../kernel/libc.ts";
import { spawnIn } from "../kernel/spawn.ts";
import { identify, isAlive, type ProcessIdentity } from "../kernel/process.ts";
import { selfCommand } from "../self.ts";
import { LAB_PROCESSES } from "./processes.ts";
import { settleInRealm, spawnInRealm } from "./realm.ts";

/** Tells what runs beside a keeper which one it is: `pid:start`. */
const KEEPER_VARIABLE = "WAYOUT_LAB_KEEPER";
const KEEPER_FILE = "lab-keeper.json";
const identity = v.object({ pid: v.number(), start: v.number() });

function directory(): string {
  const runtime = process.env["XDG_RUNTIME_DIR"];
  return runtime !== undefined && runtime !== "" ? `${runtime}/wayout` : `/tmp/wayout-${process.getuid!()}`;
}

/** The keeper that runs now; undefined when this user has no lab. */
export function findKeeper(): ProcessIdentity | undefined {
  try {
    const keeper = v.parse(identity, JSON.parse(readFileSync(`${directory()}/${KEEPER_FILE}`, "utf8")));
    return isAlive(keeper) ? keeper : undefined;
  } catch {
    return undefined;
  }
}

/** Starts a keeper, or finds the one that runs. @throws WayoutError when the machine forbids user namespaces */
export function ensureKeeper(): ProcessIdentity {
  const running = findKeeper();
  if (running !== undefined) return running;
  const pipe = libc.pipe("writeEnd");
  const pid = spawnInRealm([...selfCommand(), LAB_PROCESSES.keeper, String(pipe.writeEnd)], "outlives us");
  closeSync(pipe.writeEnd);
  const ready = readSync(pipe.readEnd, Buffer.alloc(1)) === 1;
  closeSync(pipe.readEnd);
  const keeper = identify(pid);
  if (!ready || keeper === undefined) {
    throw new WayoutError({
      code: "no-keeper",
      kind: "machine",
      doing: "starting the process that keeps the lab's namespaces",
      said: "it ended before it was ready",
    });
  }
  mkdirSync(directory(), { recursive: true, mode: 0o700 });
  writeFileSync(`${directory()}/${KEEPER_FILE}`, JSON.stringify(keeper), { mode: 0o600 });
  return keeper;
}

/** Ends the keeper, and with it everything in its namespaces. */
export function dismissKeeper(keeper: ProcessIdentity): void {
  process.kill(keeper.pid, "SIGKILL");
  rmSync(`${directory()}/${KEEPER_FILE}`, { force: true });
}

/** What the keeper does: makes the place private, says that it is ready, and stays. */
export async function keep(readyFd: number): Promise<never> {
  settleInRealm();
  libc.daemonize();
  writeSync(readyFd, "r");
  closeSync(readyFd);
  const ONE_HOUR_MS = 3_600_000;
  setInterval(() => {}, ONE_HOUR_MS);
  return new Promise<never>(() => {});
}

/** Calls back when the keeper that this process was started beside is gone; never, when there is none. */
export function whenKeeperEnds(callback: () => void): void {
  const [pid, start] = (process.env[KEEPER_VARIABLE] ?? "").split(":").map(Number);
  if (pid === undefined || start === undefined) return;
  const CHECK_EVERY_MS = 500;
  setInterval(() => {
    if (!isAlive({ pid, start })) callback();
  }, CHECK_EVERY_MS);
}

/** Runs a command of wayout beside the keeper, on this terminal, and returns its exit code. */
export function runBesideKeeper(keeper: ProcessIdentity, args: readonly string[]): number {
  // Ctrl-C is for the program inside; we only pass on how it ended.
  for (const signal of ["SIGINT", "SIGQUIT"] as const) process.on(signal, () => {});
  const namespaces = ["user", "mnt", "net"].map((kind) => openSync(`/proc/${keeper.pid}/ns/${kind}`, "r"));
  try {
    const environment = { ...process.env, [KEEPER_VARIABLE]: `${keeper.pid}:${keeper.start}` };
    const pid = spawnIn({ enter: namespaces }, [...selfCommand(), ...args], environment);
    const ended = libc.waitpid(pid);
    if (ended === undefined) return 1;
    const SIGNALLED = 128;
    return ended.signal === 0 ? ended.exitCode : SIGNALLED + ended.signal;
  } finally {
    for (const fd of namespaces) closeSync(fd);
  }
}
