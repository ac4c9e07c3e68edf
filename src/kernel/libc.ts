/**
 * Room `kernel/`: what opens something: libc, sockets, namespaces, sysctl, files, other processes, the BPF loader.
 * This file holds the libc calls that Node's and Bun's own APIs lack (sockets of other families, namespaces, mounts,
 * bpf(2)). Those that a plugin call makes, too, are in calls.ts, and handed on from here. Each is checked: a refusal
 * becomes a SystemError with the errno.
 *
 * In: requests as linux/ encodes them, paths, namespaces.
 * Out: what the kernel answered, decoded by linux/; SystemError and NetlinkError for refusals.
 * Touches: everything, but only what the caller names; it decides nothing.
 */
import { ERRNO, SystemError } from "../linux/errno.ts";
import { FFIType, loadLibc } from "../platform/bun.ts";
import { platform } from "#platform";
import { checked, int, text } from "./calls.ts";
import { MSG_DONTWAIT, MSG_TRUNC } from "../linux/socket.ts";
import { O_CLOEXEC } from "./open-flags.ts";

export * from "./calls.ts";

const { i32, u32, u64, i64_fast, pointer, cstring } = FFIType;

const SYMBOLS = {
  connect: { args: [i32, pointer, u32], returns: i32 },
  getsockname: { args: [i32, pointer, pointer], returns: i32 },
  sendto: { args: [i32, pointer, u64, i32, pointer, u32], returns: i64_fast },
  recvfrom: { args: [i32, pointer, u64, i32, pointer, pointer], returns: i64_fast },
  recvmsg: { args: [i32, pointer, i32], returns: i64_fast },
  unshare: { args: [i32], returns: i32 },
  mount: { args: [cstring, cstring, cstring, u64, pointer], returns: i32 },
  umount2: { args: [cstring, i32], returns: i32 },
  signal: { args: [i32, pointer], returns: pointer },
  waitpid: { args: [i32, pointer, i32], returns: i32 },
  execve: { args: [pointer, pointer, pointer], returns: i32 },
  ioctl: { args: [i32, u64, pointer], returns: i32 },
  pipe2: { args: [pointer, i32], returns: i32 },
  prctl: { args: [i32, u64, u64, u64, u64], returns: i32 },
} as const;

let symbols: ReturnType<typeof loadLibc<typeof SYMBOLS>> | undefined;
/** Looked up when one is first called. */
function libc() {
  return (symbols ??= loadLibc(SYMBOLS));
}

/** connect(2). Returns false when a non-blocking socket has only begun (EINPROGRESS). */
export function connect(fd: number, address: Uint8Array): boolean {
  if (libc().connect(fd, address, address.length) === 0) return true;
  if (platform.errno() === ERRNO.EINPROGRESS) return false;
  throw new SystemError("connect", platform.errno());
}

/** getsockname(2): the struct sockaddr_* the kernel chose. */
export function getsockname(fd: number): Uint8Array {
  const address = new Uint8Array(128);
  const length = int(address.length);
  checked("getsockname", libc().getsockname(fd, address, length));
  return address.subarray(0, length[0]);
}

/** sendto(2) on a datagram or packet socket. */
export function sendto(fd: number, bytes: Uint8Array, address: Uint8Array, flags = 0): number {
  return checked("sendto", Number(libc().sendto(fd, bytes, bytes.length, flags, address, address.length)));
}

