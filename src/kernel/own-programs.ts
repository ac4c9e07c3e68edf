/**
 * Programs that this process started to change something of the kernel's: what they do is our own doing, also when the
 * kernel tells of it later and names them. A pid is given again in time, so it is ours for a while only.
 */
import { monotonicMs } from "./calls.ts";

const OURS_FOR_MS = 30_000;
const MOST = 256;
const started = new Map<number, number>();

export function noteOwnProgram(pid: number, now: number = monotonicMs()): void {
  // Begun anew, so that the oldest stand first.
  started.delete(pid);
  started.set(pid, now);
  const [oldest] = started.keys();
  if (started.size > MOST && oldest !== undefined) started.delete(oldest);
}

export function isOwnProgram(pid: number, now: number = monotonicMs()): boolean {
  const at = started.get(pid);
  return at !== undefined && now - at <= OURS_FOR_MS;
}
