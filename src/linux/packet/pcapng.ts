/**
 * Captured frames as a pcapng file (draft-ietf-opsawg-pcapng), which Wireshark and tcpdump open. Pure. One
 * interface block for every place a frame was seen at, named "namespace/interface".
 */
import { align4, Writer } from "../netlink/wire.ts";
import type { LinkLayer } from "./packet.ts";

export interface PcapFrame {
  /** Where it was seen: "node/br0". */
  readonly place: string;
  readonly link: LinkLayer;
  /** Microseconds since the epoch; fractions count. */
  readonly timeUs: number;
  readonly bytes: Uint8Array;
  /** Length on the wire; more than `bytes` holds when the frame was cut off. */
  readonly length: number;
  readonly direction: "in" | "out";
  /** A word about it, shown by Wireshark. */
  readonly comment?: string;
}

const SECTION_HEADER = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION = 1;
const ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b_3c4d;
const LINKTYPE = { ethernet: 1, raw: 101 } as const;
const OPT_COMMENT = 1;
const SHB_USERAPPL = 4;
const IF_NAME = 2;
const IF_TSRESOL = 9;
const EPB_FLAGS = 2;
/** libpcap refuses a file whose interfaces differ in it: one value for all, the largest that it takes. */
const SNAP_LENGTH = 262_144;

/** The whole file. Frames are written in the order given. */
export function writePcapng(frames: readonly PcapFrame[], application: string): Uint8Array {
  const writer = new Writer(4096);
  block(writer, SECTION_HEADER, () => {
    u32(writer, BYTE_ORDER_MAGIC);
    u16(writer, 1);
    u16(writer, 0);
    // Section length unknown: -1.
    u32(writer, 0xffff_ffff);
    u32(writer, 0xffff_ffff);
    option(writer, SHB_USERAPPL, Buffer.from(application));
    endOfOptions(writer);
  });
  const interfaces = new Map<string, number>();
  for (const frame of frames) {
    const key = `${frame.place} ${frame.link}`;
    if (!interfaces.has(key)) {
      interfaces.set(key, interfaces.size);
      writeInterface(writer, frame);
    }
    writeFrame(writer, frame, interfaces.get(key)!);
  }
  return writer.done().slice();
}

function writeInterface(writer: Writer, frame: PcapFrame): void {
  block(writer, INTERFACE_DESCRIPTION, () => {
    u16(writer, LINKTYPE[frame.link]);
    u16(writer, 0);
    u32(writer, SNAP_LENGTH);
    option(writer, IF_NAME, Buffer.from(frame.place));
    // Time stamps in units of 10^-9 seconds.
    option(writer, IF_TSRESOL, Uint8Array.of(9));
    endOfOptions(writer);
  });
}

function writeFrame(writer: Writer, frame: PcapFrame, interfaceId: number): void {
  const wholeUs = Math.floor(frame.timeUs);
  const timeNs = BigInt(wholeUs) * 1000n + BigInt(Math.round((frame.timeUs - wholeUs) * 1000));
  block(writer, ENHANCED_PACKET, () => {
    u32(writer, interfaceId);
    u32(writer, Number(timeNs >> 32n));
    u32(writer, Number(timeNs & 0xffff_ffffn));
    u32(writer, frame.bytes.length);
    u32(writer, frame.length);
    writer.append(frame.bytes);
    writer.align();
    if (frame.comment !== undefined) option(writer, OPT_COMMENT, Buffer.from(frame.comment));
    // Bits 0 and 1: 01 inbound, 10 outbound.
    option(writer, EPB_FLAGS, Uint8Array.of(frame.direction === "in" ? 1 : 2, 0, 0, 0));
    endOfOptions(writer);
  });
}

/** A block says its length before and after its body. */
function block(writer: Writer, type: number, body: () => void): void {
  u32(writer, type);
  const lengthAt = writer.reserve(4);
  body();
  const length = writer.length - lengthAt + 8;
  writer.view.setUint32(lengthAt, length, true);
  u32(writer, length);
}

function option(writer: Writer, code: number, value: Uint8Array): void {
  u16(writer, code);
  u16(writer, value.length);
  writer.append(value);
  writer.reserve(align4(value.length) - value.length);
}

function endOfOptions(writer: Writer): void {
  u32(writer, 0);
}

function u16(writer: Writer, value: number): void {
  const at = writer.reserve(2);
  writer.view.setUint16(at, value, true);
}

function u32(writer: Writer, value: number): void {
  const at = writer.reserve(4);
  writer.view.setUint32(at, value, true);
}
