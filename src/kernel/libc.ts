/**
 * Room `kernel/`: what opens something: libc, sockets, namespaces, sysctl, files, other processes, the BPF loader.
 * This file is the only one that imports bun:ffi. It holds the libc calls that Node's and Bun's own APIs lack (sockets
 * of other families, namespaces, mounts, bpf(2)) and those that file.ts needs. Each call is checked: a refusal becomes
 * a SystemError with the errno.
 *
 * In: requests as linux/ encodes them, paths, namespaces.
 * Out: what the kernel answered, decoded by linux/; SystemError and NetlinkError for refusals.
 * Touches: everything, but only what the caller names; it decides nothing.
 */
import { dlopen, FFIType, ptr, read as peek, type FFIFunction, type Pointer } from "bun:ffi";
import { messageOf } from "../error.ts";
import { ERRNO, SystemError } from "../linux/errno.ts";
import { encodeUtf8 } from "../linux/utf8.ts";

export { cc, FFIType } from "bun:ffi";

const { i32, u32, u64, i64_fast, pointer, cstring } = FFIType;

/** What nearly every run calls. */
const SYMBOLS = {
  __errno_location: { args: [], returns: pointer },
  socket: { args: [i32, i32, i32], returns: i32 },
  bind: { args: [i32, pointer, u32], returns: i32 },
  setsockopt: { args: [i32, i32, i32, pointer, u32], returns: i32 },
  getsockopt: { args: [i32, i32, i32, pointer, pointer], returns: i32 },
  send: { args: [i32, pointer, u64, i32], returns: i64_fast },
  recv: { args: [i32, pointer, u64, i32], returns: i64_fast },
  poll: { args: [pointer, u64, i32], returns: i32 },
  setns: { args: [i32, i32], returns: i32 },
  flock: { args: [i32, i32], returns: i32 },
  syscall: { args: [u64, u64, u64, u64, u64, u64, u64], returns: i64_fast },
  open: { args: [cstring, i32, u32], returns: i32 },
  close: { args: [i32], returns: i32 },
  read: { args: [i32, pointer, u64], returns: i64_fast },
  write: { args: [i32, pointer, u64], returns: i64_fast },
  mkdir: { args: [cstring, u32], returns: i32 },
  unlink: { args: [cstring], returns: i32 },
  rename: { args: [cstring, cstring], returns: i32 },
  utimensat: { args: [i32, cstring, pointer, i32], returns: i32 },
} as const;

/** The rest: looking up a symbol costs a plugin call, which needs none of these, as much as calling it. */
const RARE_SYMBOLS = {
  connect: { args: [i32, pointer, u32], returns: i32 },
  getsockname: { args: [i32, pointer, pointer], returns: i32 },
  sendto: { args: [i32, pointer, u64, i32, pointer, u32], returns: i64_fast },
  recvfrom: { args: [i32, pointer, u64, i32, pointer, pointer], returns: i64_fast },
  recvmsg: { args: [i32, pointer, i32], returns: i64_fast },
  clock_gettime: { args: [i32, pointer], returns: i32 },
  unshare: { args: [i32], returns: i32 },
  mount: { args: [cstring, cstring, cstring, u64, pointer], returns: i32 },
  umount2: { args: [cstring, i32], returns: i32 },
  signal: { args: [i32, pointer], returns: pointer },
  waitpid: { args: [i32, pointer, i32], returns: i32 },
  execve: { args: [pointer, pointer, pointer], returns: i32 },
  ioctl: { args: [i32, u64, pointer], returns: i32 },
  pipe2: { args: [pointer, i32], returns: i32 },
  prctl: { args: [i32, u64, u64, u64, u64], returns: i32 },
  rmdir: { args: [cstring], returns: i32 },
} as const;

