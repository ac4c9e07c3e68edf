/**
 * A netlink socket that is listened to by a thread of its own: it sleeps in the kernel until something is announced, and
 * the event loop hears of it. An idle listener costs one wake-up a second.
 */
import { ERRNO, SystemError } from "../../linux/errno.ts";
import * as libc from "../libc.ts";
import type { NetworkNamespace } from "../namespace.ts";
import { openTransport } from "./transport.ts";
import { present } from "../../present.ts";
import { SOL_NETLINK, SOL_SOCKET } from "../../linux/socket.ts";

/** include/uapi/linux/netlink.h */
const NETLINK_LISTEN_ALL_NSID = 8;
/** SO_RCVTIMEO_OLD (asm-generic/socket.h): struct timeval, two longs. */
const SO_RCVTIMEO = 20;
/** How long the thread sleeps before it looks whether it shall end. */
const LOOK_EVERY_S = 1;
const BUFFER_BYTES = 256 * 1024;
const STOP = 0;

/** Text, so that it needs no file of its own in a single-file build; it uses nothing but node:fs. */
const THREAD = `
import { readSync } from "node:fs";
self.onmessage = ({ data: { shared, fd, atMostEveryMs } }) => {
  const words = new Int32Array(shared);
  const buffer = new Uint8Array(${BUFFER_BYTES});
  let told = -Infinity;
  while (Atomics.load(words, ${STOP}) === 0) {
    try {
      const length = readSync(fd, buffer, 0, buffer.length, null);
      if (atMostEveryMs > 0 && performance.now() - told < atMostEveryMs) continue;
      told = performance.now();
      postMessage({ datagram: buffer.slice(0, length) });
    } catch (error) {
      const errno = Math.abs(error.errno ?? ${ERRNO.EIO});
      if (errno === ${ERRNO.EAGAIN} || errno === ${ERRNO.EINTR}) continue;
      postMessage({ errno });
      if (errno !== ${ERRNO.ENOBUFS}) break;
    }
  }
  postMessage({ ended: true });
  close();
};
`;

export interface EventThreadOptions {
  readonly namespace?: NetworkNamespace;
  /** Multicast groups, by number. */
  readonly groups: readonly number[];
  readonly receiveBufferBytes?: number;
  /**
   * Hears what is announced in other namespaces, too: those that have a number (nsid) in this one, as every namespace at
   * the other end of a veth pair has. Without CAP_NET_BROADCAST over them nothing of theirs comes.
   */
  readonly elsewhereToo?: true;
  /** For those who want to know only that something came: no more often than this, the rest is left out. */
  readonly atMostEveryMs?: number;
  readonly each: (datagram: Uint8Array) => void;
  /** The kernel dropped events (ENOBUFS), or the socket broke: what is known must be read anew. */
  readonly lost: (error: SystemError) => void;
}

type Said = { datagram?: Uint8Array; errno?: number; ended?: true };

/** Listens from the moment it is made until it is closed. @throws SystemError EPERM without privilege */
export class EventThread {
  readonly #shared = new SharedArrayBuffer(4);
  readonly #thread: Worker;
  readonly #ended: Promise<void>;

  constructor(protocol: number, options: EventThreadOptions) {
    const { namespace, groups, receiveBufferBytes = 4 * 1024 * 1024, each, lost } = options;
    const socket = openTransport(
      protocol,
      present({
        receiveBufferBytes,
        namespace,
      }),
    );
    for (const group of groups) socket.join(group);
    if (options.elsewhereToo === true) libc.setsockopt(socket.fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1);
    const timeout = new Uint8Array(16);
    new DataView(timeout.buffer).setBigInt64(0, BigInt(LOOK_EVERY_S), true);
    libc.setsockopt(socket.fd, SOL_SOCKET, SO_RCVTIMEO, timeout);
    const url = URL.createObjectURL(new Blob([THREAD], { type: "application/javascript" }));
    this.#thread = new Worker(url);
    this.#ended = new Promise((resolve) => {
      this.#thread.addEventListener("message", ({ data }: MessageEvent<Said>) => {
        if (data.datagram !== undefined) each(data.datagram);
        if (data.errno !== undefined) lost(new SystemError("read", data.errno));
        if (data.ended !== true) return;
        socket.close();
        URL.revokeObjectURL(url);
        resolve();
      });
    });
    const { atMostEveryMs = 0 } = options;
    this.#thread.postMessage({ shared: this.#shared, fd: socket.fd, atMostEveryMs }, []);
  }

  /** The thread ends within a second, and the socket with it. */
  close(): Promise<void> {
    Atomics.store(new Int32Array(this.#shared), STOP, 1);
    return this.#ended;
  }
}
