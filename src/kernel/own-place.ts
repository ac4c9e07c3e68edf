/**
 * Places where wayout, or host-local for it, keeps files of its own: /run/wayout, /var/lib/cni/networks. Only root can make
 * something else of them, and root does: a file in the place of a folder, a link to nowhere, a disk without room. The
 * kernel's word for it (ENOTDIR, EEXIST, ENOENT) says nothing of which part of the path it means; here it is looked for.
 */
import { isRefusal, messageOf, WayoutError } from "../error.ts";
import { ERRNO, SystemError } from "../linux/errno.ts";
import { isKernelFileSystem } from "../linux/kernel-file-systems.ts";
import * as libc from "./calls.ts";
import { closeFile, fileKind, fileSystemOf, hasRoom, isMissing, openHandle, type FileKind } from "./file.ts";

const KIND_TEXT: Readonly<Record<FileKind, string>> = {
  file: "a file",
  directory: "a directory",
  link: "a symbolic link",
  fifo: "a FIFO",
  socket: "a socket",
  device: "a device",
};

/**
 * What stands at or above `path` that keeps anything from being made there: `/run/wayout is a file, not a directory`.
 * @param wanted what `path` itself should be, where it is there
 * @returns undefined when every part that is there is what it should be
 */
export function obstacleAt(path: string, wanted: "file" | "directory"): string | undefined {
  for (let end = path.indexOf("/", 1); ; end = path.indexOf("/", end + 1)) {
    const isLast = end < 0 || end === path.length - 1;
    const part = isLast ? path : path.slice(0, end);
    const should = isLast ? wanted : "directory";
    // Files of ours are never opened through a link.
    const kind = fileKind(part, should === "directory");
    if (kind === undefined) return undefined;
    if (kind !== should) {
      const nowhere = kind === "link" && should === "directory" ? " to nowhere" : "";
      return `${part} is ${KIND_TEXT[kind]}${nowhere}, not a ${should}`;
    }
    if (isLast) return undefined;
  }
}

/** That a file of ours, or a directory, can be made or opened at a path. @throws SystemError EEXIST where it cannot */
export function requirePlace(path: string, wanted: "file" | "directory"): void {
  if (obstacleAt(path, wanted) !== undefined) throw new SystemError("open", ERRNO.EEXIST, path);
}

/** A failure at one of our places, as an error tells it. */
export interface PlaceFailure {
  readonly said: string;
  readonly todo: string;
}

/** @param todo what to do where nothing stands in the way */
export function placeFailure(
  path: string,
  wanted: "file" | "directory",
  error: unknown,
  todo: string,
): PlaceFailure {
  const obstacle = obstacleAt(path, wanted);
  if (obstacle === undefined) return { said: messageOf(error), todo };
  return {
    said: obstacle,
    todo: "Move it away, and see what made it: wayout makes what it needs there itself.",
  };
}

/**
 * Why a lock of ours could not be taken, as an error a person can act on.
 * @param code where it was no want of rights (`no-privilege`)
 */
export function lockFailure(path: string, doing: string, error: unknown, code = "no-lock"): unknown {
  if (!(error instanceof SystemError)) return error;
  const directory = path.slice(0, path.lastIndexOf("/"));
  const told = placeFailure(path, "file", error, `Check that ${directory} can be written and has room.`);
  const denied = isRefusal(error);
  return new WayoutError({
    code: denied ? "no-privilege" : code,
    kind: "machine",
    doing,
    said: denied
      ? `it takes a lock, and may not write to ${directory} (${error.code})`
      : `it takes a lock in ${directory}: ${told.said}`,
    todo: denied
      ? `Run it as root. If it is root already, see whether it is marked immutable: lsattr -d ${directory}`
      : told.todo,
    cause: error,
  });
}

/**
 * That files can be made in a directory, which may be missing itself. Nothing is: STATUS asks every few seconds.
 * @param needs blocks of the disk as well, or no more than names: files that stay empty
 * @throws SystemError EROFS, EACCES, EPERM, ENOTDIR, ENOSPC …
 */
export function requireWritable(directory: string, needs: "names" | "blocks"): void {
  let handle: number;
  try {
    handle = openHandle(directory);
  } catch (error) {
    const parent = directory.slice(0, directory.lastIndexOf("/"));
    // A link to nowhere is missing as well, and nothing can be made in its place.
    if (!isMissing(error) || parent === "" || fileKind(directory) !== undefined) throw error;
    requireWritable(parent, needs);
    return;
  }
  try {
    if (fileKind(directory) !== "directory") throw new SystemError("open", ERRNO.ENOTDIR, directory);
    libc.access(directory, libc.W_OK);
    if (isKernelFileSystem(fileSystemOf(handle))) throw new SystemError("mkdir", ERRNO.EPERM, directory);
    if (!hasRoom(handle, needs)) throw new SystemError("write", ERRNO.ENOSPC, directory);
  } finally {
    closeFile(handle);
  }
}
