/**
 * A netlink socket from which only so much is read: a pod may put any number of routes, addresses and set elements into
 * its own namespace. To keep them all would cost the reader memory, and to have the kernel make the list may cost time that
 * others need: it looks for each part of a list from the beginning.
 */
import { ERRNO, SystemError } from "../../linux/errno.ts";
import { threadCpuMs } from "../calls.ts";
import type { NetlinkTransport } from "./transport.ts";

/** So many times more than for one question is read for all of them: a ruleset has any number of sets. */
const QUESTIONS = 4;

export interface Bounds {
  /** Of the answers to one question. */
  readonly mostBytes: number;
  /** Of this thread's own time, in the kernel, for all questions together: other programs' load does not count. */
  readonly mostCpuMs: number;
}

/**
 * What is longer fails with EFBIG: what was read in part is not judged. Nothing of the rest is asked for.
 * @param open makes the socket, and another one after a list was given up: nobody but this may hold it
 * @param cpuMs how much time this thread has used so far
 */
export function bounded(
  open: () => NetlinkTransport,
  { mostBytes, mostCpuMs }: Bounds,
  cpuMs: () => number = threadCpuMs,
): NetlinkTransport {
  let total = QUESTIONS * mostBytes;
  let left = mostBytes;
  let leftMs = mostCpuMs;
  let transport: NetlinkTransport | undefined;
  const close = (): void => {
    transport?.close();
    transport = undefined;
  };
  return {
    send(datagram) {
      left = Math.min(mostBytes, total);
      transport ??= open();
      transport.send(datagram);
    },
    receive(timeoutMs) {
      // Of a list that was given up there is no rest.
      if (transport === undefined) return undefined;
      const before = cpuMs();
      const datagram = transport.receive(timeoutMs);
      leftMs -= cpuMs() - before;
      const length = datagram?.length ?? 0;
      left -= length;
      total -= length;
      if (left >= 0 && leftMs >= 0) return datagram;
      close();
      throw left < 0 ? tooLong("recv", mostBytes) : givenUp("recv", `that took more than ${mostCpuMs} ms`);
    },
    join(group) {
      transport ??= open();
      transport.join(group);
    },
    close,
  };
}

/** @param call by which more would have been read */
export function tooLong(call: string, mostBytes: number): SystemError {
  return givenUp(call, `of more than ${mostBytes >> 20} MiB`);
}

function givenUp(call: string, why: string): SystemError {
  return new SystemError(call, ERRNO.EFBIG, `${why}, which was given up`);
}
