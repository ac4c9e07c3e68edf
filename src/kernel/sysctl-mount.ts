/**
 * In a container the runtime mounts /proc/sys over itself, read-only. A process that may mount (CAP_SYS_ADMIN, no filter in between)
 * may take that back for its own mount namespace; what it then writes is of its network namespace alone, as ever.
 */
import { isRefusal } from "../error.ts";
import * as libc from "./libc.ts";
import { mountOf } from "./mounts.ts";
import { MS_BIND } from "./named-namespace.ts";

const SYSCTLS = "/proc/sys";
/** include/uapi/linux/mount.h */
const [MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT] = [2, 4, 8, 32];

/** Returns whether it had to, and could. False as well where the node itself has it so: that is its administrator's word. */
export function openSysctls(): boolean {
  const mount = mountOf(SYSCTLS);
  if (mount?.point !== SYSCTLS || !mount.readOnly) return false;
  try {
    const flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    libc.mount("none", SYSCTLS, "none", flags);
    return true;
  } catch (error) {
    if (isRefusal(error)) return false;
    throw error;
  }
}
