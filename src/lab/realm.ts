/**
 * Where the lab lives. Root makes its namespaces under /run/netns, for `ip netns` to show. An ordinary user has no such
 * right, but may be root of a user namespace of his own: there the very same code runs, with a /run of its own.
 */
import { readFileSync } from "node:fs";
import { WayoutError } from "../error.ts";
import { SystemError } from "../linux/errno.ts";
import * as libc from "../kernel/libc.ts";
import { networkFailure } from "../network/failure.ts";
import { spawnIn, type SpawnPlace } from "../kernel/spawn.ts";
import { MS_PRIVATE, MS_REC } from "../kernel/named-namespace.ts";
import { CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUSER } from "../kernel/namespace.ts";
import { present } from "../present.ts";
import { SIGKILL } from "../linux/signal.ts";

const REALM_DOING = "making throw-away namespaces for the lab";

/** Exit codes of spawnIn's own steps (see kernel/spawn.ts). */
const ID_MAP_REFUSED = 125;

/** Whether we are root, of the machine or of a user namespace. */
export function isRoot(): boolean {
  return process.getuid!() === 0;
}

/**
 * Starts a command of wayout in throw-away namespaces; they and everything in them end with it, and it ends when we do,
 * however we end. Returns its pid.
 * @throws WayoutError when the machine forbids it
 */
export function spawnInRealm(
  command: readonly [string, ...string[]],
  place: Pick<SpawnPlace, "deathSignal" | "detached" | "keep"> = {},
): number {
  refuseChroot();
  try {
    return spawnIn(
      present({
        newNamespaces: CLONE_NEWNET | CLONE_NEWNS | (isRoot() ? 0 : CLONE_NEWUSER),
        rootFor: isRoot() ? undefined : { uid: process.getuid!(), gid: process.getgid!() },
        deathSignal: SIGKILL,
        ...place,
      }),
      command,
      process.env,
    );
  } catch (error) {
    throw error instanceof SystemError ? realmRefused(error.message, error) : error;
  }
}

/**
 * In a chroot whose root is no mount point nothing can be mounted for us alone, and no user namespace can be made.
 * Such a root is not in the list of mounts.
 */
function refuseChroot(): void {
  const mounts = readOr("/proc/self/mountinfo");
  if (mounts === undefined || mounts.split("\n").some((line) => line.split(" ")[4] === "/")) return;
  throw new WayoutError({
    code: "in-a-chroot",
    kind: "machine",
    doing: REALM_DOING,
    said: "this process lives in a chroot, whose root is no mount point: there the kernel allows no private mounts",
    todo: "Run it outside. Or, as root: mount --bind DIRECTORY DIRECTORY before chroot DIRECTORY; or use a container (pivot_root).",
  });
}

/** Waits for what spawnInRealm started and returns its exit code. @throws WayoutError as above */
export function waitForRealm(pid: number): number {
  const ended = libc.waitpid(pid);
  if (ended === undefined || ended.signal !== 0) return 1;
  if (ended.exitCode === ID_MAP_REFUSED) throw realmRefused("the kernel refused to map our user to root");
  return ended.exitCode;
}

/** The first thing a process in a realm of its own does: mounts that nobody else sees. */
export function settleInRealm(): void {
  libc.mount("none", "/", "none", MS_PRIVATE | MS_REC);
  libc.mount("tmpfs", "/run", "tmpfs", 0, "mode=755");
}

/** What went wrong in building a world: the machine's limit of namespaces, or anything of its network. */
export function worldFailure(doing: string, error: unknown): WayoutError {
  const limited = error instanceof SystemError && error.syscall === "unshare";
  return limited ? realmRefused(error.message, error) : networkFailure(doing, error);
}

/** Names the setting that forbids unprivileged user namespaces, as far as it can be found. */
function realmRefused(said: string, cause?: unknown): WayoutError {
  const settings = [
    { path: "/proc/sys/user/max_user_namespaces", bad: "0", name: "user.max_user_namespaces", good: "15000" },
    { path: "/proc/sys/user/max_net_namespaces", bad: "0", name: "user.max_net_namespaces", good: "15000" },
    {
      path: "/proc/sys/kernel/unprivileged_userns_clone",
      bad: "0",
      name: "kernel.unprivileged_userns_clone",
      good: "1",
    },
    {
      path: "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
      bad: "1",
      name: "kernel.apparmor_restrict_unprivileged_userns",
      good: "0",
    },
  ];
  // ENOSPC says that a limit is reached, here or in a user namespace around us, even where ours reads as larger.
  const limited = cause instanceof SystemError && cause.code === "ENOSPC";
  const suspect = limited ? settings[cause.syscall === "unshare" ? 1 : 0] : undefined;
  const guilty = settings.find(({ path, bad }) => readOr(path) === bad) ?? suspect;
  return new WayoutError({
    code: "no-user-namespace",
    kind: "machine",
    doing: REALM_DOING,
    said: guilty === undefined ? said : `${said}; this machine has ${guilty.name} = ${readOr(guilty.path)}`,
    todo:
      guilty === undefined
        ? forbiddenTodo()
        : `${asRoot("allow it")}: sysctl -w ${guilty.name}=${guilty.good}`,
    cause,
  });
}

function asRoot(otherwise: string): string {
  return isRoot()
    ? `${otherwise.charAt(0).toUpperCase()}${otherwise.slice(1)}`
    : `Run it as root, or ${otherwise}`;
}

function forbiddenTodo(): string {
  return isRoot()
    ? "This root lacks CAP_SYS_ADMIN, as in most containers: run it outside, or give the container that capability."
    : "Run it as root, or where unprivileged user namespaces are allowed (a chroot, or a container's seccomp profile, may forbid them).";
}

function readOr(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}
