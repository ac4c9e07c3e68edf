/**
 * Frames in and out of a link by the hundred: one call of the kernel for many (sendmmsg, recvmmsg), with the header that
 * says what of checksum and segmentation the link is to do (PACKET_VNET_HDR).
 */
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import * as libc from "../../../src/kernel/libc.ts";
import type { NetworkNamespace } from "../../../src/kernel/namespace.ts";
import { SOCK_RAW } from "../../../src/linux/socket.ts";
import { FFIType, loadLibc, platform } from "../../../src/platform/bun.ts";

const { i32, u32, u64, pointer } = FFIType;
const { sendmmsg, recvmmsg, setsockopt, sched_setaffinity, sched_getaffinity } = loadLibc({
  sendmmsg: { args: [i32, pointer, u32, i32], returns: i32 },
  recvmmsg: { args: [i32, pointer, u32, i32, pointer], returns: i32 },
  setsockopt: { args: [i32, i32, i32, pointer, u32], returns: i32 },
  sched_setaffinity: { args: [i32, u64, pointer], returns: i32 },
  sched_getaffinity: { args: [i32, u64, pointer], returns: i32 },
});

const AF_PACKET = 17;
const ETH_P_ALL_NETWORK = 0x0300;
const SOL_SOCKET = 1;
const SOL_PACKET = 263;
const SO_RCVBUFFORCE = 33;
const SO_SNDBUFFORCE = 32;
const PACKET_VNET_HDR = 15;
const PACKET_IGNORE_OUTGOING = 23;
const MSG_DONTWAIT = 0x40;
/** linux/if_tun.h */
const TUNSETIFF = 0x4004_54ca;
const IFF_TUN = 1;
const IFF_NO_PI = 0x1000;
const VNET_BYTES = 10;
const MESSAGE_BYTES = 64;
const BATCH = 64;
const MOST_BYTES = 66_000;

/** struct virtio_net_hdr, by the offsets of the IP packet. */
export interface Offload {
  /** The checksum is to be completed: where what it covers begins, and where it stands behind that. */
  readonly checksum?: readonly [start: number, offset: number];
  /** VIRTIO_NET_HDR_GSO_*: 1 TCPv4, 4 TCPv6, 5 UDP_L4; with the payload of each segment. */
  readonly gso?: { readonly type: number; readonly size: number; readonly header: number };
}

/** An IP packet, without the frame. */
export interface Frame {
  readonly bytes: Uint8Array;
  readonly offload?: Offload;
}

/** What an end of a link can do. */
export interface LinkEnd extends Disposable {
  send(frames: readonly Frame[]): void;
  /** What has come since. Does not wait. */
  receive(): Frame[];
}

/** A link without frames, whose other end is this process: the link is there for as long as it is open. */
export class TunnelEnd implements LinkEnd {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(MOST_BYTES);

