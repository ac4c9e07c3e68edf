/**
 * Seeing packets where they pass: AF_PACKET sockets (packet(7)) on the interfaces of one namespace. A tap changes
 * nothing on the node: it is not promiscuous, and it ends with its sockets.
 */
import { ARPHRD, ETH_P } from "../linux/link-layer.ts";
import {
  AF_PACKET,
  SOCK_RAW,
  SOL_SOCKET,
  SOL_PACKET,
  POLLIN,
  AF_INET,
  SOCK_DGRAM,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
} from "../linux/socket.ts";
import { close, closeSync } from "node:fs";
import * as libc from "./libc.ts";
import type { NetworkNamespace } from "./namespace.ts";
import { SystemError } from "../linux/errno.ts";
import { decodePacket } from "../linux/packet/decode.ts";
import { compilePacketFilter, packetTest, type PacketFilter } from "../linux/packet/filter.ts";
import { summaryOf, type LinkLayer, type DecodedPacket } from "../linux/packet/packet.ts";

/** include/uapi/linux/if_packet.h, if_ether.h, if_arp.h; include/uapi/asm-generic/socket.h */
const PACKET_STATISTICS = 6;
const SO_ATTACH_FILTER = 26;
const SO_TIMESTAMPNS = 64;
const SCM_TIMESTAMPNS = SO_TIMESTAMPNS;
const SO_TIMESTAMPNS_OLD = 35;
const SIOCGIFINDEX = 0x8933;
const SIZEOF_SOCKADDR_LL = 20;

/** How the frame met the interface (sll_pkttype): `out` was sent by this namespace, the others came in. */
export type PacketDirection = "host" | "broadcast" | "multicast" | "other-host" | "out";
const DIRECTIONS: readonly PacketDirection[] = ["host", "broadcast", "multicast", "other-host", "out"];

export interface CapturedPacket {
  /** The interface it was seen on. */
  readonly interface: string;
  readonly interfaceIndex: number;
  readonly direction: PacketDirection;
  /** The kernel's time stamp: microseconds since the epoch, with a fraction (a double keeps a quarter of one). A
   * frame is stamped once as it enters the node, and again at each interface that sends it. */
  readonly timeUs: number;
  readonly link: LinkLayer;
  /** The frame; cut off at the tap's `snapLength`. */
  readonly bytes: Uint8Array;
  /** Its length on the wire. */
  readonly length: number;
  readonly packet: DecodedPacket;
  /** The packet in one line. */
  readonly summary: string;
}

export interface TapOptions {
  /** Names of interfaces; all of the namespace when absent. */
  readonly interfaces?: readonly string[];
  readonly filter?: PacketFilter;
  /** Longest part of a frame that is kept, bytes. */
  readonly snapLength?: number;
  /** What the kernel may hold for each interface until it is read, bytes. More than that is lost, and counted. */
  readonly bufferBytes?: number;
}

const DEFAULT_SNAP_LENGTH = 65_535 + 64;
/** More than the default buffer holds. */
const MOST_PACKETS = 65_536;
const DEFAULT_BUFFER_BYTES = 8 * 1024 * 1024;

/** One capture in one namespace. Packets are kept from the moment `open` returns. */
export class PacketTap implements Disposable {
  readonly #names: Map<number, string>;
  #test: (packet: DecodedPacket) => boolean;
  readonly #room: libc.MessageRoom;
  readonly #poll: libc.PollEntry[];
  #fds: number[];
  #lost = 0;

  private constructor(fds: number[], names: Map<number, string>, filter: PacketFilter, snapLength: number) {
    this.#fds = fds;
    this.#names = names;
    this.#test = packetTest(filter);
    this.#room = new libc.MessageRoom(snapLength, SIZEOF_SOCKADDR_LL, 64);
    this.#poll = fds.map((fd) => ({ fd, events: POLLIN, revents: 0 }));
  }

  /**
   * @param namespace where to listen; the calling thread's own when undefined
   * @throws SystemError EPERM without CAP_NET_RAW there, ENODEV for an interface that does not exist
   */
  static open(namespace: NetworkNamespace | undefined, options: TapOptions = {}): PacketTap {
    const open = (): PacketTap => PacketTap.#openHere(options);
    return namespace === undefined ? open() : namespace.run(open);
  }

