/**
 * Reads entries of large tables without making an object of each: one EntryScan is pointed at message after message.
 * Its numbers all come from the attribute tables, and test/kernel/conntrack/scan.test.ts holds it to their decoder.
 */
import { attributeLength, NLA_HDRLEN, NLA_TYPE_MASK } from "../netlink/attributes.ts";
import { decode, type RawMessage } from "../netlink/message.ts";
import { nfgenmsg } from "../netlink/nfnetlink.ts";
import { NFPROTO } from "../netfilter.ts";
import { DecodeError, type Wire } from "../netlink/wire.ts";
import { cta, ctaCounters, ctaHelp, ctaIp, ctaProto, ctaProtoinfo, ctaProtoinfoTcp } from "./attributes.ts";
import { ctaTimestamp, ctaTuple, IPCTNL_MSG_CT_NEW } from "./attributes.ts";
import { conntrackEntry, type ConntrackEntry } from "./entry.ts";

const HEADER = nfgenmsg.size;

const ORIGINAL = cta.table.original.number;
const REPLY = cta.table.reply.number;
const STATUS = cta.table.status.number;
const PROTOINFO = cta.table.protoinfo.number;
const HELP = cta.table.help.number;
const TIMEOUT = cta.table.timeout.number;
const MARK = cta.table.mark.number;
const COUNTERS_ORIGINAL = cta.table.countersOriginal.number;
const COUNTERS_REPLY = cta.table.countersReply.number;
const ID = cta.table.id.number;
const ZONE = cta.table.zone.number;
const TIMESTAMP = cta.table.timestamp.number;
const LABELS = cta.table.labels.number;

const TUPLE_IP = ctaTuple.table.ip.number;
const TUPLE_PROTO = ctaTuple.table.proto.number;
const TUPLE_ZONE = ctaTuple.table.zone.number;

const V4_SOURCE = ctaIp.table.v4Source.number;
const V4_DESTINATION = ctaIp.table.v4Destination.number;
const V6_SOURCE = ctaIp.table.v6Source.number;
const V6_DESTINATION = ctaIp.table.v6Destination.number;

const PROTO_NUM = ctaProto.table.number.number;
const SOURCE_PORT = ctaProto.table.sourcePort.number;
const DESTINATION_PORT = ctaProto.table.destinationPort.number;
const ICMP_ID = ctaProto.table.icmpId.number;
const ICMP_TYPE = ctaProto.table.icmpType.number;
const ICMP_CODE = ctaProto.table.icmpCode.number;
const ICMPV6_ID = ctaProto.table.icmpv6Id.number;
const ICMPV6_TYPE = ctaProto.table.icmpv6Type.number;
const ICMPV6_CODE = ctaProto.table.icmpv6Code.number;

// The state is number 1 in all three of CTA_PROTOINFO_{TCP,DCCP,SCTP}.
const PROTOINFO_STATE = ctaProtoinfoTcp.table.state.number;
const PROTOINFO_KINDS = [ctaProtoinfo.table.tcp, ctaProtoinfo.table.dccp, ctaProtoinfo.table.sctp].map(
  (attribute) => attribute.number,
);
const HELP_NAME = ctaHelp.table.name.number;
const PACKETS = ctaCounters.table.packets.number;
const BYTES = ctaCounters.table.bytes.number;
const TIMESTAMP_START = ctaTimestamp.table.start.number;

/** One direction of the entry that a scan points at. -1 stands for what is absent. */
export class TupleScan {
  /** Where the addresses begin in the wire. */
  source = -1;
  destination = -1;
  protocol = -1;
  /** The source port, or the id of an ICMP query. */
  sourcePort = -1;
  destinationPort = -1;
  icmpType = -1;
  icmpCode = -1;
  zone = -1;

  clear(): void {
    this.source = -1;
    this.destination = -1;
    this.protocol = -1;
    this.sourcePort = -1;
    this.destinationPort = -1;
    this.icmpType = -1;
    this.icmpCode = -1;
    this.zone = -1;
  }

  read(wire: Wire, start: number, end: number): void {
    const { view } = wire;
    for (let at = start; at < end;) {
      const length = attributeEnd(wire, at, end);
      switch (view.getUint16(at + 2, true) & NLA_TYPE_MASK) {
        case TUPLE_IP:
          this.#readAddresses(wire, at + NLA_HDRLEN, at + length);
          break;
        case TUPLE_PROTO:
          this.#readProtocol(wire, at + NLA_HDRLEN, at + length);
          break;
        case TUPLE_ZONE:
          this.zone = number16(wire, at, length);
          break;
      }
      at += (length + 3) & ~3;
    }
  }

