/** Namespaces that have a name, as `ip netns` gives them. */
import { ERRNO, SystemError } from "../linux/errno.ts";
import { closeFile, listDirectory, makeDirectory, makeFile, openFile, readText, removeFile } from "./file.ts";
import * as libc from "./libc.ts";
import {
  CLONE_NEWNET,
  namespacePath,
  NetworkNamespace,
  NETNS_DIRECTORY,
  OWN_NAMESPACE,
} from "./namespace.ts";

/** include/uapi/linux/mount.h */
export const MS_BIND = 4096;
export const MS_REC = 16384;
export const MS_PRIVATE = 1 << 18;
const MS_SHARED = 1 << 20;
export const MNT_DETACH = 2;

/** Names under /run/netns, sorted. Names whose file is no namespace (any more) are left out. */
export function namedNamespaces(): string[] {
  let names: string[];
  try {
    names = listDirectory(NETNS_DIRECTORY);
  } catch {
    return [];
  }
  const mounted = mountPoints();
  return names.filter((name) => mounted.has(namespacePath(name))).sort();
}

/** Whether the name is taken under /run/netns, by a namespace or by a left-over file. */
export function namespaceFileExists(name: string): boolean {
  try {
    return listDirectory(NETNS_DIRECTORY).includes(name);
  } catch {
    return false;
  }
}

/** A new namespace without a name: it ends when this is closed and nobody else is in it. Its loopback is down. @throws EPERM */
export function createNamespace(): NetworkNamespace {
  const home = openFile(OWN_NAMESPACE, "r");
  try {
    libc.unshare(CLONE_NEWNET);
    try {
      return NetworkNamespace.current();
    } finally {
      libc.setns(home, CLONE_NEWNET);
    }
  } finally {
    closeFile(home);
  }
}

/**
 * Makes a namespace and names it under /run/netns, exactly as `ip netns add` does. Its loopback is down.
 * @throws SystemError EEXIST when the name is taken, EPERM without privilege
 */
export function createNamedNamespace(name: string): void {
  prepareDirectory();
  const path = namespacePath(name);
  if (!makeFile(path, 0o444)) throw new SystemError("create", ERRNO.EEXIST, path);
  const home = openFile(OWN_NAMESPACE, "r");
  try {
    libc.unshare(CLONE_NEWNET);
    try {
      libc.mount(OWN_NAMESPACE, path, "none", MS_BIND);
    } finally {
      libc.setns(home, CLONE_NEWNET);
    }
  } catch (error) {
    removeFile(path);
    throw error;
  } finally {
    closeFile(home);
  }
}

/** /run/netns as a shared mount, so that a name made in one mount namespace is seen, and released, in the others. */
function prepareDirectory(): void {
  makeDirectory(NETNS_DIRECTORY, 0o755);
  if (isMountPoint(NETNS_DIRECTORY)) return;
  libc.mount(NETNS_DIRECTORY, NETNS_DIRECTORY, "none", MS_BIND | MS_REC);
  libc.mount("", NETNS_DIRECTORY, "none", MS_SHARED | MS_REC);
}

/**
 * Takes a name away from /run/netns. The namespace itself ends with its last process, socket or open file.
 * Returns false when there was no such name.
 */
export function deleteNamedNamespace(name: string): boolean {
  if (!namespaceFileExists(name)) return false;
  const path = namespacePath(name);
  try {
    // More than once, where the directory was mounted over itself with what was in it.
    for (;;) libc.umount(path, MNT_DETACH);
  } catch (error) {
    // EINVAL: a file that nothing is mounted on (any more).
    if (!(error instanceof SystemError && error.code === "EINVAL")) throw error;
  }
  removeFile(path);
  return true;
}

/** Undoes prepareDirectory when nothing is named any more. For those who found the directory missing. */
export function removeNamespaceDirectory(): void {
  try {
    if (listDirectory(NETNS_DIRECTORY).length > 0) return;
    if (mountPoints().has(NETNS_DIRECTORY)) libc.umount(NETNS_DIRECTORY, MNT_DETACH);
    libc.rmdir(NETNS_DIRECTORY);
  } catch {
    // Another process names a namespace at this very moment, or the directory is gone: both are fine.
  }
}

/** Whether a directory is where a mount begins. A mount that a later one above it hides is still listed, and does not count. */
function isMountPoint(path: string): boolean {
  const fd = openFile(path, "r");
  try {
    const [, id] = /^mnt_id:\s*(\d+)$/m.exec(readText(`/proc/thread-self/fdinfo/${fd}`)) ?? [];
    const lines = readText("/proc/thread-self/mountinfo").split("\n");
    return lines.find((line) => line.startsWith(`${id} `))?.split(" ")[4] === path;
  } finally {
    closeFile(fd);
  }
}

/** Mount points this process sees (proc(5), mountinfo field 5). */
function mountPoints(): Set<string> {
  const points = new Set<string>();
  for (const line of readText("/proc/self/mountinfo").split("\n")) {
    const point = line.split(" ")[4];
    if (point !== undefined) {
      points.add(
        point.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
      );
    }
  }
  return points;
}
