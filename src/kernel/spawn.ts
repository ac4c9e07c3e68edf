/**
 * Starting programs in other namespaces. A process with more than one thread may not change its user namespace
 * (user_namespaces(7)), and Bun always has several; a fork of it cannot go on running JavaScript. So the few steps
 * between clone(2) and execve(2) are C, compiled in memory by Bun's own TinyCC when this is first needed: only `lab`
 * does.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SystemError } from "../linux/errno.ts";
import * as libc from "./libc.ts";

const SPAWN_C = `
extern long syscall(long number, ...);
extern int setns(int fd, int type);
extern int prctl(int option, ...);
extern int open(const char *path, int flags, ...);
extern long write(int fd, const void *bytes, unsigned long length);
extern int close(int fd);
extern int execve(const char *path, char *const argv[], char *const env[]);
extern int getpid(void);
extern int getppid(void);
extern void _exit(int code);
extern int *__errno_location(void);
extern unsigned long strlen(const char *text);

static void put(const char *path, const char *value) {
  if (!value) return;
  int fd = open(path, 1);
  if (fd < 0 || write(fd, value, strlen(value)) < 0) _exit(125);
  close(fd);
}

/* clone3 is not needed: clone without a stack copies the address space, as fork does; CLONE_VFORK makes the parent
   wait until execve, so that its buffers stay as they are. The exit codes 124 (the parent is gone already) to 126 tell
   which step failed. */
int spawn_in(long flags, const int *fds, int count, const char *uid_map, const char *gid_map, int death_signal,
             const char *path, char *const *argv, char *const *env) {
  int parent = getpid();
  long pid = syscall(CLONE_NUMBER, flags | 0x4000 | 17, 0L, 0L, 0L, 0L);
  if (pid < 0) return -*__errno_location();
  if (pid > 0) return (int)pid;
  for (int i = 0; i < count; i++) if (setns(fds[i], 0)) _exit(126);
  if (uid_map) {
    put("/proc/self/setgroups", "deny");
    put("/proc/self/uid_map", uid_map);
    put("/proc/self/gid_map", gid_map);
  }
  if (death_signal) {
    prctl(1, death_signal);
    if (getppid() != parent) _exit(124);
  }
  execve(path, argv, env);
  _exit(127);
  return 0;
}
`;

const { i32, u64, pointer } = libc.FFIType;

function compileSpawn() {
  // TinyCC reads its source from a path; the directory is gone again before the first call.
  const directory = mkdtempSync(join(tmpdir(), "wayout-"));
  try {
    const source = join(directory, "spawn.c");
    writeFileSync(source, SPAWN_C.replace("CLONE_NUMBER", process.arch === "arm64" ? "220L" : "56L"));
    return libc.cc({
      source,
      symbols: {
        spawn_in: {
          args: [u64, pointer, i32, pointer, pointer, i32, pointer, pointer, pointer],
          returns: i32,
        },
      },
    }).symbols;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

let spawnLibrary: ReturnType<typeof compileSpawn> | undefined;

/** Where a child process shall live, besides what it inherits. */
export interface SpawnPlace {
  /** CLONE_NEW* flags: namespaces made new for the child. */
  readonly newNamespaces?: number;
  /** File descriptors of namespaces the child enters, in this order (a user namespace first). */
  readonly enter?: readonly number[];
  /** Map this uid and gid to root in the new user namespace, or to the id `as`. */
  readonly rootFor?: { readonly uid: number; readonly gid: number; readonly as?: number };
  /** Signal the child gets when this process ends; 0 or absent: none. */
  readonly deathSignal?: number;
}

/**
 * Starts a program in other namespaces and returns its pid; the caller waits with waitpid. The child shares stdin,
 * stdout and stderr. An exit code of 125 means the kernel refused the id map, 126 a namespace, 127 the program.
 * @throws SystemError from clone(2): EPERM or ENOSPC when the machine forbids new user namespaces.
 */
export function spawnIn(
  place: SpawnPlace,
  argv: readonly [string, ...string[]],
  environment: Readonly<Record<string, string | undefined>>,
): number {
  spawnLibrary ??= compileSpawn();
  const fds = Int32Array.from([...(place.enter ?? []), -1]);
  const inside = place.rootFor?.as ?? 0;
  const uidMap = place.rootFor === undefined ? null : libc.text(`${inside} ${place.rootFor.uid} 1`);
  const gidMap = place.rootFor === undefined ? null : libc.text(`${inside} ${place.rootFor.gid} 1`);
  const args = libc.stringVector(argv);
  const env = libc.environmentVector(environment);
  const pid = spawnLibrary.spawn_in(
    place.newNamespaces ?? 0,
    fds,
    place.enter?.length ?? 0,
    uidMap,
    gidMap,
    place.deathSignal ?? 0,
    libc.text(argv[0]),
    args.vector,
    env.vector,
  );
  if (pid < 0) throw new SystemError("clone", -pid);
  return pid;
}
