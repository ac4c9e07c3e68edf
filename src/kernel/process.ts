import { rethrowMistake } from "../error.ts";
import { closeFile, readText } from "./file.ts";
import { pidfdOpen, pidfdSendSignal } from "./calls.ts";
import { SIGKILL } from "../linux/signal.ts";

/**
 * When a process started, in clock ticks after boot (proc_pid_stat(5), field 22). A pid alone names nobody for long:
 * pid and start together are one process and no other. undefined when there is no such process (any more).
 */
export function processStart(pid: number): number | undefined {
  const fields = statFields(pid);
  // A zombie has ended; only nobody has asked yet.
  return fields === undefined || fields[0] === "Z" ? undefined : Number(fields[19]);
}

/** Whether it does nothing until it is told to go on: by a signal, or by who debugs it. */
export function isStopped(pid: number): boolean {
  return ["T", "t"].includes(statFields(pid)?.[0] ?? "");
}

/** From the third field on, the state. undefined when there is no such process. */
function statFields(pid: number): string[] | undefined {
  try {
    const stat = readText(`/proc/${pid}/stat`);
    // The second field, the program's name in brackets, may hold spaces and brackets itself.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  } catch (error) {
    rethrowMistake(error);
    return undefined;
  }
}

/** A process that can be recognised again. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly start: number;
}

/** @returns undefined when the process is gone already */
export function identify(pid: number): ProcessIdentity | undefined {
  const start = processStart(pid);
  return start === undefined ? undefined : { pid, start };
}

/** Whether exactly this process still runs. */
export function isAlive(process: ProcessIdentity): boolean {
  return processStart(process.pid) === process.start;
}

/**
 * Whether exactly this process still runs, and is what it was: a program started with this word among its arguments.
 * Our notes may be older than the boot, after which another process can have the same pid and the same start.
 */
export function isRunning(process: ProcessIdentity, word: string): boolean {
  try {
    const words = readText(`/proc/${process.pid}/cmdline`).split("\0");
    return words.includes(word) && isAlive(process);
  } catch (error) {
    rethrowMistake(error);
    return false;
  }
}

/**
 * Kills a process, when it is still the one that was meant. It is held by a pidfd first and compared then: between the
 * two nothing can take its place. False when it is gone.
 */
export function endProcess(process: ProcessIdentity, word: string): boolean {
  const held = pidfdOpen(process.pid);
  if (held === undefined) return false;
  try {
    if (!isRunning(process, word)) return false;
    pidfdSendSignal(held, SIGKILL);
    return true;
  } finally {
    closeFile(held);
  }
}
