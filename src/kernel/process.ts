import { readText } from "./file.ts";

/**
 * When a process started, in clock ticks after boot (proc_pid_stat(5), field 22). A pid alone names nobody for long:
 * pid and start together are one process and no other. undefined when there is no such process (any more).
 */
export function processStart(pid: number): number | undefined {
  let stat: string;
  try {
    stat = readText(`/proc/${pid}/stat`);
  } catch {
    return undefined;
  }
  // The second field, the program's name in brackets, may hold spaces and brackets itself.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  // A zombie has ended; only nobody has asked yet.
  return fields[0] === "Z" ? undefined : Number(fields[19]);
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
