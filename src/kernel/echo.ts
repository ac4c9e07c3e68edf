/** ICMP and ICMPv6 echo (RFC 792, RFC 4443): what ping does, from inside any namespace. */
import { internetChecksum } from "../linux/packet/checksum.ts";
import { icmpProtocol } from "../linux/ip-protocol.ts";
import { AF_INET, AF_INET6, SOCK_RAW, POLLIN } from "../linux/socket.ts";
import { closeSync } from "node:fs";
import { ipBytes } from "../address/ip.ts";
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
  const address = ipBytes(destination);
  const v6 = address.length === 16;
  const fd = namespace.run(() => libc.socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW, icmpProtocol(v6 ? 6 : 4)));
  try {
    const identifier = Math.floor(Math.random() * 0x1_0000);
    const sentAt = performance.now();
    libc.sendto(fd, echoRequest(v6, identifier), socketAddress(address));
    const buffer = new Uint8Array(2048);
    const from = new Uint8Array(28);
    const entries = [{ fd, events: POLLIN, revents: 0 }];
    for (;;) {
      const leftMs = Math.ceil(timeoutMs - (performance.now() - sentAt));
      if (leftMs <= 0 || libc.poll(entries, leftMs) === 0) return undefined;
      const length = libc.recvfrom(fd, buffer, from);
      if (length !== undefined && isReply(buffer.subarray(0, length), v6, identifier)) {
        return Math.round((performance.now() - sentAt) * 1000);
      }
    }
  } finally {
    closeSync(fd);
  }
}

/** Type, code, checksum, identifier, sequence 1, eight bytes. The kernel fills in ICMPv6's checksum itself. */
function echoRequest(v6: boolean, identifier: number): Uint8Array {
  const packet = new Uint8Array(16);
  const view = new DataView(packet.buffer);
  packet[0] = v6 ? 128 : 8;
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
  return packet[start] === (v6 ? 129 : 0) && view.getUint16(start + 4) === identifier;
}

/** struct sockaddr_in or sockaddr_in6 without a port. */
function socketAddress(address: Uint8Array): Uint8Array {
  const v6 = address.length === 16;
  const bytes = new Uint8Array(v6 ? 28 : 16);
  new DataView(bytes.buffer).setUint16(0, v6 ? AF_INET6 : AF_INET, true);
  bytes.set(address, v6 ? 8 : 4);
  return bytes;
}
