/**
 * File systems in which the kernel answers for itself (include/uapi/linux/magic.h). What looks like a file there is none:
 * to read it may take something from another reader (/proc/kmsg, trace_pipe), wait for an event, or do work.
 */
export const KERNEL_FILE_SYSTEMS = {
  PROC_SUPER_MAGIC: 0x9fa0,
  SYSFS_MAGIC: 0x6265_6572,
  DEBUGFS_MAGIC: 0x6462_6720,
  TRACEFS_MAGIC: 0x7472_6163,
  SECURITYFS_MAGIC: 0x7363_6673,
  SELINUX_MAGIC: 0xf97c_ff8c,
  SMACK_MAGIC: 0x4341_5d53,
  AAFS_MAGIC: 0x5a3c_69f0,
  CGROUP_SUPER_MAGIC: 0x27_e0eb,
  CGROUP2_SUPER_MAGIC: 0x6367_7270,
  RDTGROUP_SUPER_MAGIC: 0x765_5821,
  BPF_FS_MAGIC: 0xcafe_4a11,
  PSTOREFS_MAGIC: 0x6165_676c,
  EFIVARFS_MAGIC: 0xde5e_81e4,
  BINFMTFS_MAGIC: 0x4249_4e4d,
  BINDERFS_SUPER_MAGIC: 0x6c6f_6f70,
  XENFS_SUPER_MAGIC: 0xabba_1974,
  NSFS_MAGIC: 0x6e73_6673,
} as const;

/** @param magic f_type of statfs(2) */
export function isKernelFileSystem(magic: number): boolean {
  return Object.values<number>(KERNEL_FILE_SYSTEMS).includes(magic);
}
