/** Frames made by hand and put on an interface, so that nothing but the node's own chains decides about them. */
import { closeSync } from "node:fs";
import { ipBytes } from "../../src/address/ip.ts";
import { macBytes } from "../../src/address/mac.ts";
import * as libc from "../../src/kernel/libc.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";

const AF_PACKET = 17;
const SOCK_RAW = 3;
const PROTOCOLS = { tcp: 6, udp: 17 } as const;

export interface Frame {
  readonly from: string;
  readonly to: string;
  readonly source: string;
  readonly destination: string;
  readonly protocol: "tcp" | "udp";
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** SYN 2, SYN and ACK 18. */
  readonly tcpFlags: number;
  /** IPv4 identification: NAT leaves it alone, so it names the packet wherever it is seen. */
  readonly id: number;
}

/** Sends frames from inside a namespace, below its IP stack. */
export class FrameSender implements Disposable {
  readonly #fd: number;

  constructor(namespace: NetworkNamespace, interfaceIndex: number) {
    this.#fd = namespace.run(() => {
      const fd = libc.socket(AF_PACKET, SOCK_RAW, 0);
      const address = new Uint8Array(20);
      const view = new DataView(address.buffer);
      view.setUint16(0, AF_PACKET, true);
      view.setInt32(4, interfaceIndex, true);
      libc.bind(fd, address);
      return fd;
    });
  }

  send(frame: Frame): void {
    libc.send(this.#fd, frameBytes(frame));
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

export function frameBytes(frame: Frame): Uint8Array {
  const transport = frame.protocol === "tcp" ? tcpBytes(frame) : udpBytes(frame);
  const bytes = new Uint8Array(14 + 20 + transport.length);
  const view = new DataView(bytes.buffer);
  bytes.set(macBytes(frame.to), 0);
  bytes.set(macBytes(frame.from), 6);
  view.setUint16(12, 0x0800);
  bytes[14] = 0x45;
  view.setUint16(16, 20 + transport.length);
  view.setUint16(18, frame.id);
  view.setUint16(20, 0x4000);
  bytes[22] = 64;
  bytes[23] = PROTOCOLS[frame.protocol];
  bytes.set(ipBytes(frame.source), 26);
  bytes.set(ipBytes(frame.destination), 30);
  view.setUint16(24, checksum(bytes.subarray(14, 34)));
  // The pseudo header of RFC 9293 3.1: addresses, protocol, length.
  const pseudo = new Uint8Array(12 + transport.length);
  pseudo.set(bytes.subarray(26, 34), 0);
  pseudo[9] = PROTOCOLS[frame.protocol];
  new DataView(pseudo.buffer).setUint16(10, transport.length);
  pseudo.set(transport, 12);
  new DataView(transport.buffer).setUint16(frame.protocol === "tcp" ? 16 : 6, checksum(pseudo));
  bytes.set(transport, 34);
  return bytes;
}

/** What Linux puts into a SYN and its answer: MSS 1460, SACK permitted, timestamps, no-op, window scale 7. */
const TCP_OPTIONS = [2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

function tcpBytes(frame: Frame): Uint8Array {
  const bytes = new Uint8Array(20 + TCP_OPTIONS.length);
  bytes.set(TCP_OPTIONS, 20);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, frame.sourcePort);
  view.setUint16(2, frame.destinationPort);
  // Both ends begin at 1000: an answer acknowledges 1001.
  view.setUint32(4, 1000);
  view.setUint32(8, frame.tcpFlags === 2 ? 0 : 1001);
  bytes[12] = 0xa0;
  bytes[13] = frame.tcpFlags;
  view.setUint16(14, 64_240);
  return bytes;
}

function udpBytes(frame: Frame): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, frame.sourcePort);
  view.setUint16(2, frame.destinationPort);
  view.setUint16(4, bytes.length);
  return bytes;
}

/** RFC 1071. */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at]! << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
