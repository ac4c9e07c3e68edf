/**
 * A network and mount namespace of one's own, so that nothing a test or a benchmark does can reach the machine's. As
 * an ordinary user a user namespace comes with it, in which that user is root.
 */
import { mkdirSync, readFileSync } from "node:fs";
import * as libc from "../src/kernel/libc.ts";
import { MS_BIND, MS_PRIVATE, MS_REC } from "../src/kernel/named-namespace.ts";
import { spawnInRealm, waitForRealm } from "../src/lab/realm.ts";

/**
 * Runs a program in fresh namespaces, as the lab runs its story, and waits for its end; it dies with us. Returns its
 * exit code, 1 after a signal. @throws WayoutError where the machine forbids such namespaces
 */
export function runIsolated(argv: readonly [string, ...string[]]): number {
  return waitForRealm(spawnInRealm(argv));
}

/** For the program inside: makes the places private that wayout, and the programs it is compared with, write to. */
export function makePlacesPrivate(): void {
  libc.mount("none", "/", "none", MS_PRIVATE | MS_REC);
  libc.mount("tmpfs", "/run", "tmpfs", 0, "mode=755");
  mkdirSync("/run/lock", { recursive: true });
  try {
    // A sysfs of the new network namespace, with the cgroups of the machine in it: container runtimes want them.
    mkdirSync("/run/cgroup");
    libc.mount("/sys/fs/cgroup", "/run/cgroup", "none", MS_BIND | MS_REC);
    libc.mount("sysfs", "/sys", "sysfs", 0);
    libc.mount("/run/cgroup", "/sys/fs/cgroup", "none", MS_BIND | MS_REC);
    // Where eBPF programs are kept, as a node has it; with its mount they all end.
    libc.mount("bpf", "/sys/fs/bpf", "bpf", 0);
  } catch {
    // Without a fresh sysfs nearly everything still runs; an ordinary user has no eBPF.
  }
  for (const directory of ["/etc", "/var/lib"]) makeScratchCopy(directory);
}

/** What is written below `directory` from now on is seen by us alone, and gone when we are. */
function makeScratchCopy(directory: string): void {
  const scratch = `/run/scratch${directory}`;
  for (const part of ["upper", "work"]) mkdirSync(`${scratch}/${part}`, { recursive: true });
  // In a user namespace overlayfs may not use its own attributes; without any it cannot make again what was removed.
  const attributes = isUserNamespace() ? ",userxattr" : "";
  const options = `lowerdir=${directory},upperdir=${scratch}/upper,workdir=${scratch}/work${attributes}`;
  try {
    libc.mount("overlay", directory, "overlay", 0, options);
  } catch {
    // A kernel without overlayfs, or one that keeps it from ordinary users: those cannot write there anyway.
  }
}

/** Whether we are root of a user namespace only: then its id map does not cover every id (user_namespaces(7)). */
export function isUserNamespace(): boolean {
  return !/^\s*0\s+0\s+4294967295/.test(readFileSync("/proc/self/uid_map", "utf8"));
}
