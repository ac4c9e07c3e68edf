/**
 * Files, with libc's own calls. Node's fs does all of this, too, but takes a millisecond to load: more than an ADD of
 * the plugin spends in the kernel. Hence what runs in a plugin call uses this, everything else node:fs.
 *
 * Every function is synchronous and throws SystemError with the path.
 */
import { isAbsence, rethrowMistake } from "../error.ts";
import { ERRNO, SystemError } from "../linux/errno.ts";
import * as libc from "./calls.ts";
import { decodeUtf8, encodeUtf8 } from "../platform/bytes.ts";
import {
  AT_FDCWD,
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_EXCL,
  O_NOCTTY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
} from "./open-flags.ts";

/** As fopen(3) spells them: read; read and write what is there; write anew; make, or fail with EEXIST; append. */
const MODES = {
  // A FIFO that stands where a file should is not waited for.
  r: O_NONBLOCK,
  "r+": O_RDWR,
  w: O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK,
  wx: O_WRONLY | O_CREAT | O_EXCL,
  "a+": O_RDWR | O_CREAT | O_APPEND,
  /** Read and write what is there, or is made by this; never what a link leads to. */
  lock: O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
} as const;

export type OpenMode = keyof typeof MODES;

/** @param permissions of a file that is made, before the umask. Returns the file descriptor, close-on-exec. */
export function openFile(path: string, mode: OpenMode, permissions = 0o666): number {
  return libc.open(path, MODES[mode] | O_CLOEXEC, permissions);
}

/** Makes an empty file. False when there is one of that name. */
export function makeFile(path: string, permissions = 0o666): boolean {
  const fd = libc.openUnless(ERRNO.EEXIST, path, MODES.wx | O_CLOEXEC, permissions);
  if (fd === undefined) return false;
  closeFile(fd);
  return true;
}

export function closeFile(fd: number): void {
  libc.close(fd);
}

/** Nothing that we read whole is nearly as large; what is has no end, as a device. */
const MOST_WHOLE_BYTES = 64 * 1024 * 1024;

/** Where a text is read to before it is decoded: nearly all fit, and a snapshot reads a thousand. */
const firstRoom = new Uint8Array(4096);

/** Everything from here to the end, as UTF-8. @throws SystemError EFBIG when there is no end in sight */
export function readDescriptor(fd: number): string {
  let room = firstRoom;
  for (let length = 0; ;) {
    if (length > MOST_WHOLE_BYTES) throw new SystemError("read", ERRNO.EFBIG);
    const count = libc.read(fd, room.subarray(length));
    if (count === 0) return decodeUtf8(room.subarray(0, length));
    length += count;
    if (length < room.length) continue;
    const bigger = new Uint8Array(2 * length);
    bigger.set(room);
    room = bigger;
  }
}

/** All of the bytes, however many calls it takes. */
export function writeDescriptor(fd: number, text: string): void {
  writeBytes(fd, encodeUtf8(text));
}

export function writeBytes(fd: number, bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length;) written += libc.write(fd, bytes.subarray(written));
}

/** The file's text, as UTF-8. */
export function readText(path: string): string {
  return readAndClose(openFile(path, "r"));
}

/** The same; undefined when there is no such file. */
export function readTextIfThere(path: string): string | undefined {
  const fd = libc.openUnless(ERRNO.ENOENT, path, MODES.r | O_CLOEXEC);
  return fd === undefined ? undefined : readAndClose(fd);
}

/** A settings file is no larger: what goes beyond is not read, and so not judged. */
export const MOST_SETTINGS_BYTES = 64 * 1024;
/** Nor is what a container runtime writes of one container or network. */
export const MOST_RUNTIME_BYTES = 4 * 1024 * 1024;

/** What a file of another program holds, as far as it was read. */
export interface PartOfFile {
  readonly text: string;
  /** False when there is more than was read. */
  readonly whole: boolean;
}