  static #openHere(options: TapOptions): PacketTap {
    const snapLength = options.snapLength ?? DEFAULT_SNAP_LENGTH;
    const filter = options.filter ?? [];
    const program = compilePacketFilter(filter, snapLength);
    const fds: number[] = [];
    const names = new Map<number, string>();
    try {
      for (const name of options.interfaces ?? [undefined]) {
        const fd = libc.socket(AF_PACKET, SOCK_RAW, 0);
        fds.push(fd);
        const index = name === undefined ? 0 : interfaceIndex(fd, name);
        if (name !== undefined) names.set(index, name);
        prepareSocket(fd, program, options.bufferBytes ?? DEFAULT_BUFFER_BYTES);
        libc.bind(fd, linkAddress(index));
      }
    } catch (error) {
      for (const fd of fds) closeSync(fd);
      throw error;
    }
    return new PacketTap(fds, names, filter, snapLength);
  }

  /** What poll(2) needs to wait for several taps and other sockets together. */
  get fds(): readonly number[] {
    return this.#fds;
  }

  /**
   * What was seen since the last call, in the order of time; waits up to `timeoutMs` for the first.
   * @param most of each interface: packets may come faster than they are read
   */
  read(timeoutMs = 0, most = MOST_PACKETS): CapturedPacket[] {
    let packets = this.#drain(most);
    if (packets.length > 0 || timeoutMs === 0) return packets;
    const deadline = performance.now() + timeoutMs;
    for (let left = timeoutMs; packets.length === 0 && left > 0; left = deadline - performance.now()) {
      libc.poll(this.#poll, Math.ceil(left));
      packets = this.#drain(most);
    }
    return packets;
  }

  /** Lets less through from now on; what waits to be read already is tested again, too. */
  narrow(filter: PacketFilter): void {
    const program = compilePacketFilter(filter, this.#room.data.length);
    for (const fd of this.#fds) attachFilter(fd, program);
    this.#test = packetTest(filter);
  }

  /** How many packets the kernel had to drop because they were not read in time. */
  lost(): number {
    for (const fd of this.#fds) {
      // struct tpacket_stats {tp_packets, tp_drops}; reading it starts it again from zero.
      const statistics = libc.getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, 8);
      this.#lost += new DataView(statistics.buffer).getUint32(4, true);
    }
    return this.#lost;
  }

  /** The kernel lets go of a packet socket only after an RCU period, some milliseconds: an I/O thread waits for it. */
  close(): void {
    for (const fd of this.#fds) close(fd);
    this.#fds = [];
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #drain(most: number): CapturedPacket[] {
    const packets: CapturedPacket[] = [];
    for (const fd of this.#fds) {
      for (let count = 0; count < most; count++) {
        const captured = this.#receive(fd);
        if (captured === undefined) break;
        if (this.#test(captured.packet)) packets.push(captured);
      }
    }
    return this.#fds.length === 1 ? packets : packets.sort((a, b) => a.timeUs - b.timeUs);
  }

  #receive(fd: number): CapturedPacket | undefined {
    const length = this.#receiveNow(fd);
    if (length === undefined) return undefined;
    const address = new DataView(this.#room.name.buffer);
    const index = address.getInt32(4, true);
    const hardware = address.getUint16(8, true);
    const link = hardware === ARPHRD.ether || hardware === ARPHRD.loopback ? "ethernet" : "raw";
    const bytes = this.#room.data.slice(0, Math.min(length, this.#room.data.length));
    const packet = decodePacket(bytes, link);
    return {
      interface: this.#nameOf(fd, index),
      interfaceIndex: index,
      direction: DIRECTIONS[this.#room.name[10]!] ?? "other-host",
      timeUs: readTimestamp(this.#room),
      link,
      bytes,
      length,
      packet,
      // Put into words only on request.
      get summary() {
        return summaryOf(packet);
      },
    };
  }

  /** An interface that goes down says so once (ENETDOWN) and may come back: the tap lives on. */
  #receiveNow(fd: number): number | undefined {
    try {
      return libc.recvmsg(fd, this.#room);
    } catch (error) {
      if (error instanceof SystemError && error.code === "ENETDOWN") return libc.recvmsg(fd, this.#room);
      throw error;
    }
  }

  #nameOf(fd: number, index: number): string {
    let name = this.#names.get(index);
    if (name === undefined) {
      name = interfaceName(fd, index) ?? `if${index}`;
      this.#names.set(index, name);
    }
    return name;
  }
}

/**
 * Asks the kernel for time stamps ahead of the first tap. It switches them on for everybody from a work queue, soon
 * after the first socket wants them; packets before that are stamped only when they are read.
 */
export function requestTimestamps(): Disposable {
  const fd = libc.socket(AF_INET, SOCK_DGRAM, 0);
  libc.setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
  return { [Symbol.dispose]: () => closeSync(fd) };
}

/** Waits until one of the taps, or of the other descriptors, has something to read. */
export function waitForPackets(
  taps: readonly PacketTap[],
  timeoutMs: number,
  others: readonly number[] = [],
): boolean {
  const fds = [...taps.flatMap((tap) => tap.fds), ...others];
  return (
    libc.poll(
      fds.map((fd) => ({ fd, events: POLLIN, revents: 0 })),
      timeoutMs,
    ) > 0
  );
}

/** Replaces the filter that was there. */
function attachFilter(fd: number, program: Uint8Array): void {
  // struct sock_fprog: count, padding, pointer. The kernel copies the program.
  const description = new Uint8Array(16);
  const view = new DataView(description.buffer);
  view.setUint16(0, program.length / 8, true);
  view.setBigUint64(8, libc.pointerTo(program), true);
  libc.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, description);
}

/** Filter before bind: a socket of protocol 0 receives nothing, so no packet slips past the filter. */
function prepareSocket(fd: number, program: Uint8Array, bufferBytes: number): void {
  attachFilter(fd, program);
  try {
    libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, bufferBytes);
  } catch {
    // Past net.core.rmem_max only with CAP_NET_ADMIN in the first user namespace.
    libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, bufferBytes);
  }
  libc.setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
}

/** struct sockaddr_ll. */
function linkAddress(index: number): Uint8Array {
  const address = new Uint8Array(SIZEOF_SOCKADDR_LL);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_PACKET, true);
  view.setUint16(2, ETH_P.all);
  view.setInt32(4, index, true);
  return address;
}

/** struct ifreq: 16 bytes of name, then a union. */
function interfaceIndex(fd: number, name: string): number {
  const request = new Uint8Array(40);
  request.set(Buffer.from(name).subarray(0, 15));
  try {
    libc.ioctl(fd, SIOCGIFINDEX, request);
  } catch (error) {
    throw error instanceof SystemError ? new SystemError("SIOCGIFINDEX", error.errno, name) : error;
  }
  return new DataView(request.buffer).getInt32(16, true);
}

function interfaceName(fd: number, index: number): string | undefined {
  const SIOCGIFNAME = 0x8910;
  const request = new Uint8Array(40);
  new DataView(request.buffer).setInt32(16, index, true);
  try {
    libc.ioctl(fd, SIOCGIFNAME, request);
  } catch {
    return undefined;
  }
  return Buffer.from(request.subarray(0, 16)).toString().replace(/\0.*$/s, "");
}

/** struct cmsghdr {len 8, level 4, type 4}, then struct timespec of two 64-bit numbers. */
function readTimestamp(room: libc.MessageRoom): number {
  const view = new DataView(room.control.buffer);
  for (let at = 0; at + 16 <= room.controlLength;) {
    const length = Number(view.getBigUint64(at, true));
    const level = view.getInt32(at + 8, true);
    const type = view.getInt32(at + 12, true);
    if (level === SOL_SOCKET && (type === SCM_TIMESTAMPNS || type === SO_TIMESTAMPNS_OLD)) {
      const seconds = Number(view.getBigInt64(at + 16, true));
      const nanoseconds = Number(view.getBigInt64(at + 24, true));
      return seconds * 1e6 + nanoseconds / 1000;
    }
    if (length < 16) break;
    at += (length + 7) & ~7;
  }
  // The kernel stamps every packet of a socket that asked for it.
  return libc.clockUs(0);
}
