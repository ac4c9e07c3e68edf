/**
 * Network namespaces. wayout enters one only to open a socket or to start a process in it: `run` moves the calling
 * thread there and back with nothing asynchronous in between. A socket stays in the namespace it was opened in.
 */
import { ERRNO, SystemError } from "../linux/errno.ts";
import { closeFile, fileSystemOf, inodeAndDevice, openFile, openHandle, statDescriptor } from "./file.ts";
import { KERNEL_FILE_SYSTEMS } from "../linux/kernel-file-systems.ts";
import * as libc from "./calls.ts";
import { SOL_SOCKET } from "../linux/socket.ts";

/** include/uapi/linux/sched.h */
export const CLONE_NEWNS = 0x0002_0000;
export const CLONE_NEWUSER = 0x1000_0000;
export const CLONE_NEWPID = 0x2000_0000;
export const CLONE_NEWNET = 0x4000_0000;

/** include/uapi/linux/nsfs.h */
const NS_GET_NSTYPE = 0xb703;

/** PID_NS_INIT_INO of the same: the pid namespace that the machine started with. */
export const FIRST_PID_NAMESPACE = 0xef_ff_ff_fc;

/** Where iproute2 keeps named namespaces; `ip netns` shows what is here. */
export const NETNS_DIRECTORY = "/run/netns";

/** The calling thread's own namespace, as a path. */
export const OWN_NAMESPACE = "/proc/thread-self/ns/net";

/** An open network namespace. Close it, or let `using` do so. */
export class NetworkNamespace implements Disposable {
  #fd: number;
  #cookie: string | undefined;

  private constructor(
    fd: number,
    /** The path it was opened by. */
    readonly path: string,
    /** Its name under /run/netns, when it was opened by that. */
    readonly name: string | undefined,
    /** The kernel's number for it: the same for the same namespace, whatever the path. */
    readonly inode: number,
  ) {
    this.#fd = fd;
  }

  get fd(): number {
    return this.#fd;
  }

  /**
   * Looks what the path leads to before anything is opened: the path of a CNI call, or a name under /run/netns, may be a
   * FIFO, a device or a plain file by now.
   * @throws SystemError: ENOENT …, or EINVAL when the path is no network namespace
   */
  static open(path: string, name?: string): NetworkNamespace {
    const handle = openHandle(path);
    try {
      if (fileSystemOf(handle) !== KERNEL_FILE_SYSTEMS.NSFS_MAGIC)
        throw new SystemError("open", ERRNO.EINVAL, `of ${path}, which is no namespace`);
      const fd = openFile(`/proc/thread-self/fd/${handle}`, "r");
      const namespace = new NetworkNamespace(fd, path, name, statDescriptor(fd).inode);
      if (libc.ioctlResult(fd, NS_GET_NSTYPE) === CLONE_NEWNET) return namespace;
      namespace.close();
      throw new SystemError("open", ERRNO.EINVAL, `of ${path}, which is a namespace of another kind`);
    } finally {
      closeFile(handle);
    }
  }

  /** The namespace of the calling thread. What the kernel itself has at that path need not be looked at first. */
  static current(): NetworkNamespace {
    const fd = openFile(OWN_NAMESPACE, "r");
    return new NetworkNamespace(fd, OWN_NAMESPACE, undefined, statDescriptor(fd).inode);
  }

  /** A namespace by its name under /run/netns. @throws ENOENT */
  static named(name: string): NetworkNamespace {
    return NetworkNamespace.open(namespacePath(name), name);
  }

  /** The namespace a process lives in. @throws ENOENT, EACCES */
  static ofProcess(pid: number): NetworkNamespace {
    return NetworkNamespace.open(`/proc/${pid}/ns/net`);
  }

  /** Runs a synchronous function with the calling thread in this namespace. */
  run<T>(inside: () => T): T {
    const home = openFile(OWN_NAMESPACE, "r");
    try {
      // Entering even the own namespace takes a privilege that is not needed to stay where one is.
      if (statDescriptor(home).inode === this.inode) return inside();
      libc.setns(this.#fd, CLONE_NEWNET);
      try {
        return inside();
      } finally {
        libc.setns(home, CLONE_NEWNET);
      }
    } finally {
      closeFile(home);
    }
  }

  /**
   * The kernel's number for this namespace that is never given again, unlike the inode, which the next namespace
   * often inherits (SO_NETNS_COOKIE, Linux 5.14). On an older kernel the inode, marked as such.
   */
  get cookie(): string {
    return (this.#cookie ??= this.#readCookie());
  }

  #readCookie(): string {
    const SO_NETNS_COOKIE = 71;
    const [AF_NETLINK, SOCK_RAW] = [16, 3];
    const open = (): number => libc.socket(AF_NETLINK, SOCK_RAW, 0);
    // Entering even the own namespace takes a privilege that is not needed to stay where one is.
    const fd = this.inode === namespaceInode(OWN_NAMESPACE) ? open() : this.run(open);
    try {
      const value = libc.getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, 8);
      return String(new DataView(value.buffer, value.byteOffset).getBigUint64(0, true));
    } catch (error) {
      if (error instanceof SystemError && error.code === "ENOPROTOOPT") return `inode-${this.inode}`;
      throw error;
    } finally {
      closeFile(fd);
    }
  }

  close(): void {
    if (this.#fd >= 0) closeFile(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The inode number of the namespace at a path, without opening it for entry; undefined when there is none. */
export function namespaceInode(path: string): number | undefined {
  namespaces ??= inodeAndDevice(OWN_NAMESPACE)?.device;
  const found = inodeAndDevice(path);
  return found?.device === namespaces ? found?.inode : undefined;
}

/** The one file system in which all namespaces of a machine lie (nsfs). */
let namespaces: bigint | undefined;

export function namespacePath(name: string): string {
  return `${NETNS_DIRECTORY}/${name}`;
}
