import { rethrowMistake } from "../../error.ts";
import type { NetworkNamespace } from "../namespace.ts";
import * as libc from "../calls.ts";
import { ERRNO, SystemError } from "../../linux/errno.ts";
import { platform } from "#platform";
import {
  MSG_DONTWAIT,
  MSG_TRUNC,
  POLLIN,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SOCK_RAW,
  SOL_NETLINK,
  SOL_SOCKET,
} from "../../linux/socket.ts";

/**
 * The one seam to the kernel: datagrams in, datagrams out. Everything above it (framing, sequence numbers,
 * acknowledgements, multipart answers, interrupted dumps, error mapping) is the same code in tests; only this is
 * replaced.
 */
export interface NetlinkTransport {
  /** @throws SystemError */
  send(datagram: Uint8Array): void;
  /**
   * The next datagram; valid until the next call. undefined when none came within `timeoutMs` (0: do not wait).
   * @throws SystemError ENOBUFS when the kernel dropped messages because we read too slowly
   */
  receive(timeoutMs: number): Uint8Array | undefined;
  /** Joins a multicast group by number. */
  join(group: number): void;
  close(): void;
  /** How many messages the kernel has dropped so far because we read too slowly. */
  dropped?(): number;
}

export const NETLINK_ROUTE = 0;
export const NETLINK_SOCK_DIAG = 4;
export const NETLINK_XFRM = 6;
export const NETLINK_NETFILTER = 12;
export const NETLINK_GENERIC = 16;

const AF_NETLINK = 16;
const SO_SNDBUF = 7;
const SO_SNDBUFFORCE = 32;
const SO_MEMINFO = 55;
/** Index of the drop counter in the array of u32 that SO_MEMINFO gives (include/uapi/linux/sock_diag.h). */
const SK_MEMINFO_DROPS = 8;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;

export interface TransportOptions {
  /** The namespace the socket is opened in and stays in; the current one when absent. */
  readonly namespace?: NetworkNamespace;
  /** Room for what we send in one datagram, e.g. a large nf_tables transaction. Bytes. */
  readonly sendBufferBytes?: number;
  /** Room for events that wait to be read. Bytes. */
  readonly receiveBufferBytes?: number;
}

/** A netlink socket. @throws SystemError */
export function openTransport(
  protocol: number,
  options: TransportOptions = {},
): NetlinkTransport & { readonly fd: number } {
  const open = (): number => libc.socket(AF_NETLINK, SOCK_RAW, protocol);
  const fd = options.namespace === undefined ? open() : options.namespace.run(open);
  try {
    const address = new Uint8Array(12);
    address[0] = AF_NETLINK;
    libc.bind(fd, address);
    libc.setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
    libc.setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
    if (protocol === NETLINK_ROUTE) libc.setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
    if (options.sendBufferBytes !== undefined) {
      setBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, options.sendBufferBytes);
    }
    if (options.receiveBufferBytes !== undefined) {
      setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, options.receiveBufferBytes);
    }
  } catch (error) {
    libc.close(fd);
    throw error;
  }
  return new SocketTransport(fd);
}

/** The *FORCE options pass net.core.*mem_max but need CAP_NET_ADMIN in the first user namespace. */
function setBuffer(fd: number, force: number, plain: number, size: number): void {
  try {
    libc.setsockopt(fd, SOL_SOCKET, force, size);
  } catch (error) {
    rethrowMistake(error);
    libc.setsockopt(fd, SOL_SOCKET, plain, size);
  }
}

// The kernel fills a dump up to 32 KiB a datagram when we offer at least that much (af_netlink.c, netlink_dump);
// single messages can be larger, hence the room. Unsafe, because filling it with zeros would touch every page of it.
const BUFFER_BYTES = 256 * 1024;
/** Buffers of closed sockets: looking at hundreds of namespaces opens a thousand sockets, one or two at a time. */
const spareBuffers: Uint8Array[] = [];

class SocketTransport implements NetlinkTransport {
  readonly #buffer = spareBuffers.pop() ?? platform.uninitialised(BUFFER_BYTES);
  readonly #poll: libc.PollEntry[];
  #closed = false;

  constructor(readonly fd: number) {
    this.#poll = [{ fd, events: POLLIN, revents: 0 }];
  }

  send(datagram: Uint8Array): void {
    libc.send(this.fd, datagram);
  }

  receive(timeoutMs: number): Uint8Array | undefined {
    // Answers to a request are queued before send(2) returns, so the first look nearly always finds them.
    let length = this.#receiveNow();
    if (length === undefined && timeoutMs !== 0) {
      libc.poll(this.#poll, timeoutMs);
      length = this.#receiveNow();
    }
    if (length === undefined) return undefined;
    if (length > this.#buffer.length) throw new SystemError("recv", ERRNO.EMSGSIZE, `of ${length} bytes`);
    return this.#buffer.subarray(0, length);
  }

  #receiveNow(): number | undefined {
    try {
      return libc.recv(this.fd, this.#buffer, MSG_DONTWAIT | MSG_TRUNC);
    } catch (error) {
      if (error instanceof SystemError && error.code === "EAGAIN") return undefined;
      throw error;
    }
  }

  join(group: number): void {
    libc.setsockopt(this.fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
  }

  dropped(): number {
    const size = 4 * (SK_MEMINFO_DROPS + 1);
    const info = libc.getsockopt(this.fd, SOL_SOCKET, SO_MEMINFO, size);
    return new DataView(info.buffer, info.byteOffset, info.length).getUint32(4 * SK_MEMINFO_DROPS, true);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    spareBuffers.push(this.#buffer);
    libc.close(this.fd);
  }
}