  #readAddresses(wire: Wire, start: number, end: number): void {
    const { view } = wire;
    for (let at = start; at < end;) {
      const length = attributeEnd(wire, at, end);
      switch (view.getUint16(at + 2, true) & NLA_TYPE_MASK) {
        case V4_SOURCE:
          this.source = bytesOf(at, length, 4);
          break;
        case V4_DESTINATION:
          this.destination = bytesOf(at, length, 4);
          break;
        case V6_SOURCE:
          this.source = bytesOf(at, length, 16);
          break;
        case V6_DESTINATION:
          this.destination = bytesOf(at, length, 16);
          break;
      }
      at += (length + 3) & ~3;
    }
  }

  #readProtocol(wire: Wire, start: number, end: number): void {
    const { view } = wire;
    for (let at = start; at < end;) {
      const length = attributeEnd(wire, at, end);
      switch (view.getUint16(at + 2, true) & NLA_TYPE_MASK) {
        case PROTO_NUM:
          this.protocol = number8(wire, at, length);
          break;
        case SOURCE_PORT:
        case ICMP_ID:
        case ICMPV6_ID:
          this.sourcePort = number16(wire, at, length);
          break;
        case DESTINATION_PORT:
          this.destinationPort = number16(wire, at, length);
          break;
        case ICMP_TYPE:
        case ICMPV6_TYPE:
          this.icmpType = number8(wire, at, length);
          break;
        case ICMP_CODE:
        case ICMPV6_CODE:
          this.icmpCode = number8(wire, at, length);
          break;
      }
      at += (length + 3) & ~3;
    }
  }
}

/** The entry of one message. Valid until it is pointed at the next; -1 stands for what is absent. */
export class EntryScan {
  wire!: Wire;
  /** Where the message's payload (struct nfgenmsg) begins and ends. */
  start = 0;
  end = 0;
  family: 4 | 6 = 4;
  readonly original = new TupleScan();
  readonly reply = new TupleScan();
  status = 0;
  /** Number of the protocol's state. */
  state = -1;
  timeoutSeconds = -1;
  mark = 0;
  zone = 0;
  id = 0;
  hasCounters = false;
  originalPackets = 0;
  originalBytes = 0;
  replyPackets = 0;
  replyBytes = 0;
  startedAtMs = -1;
  /** The helper's name in the wire, without its NUL. */
  helperStart = -1;
  helperEnd = -1;
  labelsStart = -1;
  labelsEnd = -1;

  /** Reads the message's attributes. @throws DecodeError */
  point(wire: Wire, start: number, end: number): void {
    this.#clear(wire, start, end);
    const { view } = wire;
    if (end - start < HEADER) throw new DecodeError("nfgenmsg", `${end - start} bytes are too few`);
    this.family = wire.bytes[start] === NFPROTO.ipv6 ? 6 : 4;
    for (let at = start + HEADER; at < end;) {
      const length = attributeEnd(wire, at, end);
      switch (view.getUint16(at + 2, true) & NLA_TYPE_MASK) {
        case ORIGINAL:
          this.original.read(wire, at + NLA_HDRLEN, at + length);
          break;
        case REPLY:
          this.reply.read(wire, at + NLA_HDRLEN, at + length);
          break;
        case STATUS:
          this.status = number32(wire, at, length);
          break;
        case MARK:
          this.mark = number32(wire, at, length);
          break;
        case ID:
          this.id = number32(wire, at, length);
          break;
        case TIMEOUT:
          this.timeoutSeconds = number32(wire, at, length);
          break;
        case PROTOINFO:
          this.#readProtoinfo(wire, at + NLA_HDRLEN, at + length);
          break;
        default:
          this.#readExtension(wire, at, length);
      }
      at += (length + 3) & ~3;
    }
    if (this.original.source < 0 || this.original.destination < 0 || this.original.protocol < 0) {
      throw new DecodeError(cta.table.original.name, "lacks an address or the protocol");
    }
    if (this.reply.source < 0 || this.reply.destination < 0 || this.reply.protocol < 0) {
      throw new DecodeError(cta.table.reply.name, "lacks an address or the protocol");
    }
  }

  /**
   * Tells entries apart. The kernel's id alone does not: it is a hash of 32 bits, so that of 100 000 entries two have
   * the same more often than not. Here 21 bits of the original tuple stand behind it, as much as a number can hold.
   */
  get key(): number {
    const { source, destination, sourcePort, destinationPort } = this.original;
    const { view } = this.wire;
    const last = this.family === 4 ? 0 : 12;
    let hash = Math.imul(view.getInt32(source + last, true), 0x9e37_79b1);
    hash = Math.imul(hash ^ view.getInt32(destination + last, true), 0x85eb_ca6b);
    hash = Math.imul(hash ^ ((sourcePort << 16) | (destinationPort & 0xffff)), 0xc2b2_ae35);
    return this.id * 0x20_0000 + (hash >>> 11);
  }

  /** The entry as a value, by the attribute tables. */
  entry(): ConntrackEntry {
    const { wire, start, end } = this;
    const raw: RawMessage = {
      type: IPCTNL_MSG_CT_NEW.type,
      flags: 0,
      sequence: 0,
      portId: 0,
      wire,
      start,
      end,
    };
    return conntrackEntry(decode(IPCTNL_MSG_CT_NEW, raw));
  }

