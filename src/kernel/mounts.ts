/** Mounts as a process sees them (proc(5), mountinfo): a list in the kernel's memory, which nobody can make us wait for. */
import { readText } from "./file.ts";

interface Mount {
  /** major:minor of the file system. */
  readonly device: string;
  readonly type: string;
}

/** File systems that live in the kernel's memory: whoever mounted them, a read waits for nobody. */
const IN_MEMORY: ReadonlySet<string> = new Set(
  "tmpfs ramfs rootfs proc sysfs devtmpfs devpts mqueue cgroup cgroup2 securityfs debugfs tracefs bpf pstore configfs hugetlbfs nsfs binfmt_misc selinuxfs efivarfs".split(
    " ",
  ),
);
/** File systems on this machine's own disks, and what is laid over them. */
const ON_DISK: ReadonlySet<string> = new Set(
  "ext2 ext3 ext4 xfs btrfs f2fs bcachefs zfs squashfs erofs iso9660 vfat overlay".split(" "),
);

/**
 * Whether a read below a process's root may have to wait for somebody: a FUSE file system whose server does not answer, a
 * server of NFS that is gone. What the process mounted itself, on whatever, counts as such: an overlay may lie over FUSE.
 */
export function mayHang(pid: number): boolean {
  let theirs: readonly Mount[];
  let ours: readonly Mount[];
  try {
    theirs = mountsOf(String(pid));
    ours = mountsOf("thread-self");
  } catch {
    return true;
  }
  const known = new Set(ours.filter(({ type }) => ON_DISK.has(type)).map(({ device }) => device));
  return theirs.some(({ device, type }) => !IN_MEMORY.has(type) && !known.has(device));
}

/** `36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw` */
function mountsOf(process: string): Mount[] {
  return readText(`/proc/${process}/mountinfo`)
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const words = line.split(" ");
      return { device: words[2] ?? "", type: words[words.indexOf("-", 6) + 1] ?? "" };
    });
}
