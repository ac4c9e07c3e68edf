/**
 * Starting programs in other namespaces. A process with more than one thread may not change its user namespace
 * (user_namespaces(7)), and Bun always has several; a fork of it cannot go on running JavaScript. So the few steps
 * between clone(2) and execve(2) are C, compiled in memory by Bun's own TinyCC when this is first needed: only `lab`
 * does. Nothing is linked and no header is read: a machine without development files has neither. The functions of
 * the C library that this process runs on are handed in by address.
 */
import { messageOf, WayoutError } from "../error.ts";
import { OWN_FILE } from "../self.ts";
import { closeFile, writeDescriptor } from "./file.ts";
import { cc, FFIType, functionAddresses } from "../platform/bun.ts";
import * as libc from "./libc.ts";

/** What the C code calls, and how C declares it. */
const CALLS = {
  syscall: "long (*syscall)(long number, ...)",
  setns: "int (*setns)(int fd, int type)",
  setsid: "int (*setsid)(void)",
  prctl: "int (*prctl)(int option, ...)",
  open: "int (*open)(const char *path, int flags, ...)",
  write: "long (*write)(int fd, const void *bytes, unsigned long length)",
  close: "int (*close)(int fd)",
  dup2: "int (*dup2)(int from, int to)",
  fcntl: "int (*fcntl)(int fd, int command, ...)",
  chdir: "int (*chdir)(const char *path)",
  execve: "int (*execve)(const char *path, char *const argv[], char *const env[])",
  getpid: "int (*getpid)(void)",
  getppid: "int (*getppid)(void)",
  _exit: "void (*_exit)(int code)",
} as const;

/** What is asked for, in one structure of 64-bit members. */
const ORDER = [
  "long flags",
  "const int *enter",
  "long enter_count",
  "const char *uid_map",
  "const char *gid_map",
  "long death_signal",
  "const int *keep",
  "long keep_count",
  "long detached",
  "const char *path",
  "char *const *argv",
  "char *const *env",
] as const;

const SPAWN_C = `
struct calls { ${Object.values(CALLS)
  .map((declaration) => `${declaration};`)
  .join(" ")} };
struct order { ${ORDER.map((member) => `${member};`).join(" ")} };

static void put(const struct calls *c, const char *path, const char *value) {
  long length = 0;
  int fd = c->open(path, 1);
  while (value[length]) length++;
  if (fd < 0 || c->write(fd, value, length) < 0) c->_exit(125);
  c->close(fd);
}

static int is_kept(const struct order *o, int fd) {
  for (int i = 0; i < o->keep_count; i++) if (o->keep[i] == fd) return 1;
  return 0;
}

/* Nothing of the caller stays open: no terminal, pipe, lock or directory. close_range(2) is younger than Linux 5.9. */
static void leave_caller(const struct calls *c, const struct order *o) {
  c->setsid();
  c->chdir("/");
  int nothing = c->open("/dev/null", 2);
  if (nothing < 0) c->_exit(123);
  for (int fd = 0; fd < 3; fd++) c->dup2(nothing, fd);
  int highest = 2;
  for (int i = 0; i < o->keep_count; i++) if (o->keep[i] > highest) highest = o->keep[i];
  for (int fd = 3; fd <= highest; fd++) if (!is_kept(o, fd)) c->close(fd);
  if (c->syscall(436L, highest + 1L, 0x7fffffffL, 0L) == 0) return;
  for (int fd = highest + 1; fd < 65536; fd++) c->close(fd);
}

/* clone3 is not needed: clone without a stack copies the address space, as fork does; CLONE_VFORK makes the parent
   wait until execve, so that its buffers stay as they are. The exit codes 123 (there is no /dev/null), 124 (the parent is
   gone already) to 126 tell which step failed. */
long spawn_in(const struct calls *c, const struct order *o) {
  int parent = c->getpid();
  long pid = c->syscall(CLONE_NUMBER, o->flags | 0x4000L | 17L, 0L, 0L, 0L, 0L);
  if (pid != 0) return pid;
  for (int i = 0; i < o->enter_count; i++) if (c->setns(o->enter[i], 0)) c->_exit(126);
  if (o->uid_map) {
    put(c, "/proc/self/setgroups", "deny");
    put(c, "/proc/self/uid_map", o->uid_map);
    put(c, "/proc/self/gid_map", o->gid_map);
  }
  if (o->death_signal) {
    c->prctl(1, o->death_signal, 0L, 0L, 0L);
    if (c->getppid() != parent) c->_exit(124);
  }
  if (o->detached) leave_caller(c, o);
  for (int i = 0; i < o->keep_count; i++) c->fcntl(o->keep[i], 2, 0L);
  c->execve(o->path, o->argv, o->env);
  c->_exit(127);
  return 0;
}
`;