/** recvfrom(2) without waiting; undefined when nothing is there. `address` is filled with the sender's sockaddr. */
export function recvfrom(fd: number, buffer: Uint8Array, address: Uint8Array): number | undefined {
  const length = int(address.length);
  for (;;) {
    const received = Number(
      libc().recvfrom(fd, buffer, buffer.length, MSG_TRUNC | MSG_DONTWAIT, address, length),
    );
    if (received >= 0) return received;
    if (platform.errno() === ERRNO.EAGAIN) return undefined;
    if (platform.errno() !== ERRNO.EINTR) throw new SystemError("recvfrom", platform.errno());
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
  for (;;) {
    room.reset();
    const received = Number(libc().recvmsg(fd, room.header, flags | MSG_TRUNC | MSG_DONTWAIT));
    if (received >= 0) return received;
    if (platform.errno() === ERRNO.EAGAIN) return undefined;
    if (platform.errno() !== ERRNO.EINTR) throw new SystemError("recvmsg", platform.errno());
  }
}

/** Calls that not every C library in use has a function for; include/uapi/asm-generic/unistd.h, x86's syscall_64.tbl. */
const NUMBERS =
  platform.arch === "arm64"
    ? { memfd_create: 279, prlimit64: 261, openat: 56, readlinkat: 78, openat2: 437 }
    : { memfd_create: 319, prlimit64: 302, openat: 257, readlinkat: 267, openat2: 437 };

/** memfd_create(2), close-on-exec: a file that lies in no folder. Returns its descriptor. */
export function memoryFile(name: string): number {
  const MFD_CLOEXEC = 1;
  const path = text(name);
  return checked(
    "memfd_create",
    Number(platform.libc.syscall(NUMBERS.memfd_create, platform.addressOf(path), MFD_CLOEXEC, 0, 0, 0, 0)),
  );
}

/** unshare(2): the calling thread only. */
export function unshare(flags: number): void {
  checked("unshare", libc().unshare(flags));
}

/** mount(2). `data` is the options string of the file system type. */
export function mount(source: string, target: string, type: string, flags: number, data?: string): void {
  const options = data === undefined ? null : text(data);
  checked("mount", libc().mount(text(source), text(target), text(type), flags, options), target);
}

/** umount2(2). */
export function umount(target: string, flags = 0): void {
  checked("umount", libc().umount2(text(target), flags), target);
}

/** waitpid(2). Blocks unless WNOHANG (1) is in `options`; undefined when the child still runs. */
export function waitpid(
  pid: number,
  options = 0,
): { readonly exitCode: number; readonly signal: number } | undefined {
  const status = new Int32Array(1);
  for (;;) {
    const result = libc().waitpid(pid, status, options);
    if (result === 0) return undefined;
    if (result > 0) return { exitCode: (status[0]! >> 8) & 0xff, signal: status[0]! & 0x7f };
    if (platform.errno() !== ERRNO.EINTR) throw new SystemError("waitpid", platform.errno());
  }
}

/** ioctl(2) with a pointer argument that the kernel may fill in. */
export function ioctl(fd: number, request: number, argument: Uint8Array): void {
  checked("ioctl", libc().ioctl(fd, request, argument), `0x${request.toString(16)}`);
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
    Number(
      platform.libc.syscall(
        number,
        directory >>> 0,
        platform.addressOf(name),
        platform.addressOf(how),
        how.byteLength,
        0,
        0,
      ),
    ),
    path,
  );
}

/** openat(2). */
export function openat(directory: number, path: string, flags: number): number {
  const name = text(path);
  return checked(
    "openat",
    Number(
      platform.libc.syscall(NUMBERS.openat, directory >>> 0, platform.addressOf(name), flags >>> 0, 0, 0, 0),
    ),
    path,
  );
}

/** readlinkat(2) of a descriptor opened with O_PATH | O_NOFOLLOW. */
export function readlinkOf(fd: number): Uint8Array {
  const room = new Uint8Array(4096);
  const empty = text("");
  const length = Number(
    platform.libc.syscall(
      NUMBERS.readlinkat,
      fd,
      platform.addressOf(empty),
      platform.addressOf(room),
      room.length,
      0,
      0,
    ),
  );
  return room.subarray(0, checked("readlinkat", length));
}

/** Takes away RLIMIT_MEMLOCK (prlimit(2)). False for those who may not. */
export function unlimitLockedMemory(): boolean {
  const RLIMIT_MEMLOCK = 8;
  const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn;
  const limits = BigUint64Array.from([RLIM_INFINITY, RLIM_INFINITY]);
  return (
    Number(
      platform.libc.syscall(NUMBERS.prlimit64, 0, RLIMIT_MEMLOCK, platform.addressOf(limits), 0, 0, 0),
    ) === 0
  );
}

/** prctl(2). */
export function prctl(option: number, argument: number): void {
  checked("prctl", libc().prctl(option, argument, 0, 0, 0));
}

/** pipe2(2), both ends close-on-exec. */
export function pipe(): { readonly readEnd: number; readonly writeEnd: number } {
  const ends = new Int32Array(2);
  checked("pipe2", libc().pipe2(ends, O_CLOEXEC));
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
    Number(
      platform.libc.syscall(number, command, platform.addressOf(attributes), attributes.length, 0, 0, 0),
    ),
  );
}

/** The address of a buffer, for structures that hold pointers. The buffer must stay referenced while it is used. */
export function pointerTo(buffer: Uint8Array | Int32Array | BigUint64Array): bigint {
  return BigInt(platform.addressOf(buffer));
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
  libc().signal(SIGPIPE, null);
  libc().execve(text(path), args.vector, env.vector);
  throw new SystemError("execve", platform.errno(), path);
}
