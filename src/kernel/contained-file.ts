/**
 * Files below a directory that is not trusted: a pod's root. Whatever links stand there, nothing
 * outside of it is opened, and nothing that is no regular file. Where the kernel can (openat2(2), Linux 5.6) it sees to
 * that itself; elsewhere each part of the path is opened by itself, and links are followed by us.
 */
import { ERRNO, SystemError } from "../linux/errno.ts";
import { isKernelFileSystem } from "../linux/kernel-file-systems.ts";
import { decodeUtf8 } from "../platform/bytes.ts";
import {
  closeFile,
  fileSystemOf,
  isMissing,
  isSymbolicLink,
  readHandle,
  statDescriptor,
  type PartOfFile,
} from "./file.ts";
import * as libc from "./libc.ts";
import { O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_PATH } from "./open-flags.ts";

/** include/uapi/linux/openat2.h: `/` and `..` are the directory's own; links like those of /proc/PID/fd lead nowhere. */
const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_IN_ROOT = 0x10;
/** As many links as the kernel follows (MAXSYMLINKS). */
const MOST_LINKS = 40;
const MOST_PARTS = 256;

/**
 * Reads a file below `root` as a process that has this root sees it.
 * @param path absolute, as seen from there: `/etc/resolv.conf`
 * @throws SystemError ENOENT …; ELOOP; EINVAL when it is no regular file, or one of /proc, /sys and their like
 */
export function readContained(root: string, path: string, mostBytes: number): PartOfFile {
  const directory = libc.open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
  try {
    const handle = openContained(directory, path);
    try {
      if (isKernelFileSystem(fileSystemOf(handle))) {
        throw new SystemError("open", ERRNO.EINVAL, "of what the kernel shows as a file");
      }
      return readHandle(handle, mostBytes);
    } finally {
      closeFile(handle);
    }
  } finally {
    closeFile(directory);
  }
}

/** The same; undefined when there is none. */
export function readContainedIfThere(root: string, path: string, mostBytes: number): PartOfFile | undefined {
  try {
    return readContained(root, path, mostBytes);
  } catch (error) {
    if (isMissing(error) || (error instanceof SystemError && error.code === "ENOTDIR")) return undefined;
    throw error;
  }
}

function openContained(directory: number, path: string): number {
  try {
    return libc.openat2(directory, path, O_PATH | O_CLOEXEC, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
  } catch (error) {
    // ENOSYS: before 5.6. EPERM: a seccomp filter of old knows no such call.
    if (!(error instanceof SystemError) || (error.code !== "ENOSYS" && error.code !== "EPERM")) throw error;
    return walkContained(directory, path);
  }
}

/** What openat2 does, part by part: links are read, never followed, and `..` of the root is the root. */
export function walkContained(directory: number, path: string): number {
  const rest = partsOf(path);
  /** Descriptors of the directories from the root to here. */
  const trail: number[] = [];
  const here = (): number => trail.at(-1) ?? directory;
  let links = 0;
  try {
    for (let part = rest.shift(); part !== undefined; part = rest.shift()) {
      if (trail.length > MOST_PARTS) throw new SystemError("openat", ERRNO.ENAMETOOLONG, path);
      if (part === ".") continue;
      if (part === "..") {
        const left = trail.pop();
        if (left !== undefined) closeFile(left);
        continue;
      }
      const fd = libc.openat(here(), part, O_PATH | O_NOFOLLOW | O_CLOEXEC);
      if (!isSymbolicLink(statDescriptor(fd))) {
        trail.push(fd);
        continue;
      }
      const target = linkTarget(fd);
      if (++links > MOST_LINKS) throw new SystemError("openat", ERRNO.ELOOP, path);
      if (target.startsWith("/")) for (const left of trail.splice(0)) closeFile(left);
      rest.unshift(...partsOf(target));
    }
    const found = trail.pop();
    if (found === undefined) throw new SystemError("openat", ERRNO.EISDIR, path);
    return found;
  } finally {
    for (const fd of trail) closeFile(fd);
  }
}

function linkTarget(fd: number): string {
  try {
    return decodeUtf8(libc.readlinkOf(fd));
  } finally {
    closeFile(fd);
  }
}

function partsOf(path: string): string[] {
  return path.split("/").filter((part) => part !== "");
}
