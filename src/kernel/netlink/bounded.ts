/**
 * A netlink socket from which only so much is read: a pod may put any number of routes, addresses and set elements into
 * its own namespace, and keeping them all would cost the reader time and memory that others need.
 */
import { ERRNO, SystemError } from "../../linux/errno.ts";
import type { NetlinkTransport } from "./transport.ts";

/** So many times more than for one question is read for all of them: a ruleset has any number of sets. */
const QUESTIONS = 4;

/** @param mostBytes of the answers to one question. What is longer fails: what was read in part is not judged. */
export function bounded(transport: NetlinkTransport, mostBytes: number): NetlinkTransport {
  let total = QUESTIONS * mostBytes;
  let left = mostBytes;
  let given = false;
  const giveUp = (): never => {
    given = true;
    // The kernel makes the rest of a dump while it is received, and begins no other before.
    while (transport.receive(0) !== undefined);
    throw new SystemError("recv", ERRNO.EFBIG, `of more than ${mostBytes >> 20} MiB, which was given up`);
  };
  return {
    send(datagram) {
      left = Math.min(mostBytes, total);
      given = false;
      transport.send(datagram);
    },
    receive(timeoutMs) {
      if (given) return undefined;
      const datagram = transport.receive(timeoutMs);
      const length = datagram?.length ?? 0;
      left -= length;
      total -= length;
      return left < 0 ? giveUp() : datagram;
    },
    join: (group) => transport.join(group),
    close: () => transport.close(),
  };
}