  #clear(wire: Wire, start: number, end: number): void {
    this.wire = wire;
    this.start = start;
    this.end = end;
    this.original.clear();
    this.reply.clear();
    this.status = 0;
    this.state = -1;
    this.timeoutSeconds = -1;
    this.mark = 0;
    this.zone = 0;
    this.id = 0;
    this.hasCounters = false;
    this.originalPackets = 0;
    this.originalBytes = 0;
    this.replyPackets = 0;
    this.replyBytes = 0;
    this.startedAtMs = -1;
    this.helperStart = -1;
    this.helperEnd = -1;
    this.labelsStart = -1;
    this.labelsEnd = -1;
  }

  /** Attributes that few entries have. */
  #readExtension(wire: Wire, at: number, length: number): void {
    const start = at + NLA_HDRLEN;
    const end = at + length;
    switch (wire.view.getUint16(at + 2, true) & NLA_TYPE_MASK) {
      case ZONE:
        this.zone = number16(wire, at, length);
        break;
      case COUNTERS_ORIGINAL:
        this.hasCounters = true;
        this.originalPackets = number64In(wire, start, end, PACKETS);
        this.originalBytes = number64In(wire, start, end, BYTES);
        break;
      case COUNTERS_REPLY:
        this.hasCounters = true;
        this.replyPackets = number64In(wire, start, end, PACKETS);
        this.replyBytes = number64In(wire, start, end, BYTES);
        break;
      case TIMESTAMP: {
        const at64 = find(wire, start, end, TIMESTAMP_START);
        if (at64 >= 0) this.startedAtMs = Number(wire.view.getBigUint64(at64, false) / 1000n) / 1000;
        break;
      }
      case HELP: {
        const name = find(wire, start, end, HELP_NAME);
        if (name < 0) break;
        this.helperStart = name;
        const nameEnd = name - NLA_HDRLEN + wire.view.getUint16(name - NLA_HDRLEN, true);
        this.helperEnd = name;
        while (this.helperEnd < nameEnd && wire.bytes[this.helperEnd] !== 0) this.helperEnd++;
        break;
      }
      case LABELS:
        this.labelsStart = start;
        this.labelsEnd = end;
        break;
    }
  }

  #readProtoinfo(wire: Wire, start: number, end: number): void {
    for (const kind of PROTOINFO_KINDS) {
      const inner = find(wire, start, end, kind);
      if (inner < 0) continue;
      const innerEnd = inner - NLA_HDRLEN + wire.view.getUint16(inner - NLA_HDRLEN, true);
      const state = find(wire, inner, innerEnd, PROTOINFO_STATE);
      if (state >= 0)
        this.state = number8(wire, state - NLA_HDRLEN, wire.view.getUint16(state - NLA_HDRLEN, true));
      return;
    }
  }
}

/** attributeLength, with the check that all attributes pass kept small. @throws DecodeError */
function attributeEnd(wire: Wire, at: number, end: number): number {
  if (end - at >= NLA_HDRLEN) {
    const length = wire.view.getUint16(at, true);
    if (length >= NLA_HDRLEN && at + length <= end) return length;
  }
  return attributeLength(wire, at, end);
}

/** Where the payload of the attribute with that number begins; -1 when there is none. */
function find(wire: Wire, start: number, end: number, number: number): number {
  for (let at = start; at < end;) {
    const length = attributeEnd(wire, at, end);
    if ((wire.view.getUint16(at + 2, true) & NLA_TYPE_MASK) === number) return at + NLA_HDRLEN;
    at += (length + 3) & ~3;
  }
  return -1;
}

function number64In(wire: Wire, start: number, end: number, number: number): number {
  const at = find(wire, start, end, number);
  if (at < 0) return 0;
  needBytes(at - NLA_HDRLEN, wire.view.getUint16(at - NLA_HDRLEN, true), 8);
  return wire.view.getUint32(at, false) * 2 ** 32 + wire.view.getUint32(at + 4, false);
}

function number8(wire: Wire, at: number, length: number): number {
  needBytes(at, length, 1);
  return wire.bytes[at + NLA_HDRLEN]!;
}

function number16(wire: Wire, at: number, length: number): number {
  needBytes(at, length, 2);
  return wire.view.getUint16(at + NLA_HDRLEN, false);
}

function number32(wire: Wire, at: number, length: number): number {
  needBytes(at, length, 4);
  return wire.view.getUint32(at + NLA_HDRLEN, false);
}

function bytesOf(at: number, length: number, size: number): number {
  needBytes(at, length, size);
  return at + NLA_HDRLEN;
}

function needBytes(at: number, length: number, size: number): void {
  if (length < NLA_HDRLEN + size) {
    throw new DecodeError(
      `the attribute at ${at}`,
      `${length - NLA_HDRLEN} bytes are too few (${size} are needed)`,
    );
  }
}
