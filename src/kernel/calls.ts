/**
 * The C library's calls that a plugin call makes, each checked: a refusal becomes a SystemError with the errno. The
 * platform makes them. libc.ts has those that only the rest of wayout needs.
 */
import { ERRNO, SystemError } from "../linux/errno.ts";
import { encodeUtf8 } from "../platform/bytes.ts";
import { platform } from "#platform";
import { AT_FDCWD } from "./open-flags.ts";

const { libc } = platform;

/** The result of a call that returns -1 on failure. @throws SystemError */
export function checked(syscall: string, result: number, detail?: string): number {
  if (result < 0) throw new SystemError(syscall, platform.errno(), detail);
  return result;
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

/** A C int in memory. (`Int32Array.of` and its like are compiled from source when they are first called.) */
export function int(value: number): Int32Array {
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
    if (platform.errno() !== ERRNO.EINTR) throw new SystemError("send", platform.errno());
  }
}

/**
 * recv(2) into `buffer`, interrupted calls repeated. With MSG_TRUNC in `flags` the result is the true length of the
 * datagram, even when it did not fit. Throws SystemError EAGAIN when nothing is there in time.
 */
export function recv(fd: number, buffer: Uint8Array, flags = 0): number {
  for (;;) {
    const received = libc.recv(fd, buffer, buffer.length, flags);
    if (received >= 0) return Number(received);
    if (platform.errno() !== ERRNO.EINTR) throw new SystemError("recv", platform.errno());
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
    if (platform.errno() === ERRNO.EINTR) return 0;
    throw new SystemError("poll", platform.errno());
  }
  for (const [index, entry] of entries.entries()) entry.revents = raw[2 * index + 1]! >>> 16;
  return ready;
}

/** Nothing but waiting. @param ms whole milliseconds */
export function sleep(ms: number): void {
  libc.poll(null, 0, ms);
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
    const failure = platform.errno();
    if (failure === expected) return undefined;
    if (failure !== ERRNO.EINTR) throw new SystemError("open", failure, path);
  }
}

/** mkdir(2). False when something of that name is there. */
export function mkdir(path: string, permissions: number): boolean {
  if (libc.mkdir(text(path), permissions) === 0) return true;
  if (platform.errno() === ERRNO.EEXIST) return false;
  throw new SystemError("mkdir", platform.errno(), path);
}

/** fcntl(2), F_GETFD: whether the descriptor ends with this program. Our parent handed on none of that kind. */
export function isCloseOnExec(fd: number): boolean {
  const [F_GETFD, FD_CLOEXEC] = [1, 1];
  return Number(libc.syscall(NUMBERS.fcntl, fd, F_GETFD, 0, 0, 0, 0)) === FD_CLOEXEC;
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
    if (platform.errno() !== ERRNO.EINTR) throw new SystemError("read", platform.errno());
  }
}

/** write(2), interrupted calls repeated. Returns how many bytes were taken. */
export function write(fd: number, bytes: Uint8Array): number {
  for (;;) {
    const count = Number(libc.write(fd, bytes, bytes.length));
    if (count >= 0) return count;
    if (platform.errno() !== ERRNO.EINTR) throw new SystemError("write", platform.errno());
  }
}

/** unlink(2). */
export function unlink(path: string): void {
  checked("unlink", libc.unlink(text(path)), path);
}

/** rmdir(2). */
export function rmdir(path: string): void {
  const AT_REMOVEDIR = 0x200;
  const name = text(path);
  const result = libc.syscall(
    NUMBERS.unlinkat,
    AT_FDCWD >>> 0,
    platform.addressOf(name),
    AT_REMOVEDIR,
    0,
    0,
    0,
  );
  checked("rmdir", Number(result), path);
}

/** rename(2). */
export function rename(from: string, to: string): void {
  checked("rename", libc.rename(text(from), text(to)), from);
}

/** utimensat(2). `times` is struct timespec[2]. */
export function utimensat(path: string, times: BigInt64Array): void {
  checked("utimensat", libc.utimensat(AT_FDCWD, text(path), times, 0), path);
}

