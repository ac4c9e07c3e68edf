/**
 * Why the kernel itself dropped a packet: a small program on the tracepoint skb:kfree_skb (raw, so that it works on
 * any kernel since 5.17), which notes the reason for packets from or to a few addresses. Root of the machine only.
 */
import { closeSync } from "node:fs";
import { familyOf, ipBytes } from "../../address/ip.ts";
import { clockUs } from "../libc.ts";
import { decodePacket } from "../../linux/packet/decode.ts";
import { summaryOf, type DecodedPacket } from "../../linux/packet/packet.ts";
import { Assembler, FRAME } from "../../linux/bpf/instructions.ts";
import { Btf } from "./btf.ts";
import { kernelLayout, REASONS, type Offsets } from "./layout.ts";
import { attachRawTracepoint, BpfQueue } from "./loader.ts";

/** A packet that ended in the kernel. */
export interface KernelDrop {
  /** Name of the number in enum skb_drop_reason, without its prefix: "NETFILTER_DROP", "IP_RPFILTER". */
  readonly reason: string;
  /** Microseconds since the epoch, on the clock of packet time stamps. */
  readonly timeUs: number;
  /** The device the packet belonged to then; 0 when none. */
  readonly interfaceIndex: number;
  /** Inode number of that device's network namespace; 0 when there was no device. */
  readonly namespaceInode: number;
  /** Address of the instruction that freed it, for /proc/kallsyms. */
  readonly location: bigint;
  /** The kernel's function that it lies in, where it was asked for (kernelFunctionAt). */
  readonly function?: string;
  readonly packet: DecodedPacket;
  readonly summary: string;
}

/** Where the fields of an event stand, in bytes. `packet` begins with the IP header. */
const EVENT = { time: 0, location: 8, reason: 16, ifindex: 20, namespace: 24, packet: 32 } as const;
const PACKET_BYTES = 96;
const EVENT_BYTES = EVENT.packet + PACKET_BYTES;
/** On the frame: the event, below it room for pointers and numbers on the way. */
const EVENT_AT = -EVENT_BYTES;
const SCRATCH_AT = EVENT_AT - 16;
const CLOCK_REALTIME = 0;
const CLOCK_MONOTONIC = 1;
const QUEUE_ENTRIES = 1024;

const NO_REASONS =
  "this kernel has none: they came with Linux 5.17, and their names are read from its BTF (/sys/kernel/btf/vmlinux)";

/** Notes drops from `open` to `close`. */
export class DropWatch implements Disposable {
  /** Microseconds from the epoch to the zero of the monotonic clock, which BPF reads. */
  readonly #epochUs = clockUs(CLOCK_REALTIME) - clockUs(CLOCK_MONOTONIC);

  private constructor(
    readonly queue: BpfQueue,
    readonly link: number,
    readonly reasons: Readonly<Record<number, string>>,
  ) {}

  /**
   * @param addresses only packets whose source or destination is one of these
   * @throws Error where the kernel has no reasons at all; SystemError EPERM when this user may not load BPF;
   *   VerifierError
   */
  static open(addresses: readonly string[]): DropWatch {
    try {
      return DropWatch.#attach(addresses);
    } catch (error) {
      if (Btf.kernelHas(REASONS)) throw error;
      throw new Error(NO_REASONS, { cause: error });
    }
  }

