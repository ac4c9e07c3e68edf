/** Mounts as a process sees them (proc(5), mountinfo): a list in the kernel's memory, which nobody can make us wait for. */
import { rethrowMistake } from "../error.ts";
import { monotonicMs } from "./calls.ts";
import { readRegular, readText } from "./file.ts";

export interface Mount {
  /** major:minor of the file system. */
  readonly device: string;
  /** Which directory of it is mounted: "/" is all. */
  readonly root: string;
  readonly type: string;
  readonly point: string;
  /** Of this mount; the file system itself may be writable elsewhere. */
  readonly readOnly: boolean;
}

/** File systems that live in the kernel's memory: a read of them never waits, no matter who mounted them. */
const IN_MEMORY: ReadonlySet<string> = new Set(
  "tmpfs ramfs rootfs proc sysfs devtmpfs devpts mqueue cgroup cgroup2 securityfs debugfs tracefs bpf pstore configfs hugetlbfs nsfs binfmt_misc selinuxfs efivarfs".split(
    " ",
  ),
);
/** File systems on this machine's own disks, and what is laid over them. */
const ON_DISK: ReadonlySet<string> = new Set(
  "ext2 ext3 ext4 xfs btrfs f2fs bcachefs zfs squashfs erofs iso9660 vfat overlay".split(" "),
);

/** A container has some dozens of mounts; one may make a hundred thousand, with names of four thousand bytes each. */
export const MOST_MOUNTS_BYTES = 1024 * 1024;

/**
 * Whether a read below a process's root may have to wait for another process: a FUSE file system whose server does not answer, a
 * server of NFS that is gone. What the process mounted itself, on whatever, counts as such: an overlay may lie over FUSE.
 */
export function mayHang(pid: number): boolean {
  try {
    const { text, whole } = readRegular(`/proc/${pid}/mountinfo`, MOST_MOUNTS_BYTES);
    if (!whole) return true;
    const unsure = mountsIn(text).filter(({ type }) => !IN_MEMORY.has(type));
    if (unsure.length === 0) return false;
    const known = ownDisks();
    return unsure.some((mount) => !known.has(fileSystemKey(mount)));
  } catch (error) {
    rethrowMistake(error);
    return true;
  }
}

/** Our own file systems on disks. A snapshot asks for each of hundreds of pods, and a node has a mount for each of them. */
let disks: { readonly keys: ReadonlySet<string>; readonly readAt: number } | undefined;
/** What was mounted since counts as such that may hang, which is slower and nothing worse. */
const DISKS_FOR_MS = 1_000;

function ownDisks(): ReadonlySet<string> {
  if (disks === undefined || monotonicMs() - disks.readAt > DISKS_FOR_MS) {
    const ours = ownMounts().filter(({ type }) => ON_DISK.has(type));
    disks = { keys: new Set(ours.map(fileSystemKey)), readAt: monotonicMs() };
  }
  return disks.keys;
}

/** With its type: a number that became free may be given to a file system of another kind. */
function fileSystemKey({ device, type }: Mount): string {
  return `${type} ${device}`;
}

/** The mount that a path lies in, as this thread sees it; undefined in a chroot whose root is no mount point. */
export function mountOf(
  path: string,
  mountinfo = readText("/proc/thread-self/mountinfo"),
): Mount | undefined {
  const holding = mountsIn(mountinfo).filter(
    ({ point }) => point === "/" || path === point || path.startsWith(`${point}/`),
  );
  // Of two at one point the later one hides the earlier.
  return holding.toSorted((a, b) => a.point.length - b.point.length).at(-1);
}

/** Where a file system of this type is mounted, all of it; undefined when it is not. */
export function mountPointOf(type: string): string | undefined {
  return ownMounts().find((mount) => mount.type === type && mount.root === "/")?.point;
}

function ownMounts(): Mount[] {
  return mountsIn(readText("/proc/thread-self/mountinfo"));
}

/** `36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw` */
function mountsIn(mountinfo: string): Mount[] {
  return mountinfo
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const words = line.split(" ");
      const type = words[words.indexOf("-", 6) + 1] ?? "";
      const readOnly = (words[5] ?? "").split(",").includes("ro");
      return { device: words[2] ?? "", root: words[3] ?? "", point: words[4] ?? "", type, readOnly };
    });
}
