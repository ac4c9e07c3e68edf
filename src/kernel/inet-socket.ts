/** TCP, UDP and raw ICMP sockets opened in any namespace, without a process there: never blocking, one call a step. */
import { icmpProtocol, IP_PROTOCOL } from "../linux/ip-protocol.ts";
import {
  AF_INET,
  AF_INET6,
  SOCK_STREAM,
  SOCK_DGRAM,
  SOCK_RAW,
  SOCK_NONBLOCK,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  MSG_NOSIGNAL,
} from "../linux/socket.ts";
import { closeSync } from "node:fs";
import { ipBytes, ipFamily, ipText, type IpFamily } from "../address/ip.ts";
import { SystemError } from "../linux/errno.ts";
import * as libc from "./libc.ts";
import type { NetworkNamespace } from "./namespace.ts";

const SO_ERROR = 4;
const IP_TTL = 2;
const IP_MTU_DISCOVER = 10;
const IPV6_MTU_DISCOVER = 23;
const IP_PMTUDISC_DO = 2;

const KINDS = {
  tcp: { type: SOCK_STREAM, protocol: () => IP_PROTOCOL.tcp },
  udp: { type: SOCK_DGRAM, protocol: () => IP_PROTOCOL.udp },
  icmp: { type: SOCK_RAW, protocol: icmpProtocol },
} as const;

export interface SocketAddress {
  readonly address: string;
  readonly port: number;
}

/**
 * `net.ipv4.ip_default_ttl` of the namespace that the thread is in, as a new socket has it: the way through /proc/sys
 * grows with the number of namespaces.
 */
export function defaultTtl(): number {
  const fd = libc.socket(AF_INET, SOCK_DGRAM, IP_PROTOCOL.udp);
  try {
    const value = libc.getsockopt(fd, SOL_IP, IP_TTL, 4);
    return new DataView(value.buffer, value.byteOffset).getInt32(0, true);
  } finally {
    closeSync(fd);
  }
}

/** A socket of one family. Close it. */
export class InetSocket implements Disposable {
  #fd: number;

  private constructor(
    fd: number,
    readonly family: IpFamily,
  ) {
    this.#fd = fd;
  }

  get fd(): number {
    return this.#fd;
  }

  /** @throws SystemError EPERM for `icmp` without CAP_NET_RAW there */
  static open(namespace: NetworkNamespace, kind: keyof typeof KINDS, family: IpFamily): InetSocket {
    const { type, protocol } = KINDS[kind];
    const fd = namespace.run(() =>
      libc.socket(family === 4 ? AF_INET : AF_INET6, type | SOCK_NONBLOCK, protocol(family)),
    );
    return new InetSocket(fd, family);
  }

  /** Takes a port of the kernel's choice now, so that it is known before the first packet. */
  bindAnyPort(): void {
    this.bindPort(0);
  }

  /** @throws SystemError EADDRINUSE */
  bindPort(port: number): void {
    libc.bind(this.#fd, socketAddress({ address: this.family === 4 ? "0.0.0.0" : "::", port }));
  }

  /** Returns false when a TCP connection has only begun. @throws SystemError */
  connect(to: SocketAddress): boolean {
    return libc.connect(this.#fd, socketAddress(to));
  }

  /** Packets larger than the path are refused or reported, not cut into fragments. */
  forbidFragments(): void {
    if (this.family === 4) libc.setsockopt(this.#fd, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
    else libc.setsockopt(this.#fd, SOL_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO);
  }

  /** Our own end. */
  local(): SocketAddress {
    const bytes = libc.getsockname(this.#fd);
    const port = (bytes[2]! << 8) | bytes[3]!;
    return { address: this.family === 4 ? ipText(bytes, 4, 8) : ipText(bytes, 8, 24), port };
  }

  send(bytes: Uint8Array): void {
    libc.send(this.#fd, bytes, MSG_NOSIGNAL);
  }

  /** What has come; empty at the end of a TCP stream, undefined when nothing is there yet. @throws SystemError */
  receive(mostBytes = 65_536): Uint8Array | undefined {
    const buffer = new Uint8Array(mostBytes);
    try {
      return buffer.subarray(0, libc.recv(this.#fd, buffer));
    } catch (error) {
      if (error instanceof SystemError && error.code === "EAGAIN") return undefined;
      throw error;
    }
  }

  /** The error that came back for something sent earlier (SO_ERROR), cleared by asking; 0 when none. */
  pendingError(): number {
    const value = libc.getsockopt(this.#fd, SOL_SOCKET, SO_ERROR, 4);
    return new DataView(value.buffer, value.byteOffset).getInt32(0, true);
  }

  /** Whether poll(2) says so at once. */
  ready(events: number): boolean {
    return libc.poll([{ fd: this.#fd, events, revents: 0 }], 0) > 0;
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** sizeof struct sockaddr_in, sockaddr_in6. */
export const SOCKADDR_BYTES = { 4: 16, 6: 28 } as const;

/** struct sockaddr_in or sockaddr_in6. */
export function socketAddress({ address, port }: SocketAddress): Uint8Array {
  const family = ipFamily(address);
  const bytes = new Uint8Array(SOCKADDR_BYTES[family]);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, family === 4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  bytes.set(ipBytes(address), family === 4 ? 4 : 8);
  return bytes;
}