const { i64_fast, pointer } = FFIType;

function compileSpawn() {
  // TinyCC reads its source from a path. This one is in memory: no folder needs to be writable, and nothing is left.
  const fd = libc.memoryFile("spawn");
  try {
    writeDescriptor(fd, SPAWN_C.replace("CLONE_NUMBER", process.arch === "arm64" ? "220L" : "56L"));
    const { spawn_in } = cc({
      source: `/proc/self/fd/${fd}`,
      flags: ["-nostdlib", "-nostdinc"],
      symbols: { spawn_in: { args: [pointer, pointer], returns: i64_fast } },
    }).symbols;
    return { spawn_in, calls: functionAddresses(Object.keys(CALLS)) };
  } catch (error) {
    throw new WayoutError({
      code: "no-spawn",
      kind: "machine",
      doing: "preparing to start a process in other namespaces",
      said: messageOf(error),
      cause: error,
    });
  } finally {
    closeFile(fd);
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
  /** File descriptors that the child inherits under the same numbers, close-on-exec or not. */
  readonly keep?: readonly number[];
  /**
   * The child has nothing of its caller: a session of its own, `/` as its directory, standard input, output and error
   * on /dev/null, and no other open file but those of `keep`. For what may stay when the command has ended.
   */
  readonly detached?: boolean;
}

/**
 * Starts a program in other namespaces and returns its pid; the caller waits with waitpid. The child shares stdin,
 * stdout and stderr, unless it is detached. An exit code of 125 means the kernel refused the id map, 126 a namespace,
 * 127 the program.
 * @throws SystemError from clone(2): EPERM or ENOSPC when the machine forbids new user namespaces
 * @throws WayoutError when this process may not make code at run time
 */
export function spawnIn(
  place: SpawnPlace,
  argv: readonly [string, ...string[]],
  environment: Readonly<Record<string, string | undefined>>,
): number {
  spawnLibrary ??= compileSpawn();
  const inside = place.rootFor?.as ?? 0;
  const map = (id: number): Uint8Array => libc.text(`${inside} ${id} 1`);
  const args = libc.stringVector(argv);
  const env = libc.environmentVector(environment);
  // Referenced until the call has returned: the structure holds addresses only.
  const memory = {
    enter: descriptors(place.enter),
    keep: descriptors(place.keep),
    uidMap: place.rootFor === undefined ? undefined : map(place.rootFor.uid),
    gidMap: place.rootFor === undefined ? undefined : map(place.rootFor.gid),
    // Our own program by its inode: where the child lives its path may be covered.
    path: libc.text(argv[0] === process.execPath ? OWN_FILE : argv[0]),
  };
  const at = (buffer: Parameters<typeof libc.pointerTo>[0] | undefined): bigint =>
    buffer === undefined ? 0n : libc.pointerTo(buffer);
  const order: Readonly<Record<(typeof ORDER)[number], bigint>> = {
    "long flags": BigInt(place.newNamespaces ?? 0),
    "const int *enter": at(memory.enter),
    "long enter_count": BigInt(place.enter?.length ?? 0),
    "const char *uid_map": at(memory.uidMap),
    "const char *gid_map": at(memory.gidMap),
    "long death_signal": BigInt(place.deathSignal ?? 0),
    "const int *keep": at(memory.keep),
    "long keep_count": BigInt(place.keep?.length ?? 0),
    "long detached": place.detached === true ? 1n : 0n,
    "const char *path": at(memory.path),
    "char *const *argv": at(args.vector),
    "char *const *env": at(env.vector),
  };
  return libc.checked(
    "clone",
    Number(
      spawnLibrary.spawn_in(spawnLibrary.calls, BigUint64Array.from(ORDER.map((member) => order[member]))),
    ),
  );
}

/** Never empty: an empty buffer has no address. */
function descriptors(fds: readonly number[] = []): Int32Array {
  return Int32Array.from([...fds, -1]);
}