/** Calls that not every C library in use has a function for; include/uapi/asm-generic/unistd.h, x86's syscall_64.tbl. */
const NUMBERS =
  platform.arch === "arm64"
    ? {
        getdents64: 61,
        statx: 291,
        ioctl: 29,
        fstatfs: 44,
        faccessat: 48,
        unlinkat: 35,
        umask: 166,
        fcntl: 25,
        getrandom: 278,
        clock_gettime: 113,
      }
    : {
        getdents64: 217,
        statx: 332,
        ioctl: 16,
        fstatfs: 138,
        faccessat: 269,
        unlinkat: 263,
        umask: 95,
        fcntl: 72,
        getrandom: 318,
        clock_gettime: 228,
      };

export const X_OK = 1;
export const W_OK = 2;

/** access(2). */
export function access(path: string, mode: typeof X_OK | typeof W_OK): void {
  const name = text(path);
  const result = libc.syscall(NUMBERS.faccessat, AT_FDCWD >>> 0, platform.addressOf(name), mode, 0, 0, 0);
  checked("access", Number(result), path);
}

/** getdents64(2). Returns how many bytes of struct linux_dirent64 were filled in; 0 at the end. */
export function getdents64(fd: number, buffer: Uint8Array, path: string): number {
  const length = libc.syscall(NUMBERS.getdents64, fd, platform.addressOf(buffer), buffer.length, 0, 0, 0);
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
        platform.addressOf(name),
        flags,
        STATX_BASIC_STATS_AND_BTIME,
        platform.addressOf(status),
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

// ── Processes, locks and the rest ────────────────────────────────────────────────────────────────────────────────

/** flock(2). Returns false when LOCK_NB was asked for and another process holds the lock. */
export function flock(fd: number, operation: number): boolean {
  for (;;) {
    if (libc.flock(fd, operation) === 0) return true;
    if (platform.errno() === ERRNO.EAGAIN) return false;
    if (platform.errno() !== ERRNO.EINTR) throw new SystemError("flock", platform.errno());
  }
}

/** pidfd_open(2), Linux 5.3: this process and no later one of the same pid. undefined when there is none. */
export function pidfdOpen(pid: number): number | undefined {
  const fd = Number(libc.syscall(434, pid, 0, 0, 0, 0, 0));
  if (fd < 0 && platform.errno() === ERRNO.ESRCH) return undefined;
  return checked("pidfd_open", fd);
}

/** pidfd_send_signal(2). A process that has ended meanwhile is fine. */
export function pidfdSendSignal(pidfd: number, signal: number): void {
  if (Number(libc.syscall(424, pidfd, signal, 0, 0, 0, 0)) < 0 && platform.errno() !== ERRNO.ESRCH) {
    throw new SystemError("pidfd_send_signal", platform.errno());
  }
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
  checked("fstatfs", Number(libc.syscall(NUMBERS.fstatfs, fd, platform.addressOf(status), 0, 0, 0, 0)));
  return status;
}

/** umask(2). Returns what it was. */
export function umask(mask: number): number {
  return Number(libc.syscall(NUMBERS.umask, mask, 0, 0, 0, 0, 0));
}

/** getrandom(2): unguessable bytes. @param count at most 256 */
export function randomBytes(count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  checked("getrandom", Number(libc.syscall(NUMBERS.getrandom, platform.addressOf(bytes), count, 0, 0, 0, 0)));
  return bytes;
}

/** clock_gettime(2) of CLOCK_REALTIME (0), CLOCK_MONOTONIC (1) or CLOCK_THREAD_CPUTIME_ID (3), in microseconds with a fraction. */
export function clockUs(clock: 0 | 1 | 3): number {
  const time = new BigInt64Array(2);
  const result = libc.syscall(NUMBERS.clock_gettime, clock, platform.addressOf(time), 0, 0, 0, 0);
  checked("clock_gettime", Number(result));
  return Number(time[0]) * 1e6 + Number(time[1]) / 1000;
}

/** A clock that nobody sets, and that all processes share. */
export function monotonicMs(): number {
  return clockUs(1) / 1000;
}

/** How long a processor has worked for this thread, in it and for it in the kernel. */
export function threadCpuMs(): number {
  return clockUs(3) / 1000;
}
