/** How a pod's namespace is asked: a pod may fill it with any number of things. */
import { readRegularIfThere } from "../kernel/file.ts";
import { bounded, tooLong } from "../kernel/netlink/bounded.ts";
import {
  NETLINK_ROUTE,
  openTransport,
  type NetlinkTransport,
  type TransportOptions,
} from "../kernel/netlink/transport.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { ERRNO, SystemError } from "../linux/errno.ts";
import { messageOf } from "../error.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";

/** Some seventy thousand routes, a hundred thousand elements of sets: a pod that holds more is not judged. */
export const MOST_POD_BYTES = 4 * 1024 * 1024;

/** A hundred times what the fullest ordinary pod takes; one that takes more is not judged. */
const MOST_POD_CPU_MS = 500;

/** A socket in a pod's namespace, or in the calling thread's own. Opened when it is first used. @throws SystemError */
export function podSocket(protocol: number, options: TransportOptions = {}): NetlinkTransport {
  const bounds = { mostBytes: MOST_POD_BYTES, mostCpuMs: MOST_POD_CPU_MS };
  return bounded(() => openTransport(protocol, options), bounds);
}

/** rtnetlink in a pod's namespace, with these bounds. Opened when it is first used. */
export function podRoute(namespace: NetworkNamespace): Rtnetlink {
  return new Rtnetlink(podSocket(NETLINK_ROUTE, { namespace }), namespace);
}

/**
 * /proc/net/FILE of the pod whose namespace the thread is in; "" where this kernel has no such file (no IPv6).
 * @throws SystemError EFBIG when it is longer than what is read of a pod
 */
export function readPodTable(file: string): string {
  const read = readRegularIfThere(`/proc/thread-self/net/${file}`, MOST_POD_BYTES);
  if (read?.whole === false) throw tooLong("read", MOST_POD_BYTES);
  return read?.text ?? "";
}

/** Why a pod's list was given up; undefined for every other error. */
export function givenUpBecause(error: unknown): string | undefined {
  return error instanceof SystemError && error.errno === ERRNO.EFBIG ? messageOf(error) : undefined;
}
