/**
 * A network and mount namespace of one's own, so that nothing a test or a benchmark does can reach the machine's. As
 * an ordinary user a user namespace comes with it, in which that user is root.
 */
import { mkdirSync } from "node:fs";
import * as libc from "../src/kernel/libc.ts";
import { CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUSER, MS_PRIVATE, MS_REC } from "../src/kernel/namespace.ts";

/** Runs a program in fresh namespaces and waits for its end; it dies with us. Returns its exit code, 1 after a signal. */
export function runIsolated(
  argv: readonly [string, ...string[]],
  environment: Readonly<Record<string, string | undefined>> = process.env,
): number {
  const isRoot = process.getuid!() === 0;
  const SIGKILL = 9;
  const pid = libc.spawnIn(
    {
      newNamespaces: CLONE_NEWNET | CLONE_NEWNS | (isRoot ? 0 : CLONE_NEWUSER),
      ...(isRoot ? {} : { rootFor: { uid: process.getuid!(), gid: process.getgid!() } }),
      deathSignal: SIGKILL,
    },
    argv,
    environment,
  );
  const ended = libc.waitpid(pid);
  return ended === undefined || ended.signal !== 0 ? 1 : ended.exitCode;
}

/** For the program inside: makes the places private that wayout, and the programs it is compared with, write to. */
export function makePlacesPrivate(): void {
  libc.mount("none", "/", "none", MS_PRIVATE | MS_REC);
  libc.mount("tmpfs", "/run", "tmpfs", 0, "mode=755");
  mkdirSync("/run/lock", { recursive: true });
  try {
    libc.mount("sysfs", "/sys", "sysfs", 0);
    libc.mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0);
  } catch {
    // Without a fresh sysfs nearly everything still runs; only runtimes that want cgroups would miss them.
  }
  // State that the plugins of this machine may keep is not for a test to see.
  for (const directory of ["/var/lib/cni", "/etc/cni", "/etc/netns"]) {
    try {
      mkdirSync(directory, { recursive: true });
      libc.mount("tmpfs", directory, "tmpfs", 0, "mode=755");
    } catch {
      // An ordinary user cannot make them; then nothing can be written there either.
    }
  }
}