  static #attach(addresses: readonly string[]): DropWatch {
    // First what a user without the right is refused: reading the kernel's types takes longer.
    const queue = BpfQueue.create("wayout_drops", EVENT_BYTES, QUEUE_ENTRIES);
    try {
      const { offsets, reasons } = kernelLayout();
      const program = dropProgram(offsets, addresses, queue.fd);
      return new DropWatch(queue, attachRawTracepoint("kfree_skb", "wayout_drops", program), reasons);
    } catch (error) {
      queue[Symbol.dispose]();
      throw error;
    }
  }

  /** The drops noted since the last call, in order. */
  read(): KernelDrop[] {
    const drops: KernelDrop[] = [];
    for (let event = this.queue.pop(); event !== undefined; event = this.queue.pop())
      drops.push(this.#decode(event));
    return drops;
  }

  close(): void {
    closeSync(this.link);
    this.queue[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #decode(event: Uint8Array): KernelDrop {
    const view = new DataView(event.buffer);
    const number = view.getUint32(EVENT.reason, true);
    const packet = decodePacket(event.subarray(EVENT.packet), "raw");
    return {
      reason: this.reasons[number]?.replace(/^SKB_(DROP_REASON_)?/, "") ?? `reason ${number}`,
      timeUs: this.#epochUs + Number(view.getBigUint64(EVENT.time, true)) / 1000,
      interfaceIndex: view.getUint32(EVENT.ifindex, true),
      namespaceInode: view.getUint32(EVENT.namespace, true),
      location: view.getBigUint64(EVENT.location, true),
      packet,
      summary: summaryOf(packet),
    };
  }
}

/**
 * void on_kfree_skb(struct sk_buff *skb, void *location, enum skb_drop_reason reason): reads the first bytes from the
 * network header on, compares the addresses, reads where it happened, and pushes the event.
 */
function dropProgram(offsets: Offsets, addresses: readonly string[], queue: number): Uint8Array {
  const program = new Assembler();
  const packet = EVENT_AT + EVENT.packet;
  // r6 = skb, r7 = location, r8 = reason: the tracepoint's arguments, eight bytes each.
  program.load(6, 1, 0, 8).load(7, 1, 8, 8).load(8, 1, 16, 8);
  // r9 = skb->head + skb->network_header
  program.readKernel(SCRATCH_AT, 8, 6, offsets.head).load(9, FRAME, SCRATCH_AT, 8);
  program.readKernel(SCRATCH_AT, 2, 6, offsets.networkHeader).load(1, FRAME, SCRATCH_AT, 2).add(9, 1);
  program.readKernel(packet, PACKET_BYTES, 9, 0);
  writeAddressTest(program, packet, addresses);
  program.label("ours");
  program.call("ktime_get_ns").store(FRAME, EVENT_AT + EVENT.time, 0, 8);
  program.store(FRAME, EVENT_AT + EVENT.location, 7, 8).store(FRAME, EVENT_AT + EVENT.reason, 8, 4);
  // r9 = skb->dev; its index, its namespace's number. Without a device all of it reads as zero.
  program.readKernel(SCRATCH_AT, 8, 6, offsets.device).load(9, FRAME, SCRATCH_AT, 8);
  program.readKernel(EVENT_AT + EVENT.ifindex, 4, 9, offsets.ifindex);
  program.readKernel(SCRATCH_AT, 8, 9, offsets.net).load(9, FRAME, SCRATCH_AT, 8);
  program.readKernel(EVENT_AT + EVENT.namespace, 4, 9, offsets.inum);
  program.storeValue(FRAME, EVENT_AT + EVENT.namespace + 4, 0, 4);
  program.set(3, 0).pointer(2, FRAME, EVENT_AT).map(1, queue).call("map_push_elem");
  program.label("end").set(0, 0).exit();
  return program.assemble();
}

/** Goes to "ours" when an end of the packet is one of the addresses, else to "end". */
function writeAddressTest(program: Assembler, packet: number, addresses: readonly string[]): void {
  program.load(1, FRAME, packet, 1).and(1, 0xf0);
  program.jumpIfEqual(1, 0x60, "version 6").jumpIfNotEqual(1, 0x40, "end");
  const compare = (address: string, field: number, label: string): void => {
    const bytes = ipBytes(address);
    const words = new DataView(bytes.buffer);
    for (let at = 0; at < bytes.length; at += 4) {
      program.load(1, FRAME, packet + field + at, 4).jumpIfNotEqual(1, words.getInt32(at, true), label);
    }
    program.jump("ours").label(label);
  };
  for (const address of addresses.filter((text) => familyOf(text) === 4)) {
    compare(address, 12, `not from ${address}`);
    compare(address, 16, `not to ${address}`);
  }
  program.jump("end").label("version 6");
  for (const address of addresses.filter((text) => familyOf(text) === 6)) {
    compare(address, 8, `not from ${address}`);
    compare(address, 24, `not to ${address}`);
  }
  program.jump("end");
}