function load<const S extends Readonly<Record<string, FFIFunction>>>(symbols: S) {
  const failures: string[] = [];
  for (const library of ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`]) {
    try {
      return dlopen(library, symbols).symbols;
    } catch (error) {
      // Mostly it is not this C library: try the next name.
      failures.push(messageOf(error));
    }
  }
  throw new Error(`neither glibc (libc.so.6) nor musl can be loaded on this machine: ${failures.join("; ")}`);
}

const libc = load(SYMBOLS);
let rareSymbols: ReturnType<typeof load<typeof RARE_SYMBOLS>> | undefined;
function rare() {
  return (rareSymbols ??= load(RARE_SYMBOLS));
}

/** Thread-local, hence constant for this thread; a Worker loads its own copy of this module. */
const errnoPointer = libc.__errno_location() as Pointer;

function errno(): number {
  return peek.i32(errnoPointer, 0);
}

/** The result of a call that returns -1 on failure. @throws SystemError */
export function checked(syscall: string, result: number, detail?: string): number {
  if (result < 0) throw new SystemError(syscall, errno(), detail);
  return result;
}

/** Where functions of the C library lie in memory, in this order, for code that calls them itself. */
export function functionAddresses(names: readonly string[]): BigUint64Array {
  const found = load(Object.fromEntries(names.map((name) => [name, { args: [], returns: i32 } as const])));
  // Bun's type does not tell of it: a loaded function carries the address of the one it calls.
  const address = (name: string): number => (found[name] as unknown as { readonly ptr: number }).ptr;
  return BigUint64Array.from(names, (name) => BigInt(address(name)));
}

/** A C string. */
export function text(value: string): Uint8Array {
  return encodeUtf8(`${value}\0`);
}

// ── Sockets ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** socket(2), close-on-exec. The socket belongs to the namespace that the calling thread is in now. */
export function socket(domain: number, type: number, protocol: number): number {
  const SOCK_CLOEXEC = 0o2000000;
  return checked("socket", libc.socket(domain, type | SOCK_CLOEXEC, protocol));
}

/** bind(2). `address` is the whole struct sockaddr_*. */
export function bind(fd: number, address: Uint8Array): void {
  checked("bind", libc.bind(fd, address, address.length));
}

/** connect(2). Returns false when a non-blocking socket has only begun (EINPROGRESS). */
export function connect(fd: number, address: Uint8Array): boolean {
  if (rare().connect(fd, address, address.length) === 0) return true;
  if (errno() === ERRNO.EINPROGRESS) return false;
  throw new SystemError("connect", errno());
}

/** getsockname(2): the struct sockaddr_* the kernel chose. */
export function getsockname(fd: number): Uint8Array {
  const address = new Uint8Array(128);
  const length = int(address.length);
  checked("getsockname", rare().getsockname(fd, address, length));
  return address.subarray(0, length[0]);
}

/** A C int in memory. (`Int32Array.of` and its like are compiled from source when they are first called.) */
function int(value: number): Int32Array {
  const array = new Int32Array(1);
  array[0] = value;
  return array;
}

/** setsockopt(2). A number is passed as a C int. */
export function setsockopt(fd: number, level: number, option: number, value: number | Uint8Array): void {
  const bytes = typeof value === "number" ? int(value) : value;
  checked("setsockopt", libc.setsockopt(fd, level, option, bytes, bytes.byteLength), `${level}/${option}`);
}

/**
 * getsockopt(2) for an option that reads its argument from the buffer it then fills (IPT_SO_GET_ENTRIES).
 * Returns the part that was filled.
 */
export function getsockoptInto(fd: number, level: number, option: number, value: Uint8Array): Uint8Array {
  const length = int(value.length);
  checked("getsockopt", libc.getsockopt(fd, level, option, value, length), `${level}/${option}`);
  return value.subarray(0, length[0]);
}

/** getsockopt(2) for an option of at most `size` bytes. */
export function getsockopt(fd: number, level: number, option: number, size: number): Uint8Array {
  const value = new Uint8Array(size);
  const length = int(size);
  checked("getsockopt", libc.getsockopt(fd, level, option, value, length), `${level}/${option}`);
  return value.subarray(0, length[0]);
}

/** send(2), interrupted calls repeated. Returns the bytes sent. */
export function send(fd: number, bytes: Uint8Array, flags = 0): number {
  for (;;) {
    const sent = libc.send(fd, bytes, bytes.length, flags);
    if (sent >= 0) return Number(sent);
    if (errno() !== ERRNO.EINTR) throw new SystemError("send", errno());
  }
}

/** sendto(2) on a datagram or packet socket. */
export function sendto(fd: number, bytes: Uint8Array, address: Uint8Array, flags = 0): number {
  return checked("sendto", Number(rare().sendto(fd, bytes, bytes.length, flags, address, address.length)));
}

/**
 * recv(2) into `buffer`, interrupted calls repeated. With MSG_TRUNC in `flags` the result is the true length of the
 * datagram, even when it did not fit. Throws SystemError EAGAIN when nothing is there in time.
 */
export function recv(fd: number, buffer: Uint8Array, flags = 0): number {
  for (;;) {
    const received = libc.recv(fd, buffer, buffer.length, flags);
    if (received >= 0) return Number(received);
    if (errno() !== ERRNO.EINTR) throw new SystemError("recv", errno());
  }
}

/** recvfrom(2) without waiting; undefined when nothing is there. `address` is filled with the sender's sockaddr. */
export function recvfrom(fd: number, buffer: Uint8Array, address: Uint8Array): number | undefined {
  const MSG_TRUNC = 0x20;
  const MSG_DONTWAIT = 0x40;
  const length = int(address.length);
  for (;;) {
    const received = Number(
      rare().recvfrom(fd, buffer, buffer.length, MSG_TRUNC | MSG_DONTWAIT, address, length),
    );
    if (received >= 0) return received;
    if (errno() === ERRNO.EAGAIN) return undefined;
    if (errno() !== ERRNO.EINTR) throw new SystemError("recvfrom", errno());
  }
}

/** Room for recvmsg(2), made once and used for many messages: the data, the sender's sockaddr, control messages. */
export class MessageRoom {
  readonly data: Uint8Array;
  readonly name: Uint8Array;
  readonly control: Uint8Array;
  readonly #vector: BigUint64Array;
  /** struct msghdr as it is on 64-bit machines: 56 bytes. */
  readonly header = new Uint8Array(56);
  readonly #view = new DataView(this.header.buffer);

  constructor(dataBytes: number, nameBytes: number, controlBytes: number) {
    this.data = new Uint8Array(dataBytes);
    this.name = new Uint8Array(nameBytes);
    this.control = new Uint8Array(controlBytes);
    this.#vector = BigUint64Array.of(pointerTo(this.data), BigInt(dataBytes));
    this.reset();
  }

  /** The kernel overwrites the lengths with what it filled in; before each call they say how much fits. */
  reset(): void {
    this.#view.setBigUint64(0, pointerTo(this.name), true);
    this.#view.setUint32(8, this.name.length, true);
    this.#view.setBigUint64(16, pointerTo(this.#vector), true);
    this.#view.setBigUint64(24, 1n, true);
    this.#view.setBigUint64(32, pointerTo(this.control), true);
    this.#view.setBigUint64(40, BigInt(this.control.length), true);
  }

  get controlLength(): number {
    return Number(this.#view.getBigUint64(40, true));
  }
}

/** recvmsg(2) without waiting; undefined when nothing is there. The true length, even when it did not fit. */
export function recvmsg(fd: number, room: MessageRoom, flags = 0): number | undefined {
  const MSG_TRUNC = 0x20;
  const MSG_DONTWAIT = 0x40;
  for (;;) {
    room.reset();
    const received = Number(rare().recvmsg(fd, room.header, flags | MSG_TRUNC | MSG_DONTWAIT));
    if (received >= 0) return received;
    if (errno() === ERRNO.EAGAIN) return undefined;
    if (errno() !== ERRNO.EINTR) throw new SystemError("recvmsg", errno());
  }
}

/** One entry of poll(2): wait for `events` (POLLIN 1, POLLOUT 4); `revents` is filled in. */
export interface PollEntry {
  readonly fd: number;
  readonly events: number;
  revents: number;
}

/** poll(2): blocks this thread up to `timeoutMs` (-1: for ever). Returns how many entries have something to say. */
export function poll(entries: readonly PollEntry[], timeoutMs: number): number {
  const raw = new Int32Array(entries.length * 2);
  for (const [index, entry] of entries.entries()) {
    raw[2 * index] = entry.fd;
    raw[2 * index + 1] = entry.events & 0xffff;
  }
  const ready = libc.poll(raw, entries.length, timeoutMs);
  if (ready < 0) {
    if (errno() === ERRNO.EINTR) return 0;
    throw new SystemError("poll", errno());
  }
  for (const [index, entry] of entries.entries()) entry.revents = raw[2 * index + 1]! >>> 16;
  return ready;
}

// ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** open(2). */
export function open(path: string, flags: number, permissions = 0): number {
  const fd = openUnless(undefined, path, flags, permissions);
  return fd!;
}

/** open(2); undefined where it fails with the errno that is expected, which is quicker than to throw and to catch it. */
export function openUnless(
  expected: number | undefined,
  path: string,
  flags: number,
  permissions = 0,
): number | undefined {
  for (;;) {
    const fd = libc.open(text(path), flags, permissions);
    if (fd >= 0) return fd;
    const failure = errno();
    if (failure === expected) return undefined;
    if (failure !== ERRNO.EINTR) throw new SystemError("open", failure, path);
  }
}

/** mkdir(2). False when something of that name is there. */
export function mkdir(path: string, permissions: number): boolean {
  if (libc.mkdir(text(path), permissions) === 0) return true;
  if (errno() === ERRNO.EEXIST) return false;
  throw new SystemError("mkdir", errno(), path);
}

/** close(2). On Linux the descriptor is gone even when it fails. */
export function close(fd: number): void {
  libc.close(fd);
}

/** read(2), interrupted calls repeated. 0 at the end. */
export function read(fd: number, buffer: Uint8Array): number {
  for (;;) {
    const count = Number(libc.read(fd, buffer, buffer.length));
    if (count >= 0) return count;
    if (errno() !== ERRNO.EINTR) throw new SystemError("read", errno());
  }
}

/** write(2), interrupted calls repeated. Returns how many bytes were taken. */
export function write(fd: number, bytes: Uint8Array): number {
  for (;;) {
    const count = Number(libc.write(fd, bytes, bytes.length));
    if (count >= 0) return count;
    if (errno() !== ERRNO.EINTR) throw new SystemError("write", errno());
  }
}

/** unlink(2). */
export function unlink(path: string): void {
  checked("unlink", libc.unlink(text(path)), path);
}

/** rmdir(2). */
export function rmdir(path: string): void {
  checked("rmdir", rare().rmdir(text(path)), path);
}

/** rename(2). */
export function rename(from: string, to: string): void {
  checked("rename", libc.rename(text(from), text(to)), from);
}

/** utimensat(2). `times` is struct timespec[2]. */
export function utimensat(path: string, times: BigInt64Array): void {
  const AT_FDCWD = -100;
  checked("utimensat", libc.utimensat(AT_FDCWD, text(path), times, 0), path);
}

/** Calls that not every C library in use has a function for; include/uapi/asm-generic/unistd.h, x86's syscall_64.tbl. */
const NUMBERS =
  process.arch === "arm64"
    ? {
        getdents64: 61,
        statx: 291,
        memfd_create: 279,
        prlimit64: 261,
        ioctl: 29,
        fstatfs: 44,
        faccessat: 48,
        openat: 56,
        readlinkat: 78,
        openat2: 437,
      }
    : {
        getdents64: 217,
        statx: 332,
        memfd_create: 319,
        prlimit64: 302,
        ioctl: 16,
        fstatfs: 138,
        faccessat: 269,
        openat: 257,
        readlinkat: 267,
        openat2: 437,
      };

/** memfd_create(2), close-on-exec: a file that lies in no folder. Returns its descriptor. */
export function memoryFile(name: string): number {
  const MFD_CLOEXEC = 1;
  const path = text(name);
  return checked(
    "memfd_create",
    Number(libc.syscall(NUMBERS.memfd_create, Number(ptr(path)), MFD_CLOEXEC, 0, 0, 0, 0)),
  );
}

/** access(2) with W_OK. */
export function accessForWriting(path: string): void {
  const [AT_FDCWD, W_OK] = [-100, 2];
  const name = text(path);
  const result = libc.syscall(NUMBERS.faccessat, AT_FDCWD >>> 0, Number(ptr(name)), W_OK, 0, 0, 0);
  checked("access", Number(result), path);
}

/** getdents64(2). Returns how many bytes of struct linux_dirent64 were filled in; 0 at the end. */
export function getdents64(fd: number, buffer: Uint8Array, path: string): number {
  const length = libc.syscall(NUMBERS.getdents64, fd, Number(ptr(buffer)), buffer.length, 0, 0, 0);
  return checked("getdents64", Number(length), path);
}

/** statx(2) with the basic fields, and the birth where it is known. Returns struct statx. */
export function statx(fd: number, path: string, flags: number): Uint8Array {
  const STATX_BASIC_STATS_AND_BTIME = 0xfff;
  const name = text(path);
  const status = new Uint8Array(256);
  checked(
    "statx",
    Number(
      libc.syscall(
        NUMBERS.statx,
        fd >>> 0,
        Number(ptr(name)),
        flags,
        STATX_BASIC_STATS_AND_BTIME,
        Number(ptr(status)),
        0,
      ),
    ),
    path,
  );
  return status;
}

// ── Namespaces and mounts ────────────────────────────────────────────────────────────────────────────────────────

/** setns(2): moves the calling thread only. `type` is a CLONE_NEW* flag, or 0 for whatever the fd is. */
export function setns(fd: number, type: number): void {
  checked("setns", libc.setns(fd, type));
}

/** unshare(2): the calling thread only. */
export function unshare(flags: number): void {
  checked("unshare", rare().unshare(flags));
}

/** mount(2). `data` is the options string of the file system type. */
export function mount(source: string, target: string, type: string, flags: number, data?: string): void {
  const options = data === undefined ? null : text(data);
  checked("mount", rare().mount(text(source), text(target), text(type), flags, options), target);
}

/** umount2(2). */
export function umount(target: string, flags = 0): void {
  checked("umount", rare().umount2(text(target), flags), target);
}

// ── Processes, locks and the rest ────────────────────────────────────────────────────────────────────────────────

/** flock(2). Returns false when LOCK_NB was asked for and another process holds the lock. */
export function flock(fd: number, operation: number): boolean {
  for (;;) {
    if (libc.flock(fd, operation) === 0) return true;
    if (errno() === ERRNO.EAGAIN) return false;
    if (errno() !== ERRNO.EINTR) throw new SystemError("flock", errno());
  }
}

/** waitpid(2). Blocks unless WNOHANG (1) is in `options`; undefined when the child still runs. */
export function waitpid(
  pid: number,
  options = 0,
): { readonly exitCode: number; readonly signal: number } | undefined {
  const status = new Int32Array(1);
  for (;;) {
    const result = rare().waitpid(pid, status, options);
    if (result === 0) return undefined;
    if (result > 0) return { exitCode: (status[0]! >> 8) & 0xff, signal: status[0]! & 0x7f };
    if (errno() !== ERRNO.EINTR) throw new SystemError("waitpid", errno());
  }
}

/** pidfd_open(2), Linux 5.3: this process and no later one of the same pid. undefined when there is none. */
export function pidfdOpen(pid: number): number | undefined {
  const fd = Number(libc.syscall(434, pid, 0, 0, 0, 0, 0));
  if (fd < 0 && errno() === ERRNO.ESRCH) return undefined;
  return checked("pidfd_open", fd);
}

/** pidfd_send_signal(2). A process that has ended meanwhile is fine. */
export function pidfdSendSignal(pidfd: number, signal: number): void {
  if (Number(libc.syscall(424, pidfd, signal, 0, 0, 0, 0)) < 0 && errno() !== ERRNO.ESRCH) {
    throw new SystemError("pidfd_send_signal", errno());
  }
}

/** clock_gettime(2) of CLOCK_REALTIME (0) or CLOCK_MONOTONIC (1), in microseconds with a fraction. */
export function clockUs(clock: 0 | 1): number {
  const time = new BigInt64Array(2);
  checked("clock_gettime", rare().clock_gettime(clock, time));
  return Number(time[0]) * 1e6 + Number(time[1]) / 1000;
}

/** ioctl(2) with a pointer argument that the kernel may fill in. */
export function ioctl(fd: number, request: number, argument: Uint8Array): void {
  checked("ioctl", rare().ioctl(fd, request, argument), `0x${request.toString(16)}`);
}

/** ioctl(2) whose answer is its result. */
export function ioctlResult(fd: number, request: number): number {
  return checked(
    "ioctl",
    Number(libc.syscall(NUMBERS.ioctl, fd, request, 0, 0, 0, 0)),
    `0x${request.toString(16)}`,
  );
}

/** fstatfs(2): struct statfs. */
export function fstatfs(fd: number): Uint8Array {
  const status = new Uint8Array(128);
  checked("fstatfs", Number(libc.syscall(NUMBERS.fstatfs, fd, Number(ptr(status)), 0, 0, 0, 0)));
  return status;
}

/** openat2(2) (Linux 5.6). @param resolve RESOLVE_* @throws SystemError ENOSYS on older kernels */
export function openat2(directory: number, path: string, flags: number, resolve: number): number {
  // struct open_how: flags, mode, resolve.
  const how = new BigUint64Array(3);
  how[0] = BigInt(flags >>> 0);
  how[2] = BigInt(resolve);
  const name = text(path);
  const { openat2: number } = NUMBERS;
  return checked(
    "openat2",
    Number(libc.syscall(number, directory >>> 0, Number(ptr(name)), Number(ptr(how)), how.byteLength, 0, 0)),
    path,
  );
}

/** openat(2). */
export function openat(directory: number, path: string, flags: number): number {
  const name = text(path);
  return checked(
    "openat",
    Number(libc.syscall(NUMBERS.openat, directory >>> 0, Number(ptr(name)), flags >>> 0, 0, 0, 0)),
    path,
  );
}

/** readlinkat(2) of a descriptor opened with O_PATH | O_NOFOLLOW. */
export function readlinkOf(fd: number): Uint8Array {
  const room = new Uint8Array(4096);
  const empty = text("");
  const length = Number(
    libc.syscall(NUMBERS.readlinkat, fd, Number(ptr(empty)), Number(ptr(room)), room.length, 0, 0),
  );
  return room.subarray(0, checked("readlinkat", length));
}

/** Takes away RLIMIT_MEMLOCK (prlimit(2)). False for those who may not. */
export function unlimitLockedMemory(): boolean {
  const RLIMIT_MEMLOCK = 8;
  const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn;
  const limits = BigUint64Array.from([RLIM_INFINITY, RLIM_INFINITY]);
  return Number(libc.syscall(NUMBERS.prlimit64, 0, RLIMIT_MEMLOCK, Number(ptr(limits)), 0, 0, 0)) === 0;
}

/** prctl(2). */
export function prctl(option: number, argument: number): void {
  checked("prctl", rare().prctl(option, argument, 0, 0, 0));
}

/** pipe2(2), both ends close-on-exec. */
export function pipe(): { readonly readEnd: number; readonly writeEnd: number } {
  const O_CLOEXEC = 0o2000000;
  const ends = new Int32Array(2);
  checked("pipe2", rare().pipe2(ends, O_CLOEXEC));
  return { readEnd: ends[0]!, writeEnd: ends[1]! };
}

/** A system call that libc has no function for, e.g. bpf(2). `attributes` is the union the kernel reads and fills. */
export function syscallWithBuffer(
  name: string,
  number: number,
  command: number,
  attributes: Uint8Array,
): number {
  return checked(
    name,
    Number(libc.syscall(number, command, Number(ptr(attributes)), attributes.length, 0, 0, 0)),
  );
}

/** The address of a buffer, for structures that hold pointers. The buffer must stay referenced while it is used. */
export function pointerTo(buffer: Uint8Array | Int32Array | BigUint64Array): bigint {
  return BigInt(ptr(buffer));
}

/** A NULL-terminated vector of C strings, with the strings kept alive beside it. */
export function stringVector(values: readonly string[]): {
  readonly vector: BigUint64Array;
  readonly keep: Uint8Array[];
} {
  const keep = values.map(text);
  return { vector: BigUint64Array.from([...keep.map((value) => pointerTo(value)), 0n]), keep };
}

export function environmentVector(environment: Readonly<Record<string, string | undefined>>) {
  return stringVector(
    Object.entries(environment).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`])),
  );
}

/** execve(2): replaces this process. Returns only by throwing. */
export function execve(
  path: string,
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): never {
  const args = stringVector(argv);
  const env = environmentVector(environment);
  // Bun ignores SIGPIPE, and what is ignored stays so across execve: "yes | head" would never end.
  const SIGPIPE = 13;
  rare().signal(SIGPIPE, null);
  rare().execve(text(path), args.vector, env.vector);
  throw new SystemError("execve", errno(), path);
}
