/** How a pod's namespace is asked: a pod may fill it with any number of things. */
import { bounded } from "../kernel/netlink/bounded.ts";
import { openTransport, type NetlinkTransport, type TransportOptions } from "../kernel/netlink/transport.ts";

/** Some seventy thousand routes, a hundred thousand elements of sets: a pod that holds more is not judged. */
export const MOST_POD_BYTES = 4 * 1024 * 1024;

/** A hundred times what the fullest ordinary pod takes; one that takes more is not judged. */
const MOST_POD_CPU_MS = 500;

/** A socket in a pod's namespace, or in the calling thread's own. Opened when it is first used. @throws SystemError */
export function podSocket(protocol: number, options: TransportOptions = {}): NetlinkTransport {
  const bounds = { mostBytes: MOST_POD_BYTES, mostCpuMs: MOST_POD_CPU_MS };
  return bounded(() => openTransport(protocol, options), bounds);
}