  constructor(namespace: NetworkNamespace, name: string) {
    this.#fd = namespace.run(() => openSync("/dev/net/tun", constants.O_RDWR | constants.O_NONBLOCK));
    const request = new Uint8Array(40);
    request.set(new TextEncoder().encode(name));
    new DataView(request.buffer).setUint16(16, IFF_TUN | IFF_NO_PI, true);
    namespace.run(() => libc.ioctl(this.#fd, TUNSETIFF, request));
  }

  /** @param frames with whole checksums */
  send(frames: readonly Frame[]): void {
    for (const { bytes } of frames) writeSync(this.#fd, bytes);
  }

  receive(): Frame[] {
    const found: Frame[] = [];
    for (;;) {
      try {
        found.push({ bytes: this.#buffer.slice(0, readSync(this.#fd, this.#buffer)) });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "EAGAIN") return found;
        throw error;
      }
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/** Keeps this thread on one processor: only so is what it sends forwarded in the order of sending. */
export function stayOnOneProcessor(): Disposable {
  const before = new Uint8Array(128);
  sched_getaffinity(0, 128n, before);
  const first = new Uint8Array(128);
  const at = before.findIndex((byte) => byte !== 0);
  first[at] = before[at]! & -before[at]!;
  sched_setaffinity(0, 128n, first);
  return { [Symbol.dispose]: () => void sched_setaffinity(0, 128n, before) };
}

/** An end of a link. `frame`: the Ethernet addresses, to and from; absent on a link without frames. */
export class Wire implements LinkEnd {
  readonly #fd: number;
  readonly #head: Uint8Array | undefined;
  readonly #buffers = new Uint8Array(BATCH * MOST_BYTES);
  readonly #messages = new Uint8Array(BATCH * MESSAGE_BYTES);
  readonly #vectors = new BigUint64Array(BATCH * 2);

  constructor(
    namespace: NetworkNamespace,
    link: number,
    frame: { readonly to: string; readonly from: string } | undefined,
  ) {
    this.#fd = namespace.run(() => libc.socket(AF_PACKET, SOCK_RAW, 0));
    for (const [level, option, value] of [
      [SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20],
      [SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20],
      [SOL_PACKET, PACKET_VNET_HDR, 1],
      [SOL_PACKET, PACKET_IGNORE_OUTGOING, 1],
    ] as const) {
      if (setsockopt(this.#fd, level, option, Int32Array.of(value), 4) !== 0)
        throw new Error(`setsockopt ${option} of a packet socket failed`);
    }
    const address = new Uint8Array(20);
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_PACKET, true);
    view.setUint16(2, ETH_P_ALL_NETWORK, true);
    view.setUint32(4, link, true);
    libc.bind(this.#fd, address);
    this.#head =
      frame === undefined
        ? undefined
        : Uint8Array.from(
            [frame.to, frame.from].flatMap((mac) => mac.split(":").map((byte) => Number.parseInt(byte, 16))),
          );
    const base = BigInt(platform.addressOf(this.#buffers));
    const vectors = BigInt(platform.addressOf(this.#vectors));
    const messages = new DataView(this.#messages.buffer);
    for (let at = 0; at < BATCH; at++) {
      this.#vectors[at * 2] = base + BigInt(at * MOST_BYTES);
      messages.setBigUint64(at * MESSAGE_BYTES + 16, vectors + BigInt(at * 16), true);
      messages.setBigUint64(at * MESSAGE_BYTES + 24, 1n, true);
    }
  }

  send(frames: readonly Frame[]): void {
    for (let from = 0; from < frames.length; from += BATCH) {
      const some = frames.slice(from, from + BATCH);
      for (const [at, frame] of some.entries())
        this.#vectors[at * 2 + 1] = BigInt(this.#write(at * MOST_BYTES, frame));
      let sent = 0;
      while (sent < some.length) {
        const count = sendmmsg(
          this.#fd,
          this.#messages.subarray(sent * MESSAGE_BYTES),
          some.length - sent,
          0,
        );
        if (count <= 0)
          throw new Error(
            `a frame of ${some[sent]!.bytes.length} bytes was not sent: errno ${platform.errno()}, ${some[sent]!.bytes.toHex().slice(0, 200)} ${JSON.stringify(some[sent]!.offload)}`,
          );
        sent += count;
      }
    }
  }

  /** What has come since. Does not wait. */
  receive(): Frame[] {
    const found: Frame[] = [];
    for (;;) {
      for (let at = 0; at < BATCH; at++) this.#vectors[at * 2 + 1] = BigInt(MOST_BYTES);
      const count = recvmmsg(this.#fd, this.#messages, BATCH, MSG_DONTWAIT, null);
      if (count <= 0) return found;
      const messages = new DataView(this.#messages.buffer);
      for (let at = 0; at < count; at++)
        found.push(this.#read(at * MOST_BYTES, messages.getUint32(at * MESSAGE_BYTES + 56, true)));
      if (count < BATCH) return found;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #write(at: number, { bytes, offload }: Frame): number {
    const head = this.#head === undefined ? 0 : 14;
    this.#buffers.fill(0, at, at + VNET_BYTES);
    if (offload !== undefined) {
      const view = new DataView(this.#buffers.buffer, at);
      const { checksum, gso } = offload;
      if (checksum !== undefined) {
        view.setUint8(0, 1);
        view.setUint16(6, head + checksum[0], true);
        view.setUint16(8, checksum[1], true);
      }
      if (gso !== undefined) {
        view.setUint8(1, gso.type);
        view.setUint16(2, head + gso.header, true);
        view.setUint16(4, gso.size, true);
      }
    }
    if (this.#head !== undefined) {
      this.#buffers.set(this.#head, at + VNET_BYTES);
      this.#buffers.set(bytes[0]! >> 4 === 6 ? [0x86, 0xdd] : [8, 0], at + VNET_BYTES + 12);
    }
    this.#buffers.set(bytes, at + VNET_BYTES + head);
    return VNET_BYTES + head + bytes.length;
  }

  #read(at: number, length: number): Frame {
    const head = this.#head === undefined ? 0 : 14;
    const view = new DataView(this.#buffers.buffer, at);
    const bytes = this.#buffers.slice(at + VNET_BYTES + head, at + length);
    const type = view.getUint8(1);
    const partial = (view.getUint8(0) & 1) !== 0;
    if (type === 0 && !partial) return { bytes };
    return {
      bytes,
      offload: {
        ...(partial ? { checksum: [view.getUint16(6, true) - head, view.getUint16(8, true)] as const } : {}),
        ...(type === 0
          ? {}
          : { gso: { type, size: view.getUint16(4, true), header: view.getUint16(2, true) - head } }),
      },
    };
  }
}
