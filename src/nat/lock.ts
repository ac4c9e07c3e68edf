import { flock } from "../kernel/libc.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";

/** sys/file.h */
const LOCK_EX = 2;
const LOCK_UN = 8;

/**
 * Runs `inside` while no other wayout reads and then changes the NAT of this namespace. The lock is held on the
 * namespace itself: it needs no file, is seen from every mount namespace, and ends with its holder.
 */
export function withNatLock<T>(namespace: NetworkNamespace, inside: () => T): T {
  flock(namespace.fd, LOCK_EX);
  try {
    return inside();
  } finally {
    flock(namespace.fd, LOCK_UN);
  }
}
