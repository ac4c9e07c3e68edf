/** ICMP and ICMPv6 echo (RFC 792, RFC 4443): what ping does, from inside any namespace. */
import { socketAddress, SOCKADDR_BYTES } from "./inet-socket.ts";
import { ECHO_REPLY, ECHO_REQUEST } from "../linux/icmp.ts";
import { internetChecksum } from "../linux/packet/checksum.ts";
import { icmpProtocol } from "../linux/ip-protocol.ts";
import { AF_INET, AF_INET6, SOCK_RAW, POLLIN } from "../linux/socket.ts";
import { closeSync } from "node:fs";
import { type IpFamily, ipFamily, ipText } from "../address/ip.ts";
import * as libc from "./libc.ts";
import type { NetworkNamespace } from "./namespace.ts";

/**
 * Sends one echo request and waits for its reply.
 * @returns the round trip in microseconds; undefined when none came within `timeoutMs`
 * @throws SystemError ENETUNREACH and so on, when the packet could not even leave; EPERM without CAP_NET_RAW
 */
export function echo(
  namespace: NetworkNamespace,
  destination: string,
  timeoutMs: number,
): number | undefined {
  using socket = new EchoSocket(namespace, ipFamily(destination));
  const sentAt = performance.now();
  socket.send(destination);
  for (;;) {
    const leftMs = Math.ceil(timeoutMs - (performance.now() - sentAt));
    if (leftMs <= 0 || !socket.wait(leftMs)) return undefined;
    if (socket.replies().length > 0) return Math.round((performance.now() - sentAt) * 1000);
  }
}

/** Requests to several addresses of a family over one socket, for those who do not wait where they send. */
export class EchoSocket implements Disposable {
  readonly #fd: number;
  readonly #identifier = Math.floor(Math.random() * 0x1_0000);

  /**
   * @param source the address to send from; the kernel's choice when undefined
   * @throws SystemError EPERM without CAP_NET_RAW, EADDRNOTAVAIL for a source that the namespace does not have
   */
  constructor(
    namespace: NetworkNamespace,
    private readonly family: IpFamily,
    source?: string,
  ) {
    const domain = family === 6 ? AF_INET6 : AF_INET;
    this.#fd = namespace.run(() => libc.socket(domain, SOCK_RAW, icmpProtocol(family)));
    try {
      if (source !== undefined) libc.bind(this.#fd, socketAddress({ address: source, port: 0 }));
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
  }

  /** @throws SystemError ENETUNREACH and so on, when the packet could not even leave */
  send(destination: string): void {
    libc.sendto(
      this.#fd,
      echoRequest(this.family === 6, this.#identifier),
      socketAddress({ address: destination, port: 0 }),
    );
  }

  /** Blocks this thread until something has come, a reply or not; false when the time is over. */
  wait(timeoutMs: number): boolean {
    return libc.poll([{ fd: this.#fd, events: POLLIN, revents: 0 }], timeoutMs) > 0;
  }

  /** Who has replied since the last call, as far as it has come. Does not wait. */
  replies(): string[] {
    const from: string[] = [];
    const buffer = new Uint8Array(2048);
    const sender = new Uint8Array(SOCKADDR_BYTES[6]);
    const v6 = this.family === 6;
    for (;;) {
      const length = libc.recvfrom(this.#fd, buffer, sender);
      if (length === undefined) return from;
      if (isReply(buffer.subarray(0, length), v6, this.#identifier))
        from.push(v6 ? ipText(sender, 8, 24) : ipText(sender, 4, 8));
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/** Type, code, checksum, identifier, sequence 1, eight bytes. The kernel fills in ICMPv6's checksum itself. */
function echoRequest(v6: boolean, identifier: number): Uint8Array {
  const packet = new Uint8Array(16);
  const view = new DataView(packet.buffer);
  packet[0] = ECHO_REQUEST[v6 ? 6 : 4];
  view.setUint16(4, identifier);
  view.setUint16(6, 1);
  if (!v6) view.setUint16(2, internetChecksum(packet));
  return packet;
}

/** A raw IPv4 socket hands over the IP header too; a raw IPv6 socket does not. */
function isReply(packet: Uint8Array, v6: boolean, identifier: number): boolean {
  const start = v6 ? 0 : (packet[0]! & 0x0f) * 4;
  if (packet.length < start + 8) return false;
  const view = new DataView(packet.buffer, packet.byteOffset);
  return packet[start] === ECHO_REPLY[v6 ? 6 : 4] && view.getUint16(start + 4) === identifier;
}