/**
 * The text of a file that another user may have put there: of a regular file only, and no more than `mostBytes` of it.
 * A FIFO is not waited for, a device is not read.
 * @throws SystemError ENOENT …; EINVAL when it is no regular file
 */
export function readRegular(path: string, mostBytes: number): PartOfFile {
  const handle = openHandle(path);
  try {
    return readHandle(handle, mostBytes);
  } finally {
    closeFile(handle);
  }
}

/** A descriptor by which only can be asked what it is; whatever it is, nothing is opened or waited for. */
export function openHandle(path: string): number {
  return libc.open(path, O_PATH | O_CLOEXEC);
}

/** The magic number of the file system that a descriptor lies in (include/uapi/linux/magic.h). */
export function fileSystemOf(fd: number): number {
  const raw = libc.fstatfs(fd);
  // struct statfs begins with f_type, a long on all 64-bit architectures.
  return new DataView(raw.buffer, raw.byteOffset).getUint32(0, true);
}

/** Whether a file system has room for one more file, empty or not. One that does not count has. */
export function hasRoom(fd: number, needs: "names" | "blocks"): boolean {
  const raw = libc.fstatfs(fd);
  const view = new DataView(raw.buffer, raw.byteOffset);
  // struct statfs: f_type, f_bsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree; root may use what is reserved for it.
  const isLeft = (total: number, free: number): boolean =>
    view.getBigUint64(total, true) === 0n || view.getBigUint64(free, true) !== 0n;
  return isLeft(40, 48) && (needs === "names" || isLeft(16, 24));
}

/** The same; undefined when there is none. */
export function readRegularIfThere(path: string, mostBytes: number): PartOfFile | undefined {
  const handle = libc.openUnless(ERRNO.ENOENT, path, O_PATH | O_CLOEXEC);
  if (handle === undefined) return undefined;
  try {
    return readHandle(handle, mostBytes);
  } finally {
    closeFile(handle);
  }
}

