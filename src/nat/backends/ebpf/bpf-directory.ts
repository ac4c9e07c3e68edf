/**
 * Where maps and programs are kept: a file system of the kernel that holds them by name, below /sys/fs/bpf by custom. What
 * is attached lives as long as its name there. A folder for each network namespace, named by its cookie.
 */
import { platform } from "#platform";
import { WayoutError } from "../../../error.ts";
import {
  closeFile,
  fileSystemOf,
  listDirectory,
  openHandle,
  removeFile,
  removeIfEmpty,
} from "../../../kernel/file.ts";
import { checked, text } from "../../../kernel/calls.ts";
import { FIRST_PID_NAMESPACE, namespaceInode, type NetworkNamespace } from "../../../kernel/namespace.ts";
import { SystemError } from "../../../linux/errno.ts";
import { KERNEL_FILE_SYSTEMS } from "../../../linux/kernel-file-systems.ts";

const CUSTOM = "/sys/fs/bpf";
/** The same as the first process sees it: `ip netns exec` hides it behind a /sys of the namespace. */
const OF_THE_FIRST = `/proc/1/root${CUSTOM}`;

/** Of the mount namespace that the machine started with: MNT_NS_INIT_INO, and the first number given away before it had one. */
const FIRST_MOUNT_NAMESPACES: ReadonlySet<number> = new Set([0xef_ff_ff_f8, 0xf0_00_00_00, 0xf0_00_00_01]);

/** The folder of a namespace; undefined where no such file system is mounted. It need not exist. */
export function namespaceDirectory(namespace: NetworkNamespace): string | undefined {
  const root = mounted();
  return root === undefined ? undefined : directoryBelow(root, namespace);
}

/**
 * The same, with the file system mounted if need be, as tc(8) and others do.
 * @throws WayoutError `no-ebpf`: a container without the node's would lose all with its end
 */
export function neededDirectory(namespace: NetworkNamespace, doing: string): string {
  return directoryBelow(mounted() ?? mountIt(doing), namespace);
}

/** The folder of those of all namespaces; undefined where no such file system is mounted. */
export function rootDirectory(): string | undefined {
  const root = mounted();
  return root === undefined ? undefined : `${root}/wayout`;
}

/** Whether a namespace has programs or maps of ours. */
export function holdsPrograms(namespace: NetworkNamespace): boolean {
  const directory = namespaceDirectory(namespace);
  return directory !== undefined && namesIn(directory) !== undefined;
}

/** The names in a folder; undefined when there is none. */
export function namesIn(directory: string): string[] | undefined {
  try {
    return listDirectory(directory);
  } catch (error) {
    if (error instanceof SystemError && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Takes everything in it away, and so detaches what is attached. */
export function removeDirectory(directory: string): void {
  for (const name of namesIn(directory) ?? []) removeFile(`${directory}/${name}`);
  removeIfEmpty(directory);
  removeIfEmpty(directory.slice(0, directory.lastIndexOf("/")));
}

function directoryBelow(root: string, namespace: NetworkNamespace): string {
  return `${root}/wayout/${namespace.cookie}`;
}

function mounted(): string | undefined {
  return [CUSTOM, OF_THE_FIRST].find((path) => {
    try {
      const handle = openHandle(path);
      try {
        return fileSystemOf(handle) === KERNEL_FILE_SYSTEMS.BPF_FS_MAGIC;
      } finally {
        closeFile(handle);
      }
    } catch (error) {
      if (error instanceof SystemError) return false;
      throw error;
    }
  });
}

function mountIt(doing: string): string {
  if (hasTheNodesMounts()) {
    mountFileSystem();
    return CUSTOM;
  }
  throw new WayoutError({
    code: "no-ebpf",
    kind: "machine",
    doing,
    said: `${CUSTOM} is no BPF file system here, and what this process mounts ends with its mount namespace (that of a container, or of "ip netns exec")`,
    todo: `Mount it on the node (mount -t bpf bpf ${CUSTOM}), and into a container (in Kubernetes a hostPath volume); enter a network namespace by nsenter --net=…; or choose the backend nftables.`,
  });
}

/** Whether a mount of ours lasts: a container, and `ip netns exec`, have mounts of their own. */
function hasTheNodesMounts(): boolean {
  if (platform.environment()["KUBERNETES_SERVICE_HOST"] !== undefined) return false;
  if (namespaceInode("/proc/self/ns/pid") !== FIRST_PID_NAMESPACE) return false;
  const own = namespaceInode("/proc/self/ns/mnt");
  if (own === undefined) return false;
  return FIRST_MOUNT_NAMESPACES.has(own) || own === namespaceInode("/proc/1/ns/mnt");
}

function mountFileSystem(): void {
  const [type, target, options] = [text("bpf"), text(CUSTOM), text("mode=0700")];
  const number = platform.arch === "arm64" ? 40 : 165;
  const of = (bytes: Uint8Array): number => platform.addressOf(bytes);
  checked(
    "mount",
    Number(platform.libc.syscall(number, of(type), of(target), of(type), 0, of(options), 0)),
    CUSTOM,
  );
}