/** @param handle opened with O_PATH, which opens not even a FIFO */
export function readHandle(handle: number, mostBytes: number): PartOfFile {
  if (fileType(statDescriptor(handle)) !== S_IFREG) {
    throw new SystemError("open", ERRNO.EINVAL, "of what is no regular file");
  }
  const fd = libc.open(`/proc/thread-self/fd/${handle}`, O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  try {
    const room = new Uint8Array(mostBytes + 1);
    let length = 0;
    for (let count = -1; count !== 0 && length < room.length; length += count) {
      count = libc.read(fd, room.subarray(length));
    }
    return { text: decodeUtf8(room.subarray(0, Math.min(length, mostBytes))), whole: length <= mostBytes };
  } finally {
    closeFile(fd);
  }
}

function readAndClose(fd: number): string {
  try {
    return readDescriptor(fd);
  } finally {
    closeFile(fd);
  }
}

export function writeText(path: string, text: string, mode: OpenMode = "w", permissions = 0o666): void {
  const fd = openFile(path, mode, permissions);
  try {
    writeDescriptor(fd, text);
  } finally {
    closeFile(fd);
  }
}

/** With those above it that are missing. Nothing happens when it is there. */
export function makeDirectory(path: string, permissions = 0o777): void {
  try {
    if (isMade(path, permissions)) return;
  } catch (error) {
    const parent = path.slice(0, path.lastIndexOf("/"));
    if (!isMissing(error) || parent === "") throw error;
    makeDirectory(parent, permissions);
    // Not again and again: in a directory that was removed while it is mounted, the kernel says so for ever.
    if (isMade(path, permissions)) return;
  }
  throw new SystemError("mkdir", ERRNO.EEXIST, path);
}

/** False when something else is there. */
function isMade(path: string, permissions: number): boolean {
  return libc.mkdir(path, permissions) || fileType(statFile(path)) === S_IFDIR;
}

/** The names in a directory, in no order, without "." and "..". */
export function listDirectory(path: string): string[] {
  const fd = openFile(path, "r");
  try {
    const names: string[] = [];
    const room = new Uint8Array(new ArrayBuffer(32 * 1024));
    const view = new DataView(room.buffer);
    for (;;) {
      const length = libc.getdents64(fd, room, path);
      if (length === 0) return names;
      // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name with its NUL.
      for (let at = 0; at < length; at += view.getUint16(at + 16, true)) {
        const name = decodeUtf8(room.subarray(at + 19, room.indexOf(0, at + 19)));
        if (name !== "." && name !== "..") names.push(name);
      }
    }
  } finally {
    closeFile(fd);
  }
}

/** False when there was none. */
export function removeFile(path: string): boolean {
  try {
    libc.unlink(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** A directory that nobody uses any more. Nothing happens when something is in it, or it is gone already. */
export function removeIfEmpty(directory: string): void {
  try {
    libc.rmdir(directory);
  } catch (error) {
    rethrowMistake(error);
    // It is not empty, or not ours to change.
  }
}

/** Takes the place of what is at `to`, in one step. */
export function renameFile(from: string, to: string): void {
  libc.rename(from, to);
}

/** What we ask of statx(2). */
export interface FileStatus {
  readonly inode: number;
  /** Nanoseconds since 1970. */
  readonly modifiedNs: bigint;
  /** struct statx's stx_mode: type and permissions. */
  readonly mode: number;
  /** Of its owner, as this user namespace has it. */
  readonly uid: number;
}

const AT_EMPTY_PATH = 0x1000;
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;
const S_IFIFO = 0o010000;
const S_IFSOCK = 0o140000;
const AT_SYMLINK_NOFOLLOW = 0x100;

export type FileKind = "file" | "directory" | "link" | "fifo" | "socket" | "device";

/**
 * What stands at a path, or at the end of the links there; `link` where they lead nowhere. undefined when nothing does, or
 * it cannot be reached.
 * @param follow whether a link is what it leads to
 */
export function fileKind(path: string, follow = true): FileKind | undefined {
  let found: FileStatus;
  try {
    found = status(AT_FDCWD, path, follow ? 0 : AT_SYMLINK_NOFOLLOW);
  } catch (error) {
    rethrowMistake(error);
    return follow ? fileKind(path, false) : undefined;
  }
  const kinds: Readonly<Record<number, FileKind>> = {
    [S_IFREG]: "file",
    [S_IFDIR]: "directory",
    [S_IFIFO]: "fifo",
    [S_IFSOCK]: "socket",
    [S_IFLNK]: "link",
  };
  return kinds[fileType(found)] ?? "device";
}

export function statFile(path: string): FileStatus {
  return status(AT_FDCWD, path, 0);
}

export function statDescriptor(fd: number): FileStatus {
  return status(fd, "", AT_EMPTY_PATH);
}

/** struct statx (include/uapi/linux/stat.h) is the same on every architecture, unlike struct stat. */
function status(fd: number, path: string, flags: number): FileStatus {
  const raw = libc.statx(fd, path, flags);
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
  return {
    uid: view.getUint32(20, true),
    mode: view.getUint16(28, true),
    inode: Number(view.getBigUint64(32, true)),
    modifiedNs: view.getBigInt64(112, true) * 1_000_000_000n + BigInt(view.getUint32(120, true)),
  };
}

/** Which file it is, whatever name leads to it: its file system and its number there. undefined when it cannot be reached. */
export function fileKey(path: string): string | undefined {
  const view = statusIfThere(path);
  // stx_dev_major, stx_dev_minor, stx_ino.
  return view && `${view.getUint32(136, true)}:${view.getUint32(140, true)} ${view.getBigUint64(32, true)}`;
}

/** Its number, and the file system in which that counts. undefined when it cannot be reached. */
export function inodeAndDevice(
  path: string,
): { readonly inode: number; readonly device: bigint } | undefined {
  const view = statusIfThere(path);
  return view && { inode: Number(view.getBigUint64(32, true)), device: view.getBigUint64(136, true) };
}

/** Text that is another one after a change of the file, or when another stands in its place; "" when there is none. */
export function fileVersion(path: string): string {
  const view = statusIfThere(path);
  if (view === undefined) return "";
  // stx_ino, stx_size, stx_ctime.
  const changed = `${view.getBigInt64(96, true)}.${view.getUint32(104, true)}`;
  return `${view.getBigUint64(32, true)} ${view.getBigUint64(40, true)} ${changed}`;
}

/** stx_uid; undefined when it cannot be reached. */
export function ownerOf(path: string): number | undefined {
  return statusIfThere(path)?.getUint32(20, true);
}

/** When it was made, in seconds since 1970; undefined where the file system does not know (stx_btime). */
export function birthOf(path: string): number | undefined {
  const STATX_BTIME = 0x800;
  const view = statusIfThere(path);
  const knows = view !== undefined && (view.getUint32(0, true) & STATX_BTIME) !== 0;
  return knows ? Number(view.getBigInt64(80, true)) : undefined;
}

/** The names in a directory, sorted; none when there is no such directory. @throws SystemError */
export function namesIn(directory: string): string[] {
  try {
    return listDirectory(directory).sort();
  } catch (error) {
    if (isAbsence(error)) return [];
    throw error;
  }
}

function statusIfThere(path: string): DataView | undefined {
  try {
    const raw = libc.statx(AT_FDCWD, path, 0);
    return new DataView(raw.buffer, raw.byteOffset, raw.length);
  } catch (error) {
    rethrowMistake(error);
    return undefined;
  }
}

/** Whether there is a program that this process may execute: root may what anybody may, and nothing on a `noexec` mount. */
export function isExecutable(path: string): boolean {
  try {
    if (fileType(statFile(path)) !== S_IFREG) return false;
    libc.access(path, libc.X_OK);
    return true;
  } catch (error) {
    rethrowMistake(error);
    return false;
  }
}

function fileType({ mode }: FileStatus): number {
  return mode & S_IFMT;
}

/** A regular file that nobody but its owner may open, and the owner is this process's user. */
export function isOursAlone(status: FileStatus): boolean {
  const others = 0o077;
  return fileType(status) === S_IFREG && (status.mode & others) === 0 && status.uid === ownUid();
}

/** Whose a process's folder is in /proc is the user with whose rights it runs. */
function ownUid(): number {
  return statFile("/proc/thread-self").uid;
}

/** The kernel's word for an owner who has no number in this user namespace. */
const NOBODY_HERE = 65534;

/** Who, besides its own user, may change what lies in a directory: `user 1000`, `every user`. undefined: nobody, or there is none. */
export function mayWriteBeside(directory: string): string | undefined {
  const view = statusIfThere(directory);
  if (view === undefined) return undefined;
  const [uid, mode] = [view.getUint32(20, true), view.getUint16(28, true)];
  if ((mode & 0o002) !== 0) return "every user";
  return uid === 0 || uid === NOBODY_HERE || uid === ownUid() ? undefined : `user ${uid}`;
}

export function isSymbolicLink(status: FileStatus): boolean {
  return fileType(status) === S_IFLNK;
}

export function isCharacterDevice(status: FileStatus): boolean {
  return fileType(status) === S_IFCHR;
}

/** Sets access and modification time. @param seconds since 1970 */
export function setTimes(path: string, seconds: number): void {
  // struct timespec[2]: seconds, nanoseconds.
  const times = new BigInt64Array(4);
  times[0] = times[2] = BigInt(seconds);
  libc.utimensat(path, times);
}

/** Whether an error says that there is no such file. */
export function isMissing(error: unknown): boolean {
  return error instanceof SystemError && error.code === "ENOENT";
}
