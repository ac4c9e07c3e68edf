import { visible } from "../text/visible.ts";
import type { EntryScan, TupleScan } from "../linux/conntrack/scan.ts";
import { IPS, stateName } from "../linux/conntrack/status.ts";
import { IP_PROTOCOL, protocolName } from "../linux/ip-protocol.ts";
import { ipBytes, ipText } from "../address/ip.ts";
import {
  decimalLength,
  phrase,
  writeAddress,
  writeBytes,
  writeDecimal,
  writePhrase,
  type Phrase,
} from "./byte-text.ts";
import { ageSeconds, columnText, LINE_FLAGS, TIMEOUT_WIDTH, type FlowLineContext } from "./flow-line.ts";
import { flowState, type PodIndex } from "./flow.ts";
import { present } from "../present.ts";

/** Room that every line may need, without pod names, helpers and labels. */
const LINE_BYTES = 1024;
/** A label bit's number and its comma. */
const LABEL_BIT_BYTES = 5;
const DEFAULT_BUFFER_BYTES = 256 * 1024;

const ARROW = phrase(" → ");
const BOTH_WAYS = phrase(" ↔ ");
const TYPE = phrase(" type ");
const CODE = phrase(" code ");
const SENT = phrase(" ↑");
const RECEIVED = phrase(" ↓");
const BYTES = phrase("B");
const AGE = phrase(" age=");
const POD = phrase(" pod=");
const UNREPLIED = phrase(" unreplied");
const ASSURED = phrase(" assured");
const MARK = phrase(" mark=");
const ZONE = phrase(" zone=");
const ZONE_ORIGINAL = phrase(" zone-orig=");
const ZONE_REPLY = phrase(" zone-reply=");
const HELPER = phrase(" helper=");
const LABELS = phrase(" labels=");
const FLAG_PHRASES = LINE_FLAGS.map(([bit, name]) => [bit, phrase(` ${name}`)] as const);
const ANY_LINE_FLAG = LINE_FLAGS.reduce((bits, [bit]) => bits | bit, 0);
/** The status bits that a state in words may depend on (flowState). */
const STATE_BITS = IPS.SEEN_REPLY | IPS.ASSURED | IPS.OFFLOAD;

const SPACE = 0x20;
const FOUR_SPACES = 0x2020_2020;
const COLON = 0x3a;
const HASH = 0x23;

/**
 * Writes flows as text lines, the same as flowLine, from the kernel's bytes into a large buffer that goes to the sink
 * whenever it is full. Nothing is allocated for a line.
 */
export class FlowPrinter {
  readonly #sink: (bytes: Uint8Array) => void;
  readonly #nowMs: number;
  readonly #pods: PodPhrases;
  #bytes: Uint8Array;
  #view: DataView;
  #at = 0;
  readonly #columns = new Map<number, Phrase>();
  #lastColumnsKey = -1;
  #lastColumns: Phrase = phrase("");

  /** @param sink gets bytes that are valid until it returns */
  constructor(
    context: FlowLineContext,
    sink: (bytes: Uint8Array) => void,
    bufferBytes: number = DEFAULT_BUFFER_BYTES,
  ) {
    this.#sink = sink;
    this.#nowMs = context.nowMs;
    this.#pods = new PodPhrases(context.pods);
    this.#bytes = new Uint8Array(bufferBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Appends the line of the entry that the scan points at. */
  print(scan: EntryScan, before?: Phrase): void {
    this.#makeRoom(scan, before);
    const view = this.#view;
    let at = this.#at;
    if (before !== undefined) at = writePhrase(view, at, before);
    at = writePhrase(view, at, this.#columnsOf(scan));
    at = writeTimeout(view, at, scan.timeoutSeconds);
    at = writeTranslation(view, at, scan);
    at = this.#writeNotes(view, at, scan);
    view.setUint8(at, 10);
    this.#at = at + 1;
  }

  /** Hands what is left to the sink. */
  flush(): void {
    if (this.#at > 0) this.#sink(this.#bytes.subarray(0, this.#at));
    this.#at = 0;
  }

  #makeRoom(scan: EntryScan, before: Phrase | undefined): void {
    const room =
      LINE_BYTES +
      (before?.length ?? 0) +
      this.#pods.longest +
      (scan.helperEnd - scan.helperStart) +
      (scan.labelsEnd - scan.labelsStart) * 8 * LABEL_BIT_BYTES;
    if (this.#at + room <= this.#bytes.length) return;
    this.flush();
    if (room <= this.#bytes.length) return;
    this.#bytes = new Uint8Array(room);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Protocol and state: few different ones stand in a table, so each is composed once. */
  #columnsOf(scan: EntryScan): Phrase {
    const { protocol } = scan.original;
    const { state } = scan;
    const key = ((protocol << 9) | (state + 1)) * 0x1_0000 + (state < 0 ? scan.status & STATE_BITS : 0);
    if (key === this.#lastColumnsKey) return this.#lastColumns;
    let columns = this.#columns.get(key);
    if (columns === undefined) {
      const name = state < 0 ? undefined : stateName(protocol, state);
      const flow = present({ protocol, status: scan.status, state: name });
      columns = phrase(columnText(protocolName(protocol), flowState(flow)));
      this.#columns.set(key, columns);
    }
    this.#lastColumnsKey = key;
    this.#lastColumns = columns;
    return columns;
  }

  #writeNotes(view: DataView, start: number, scan: EntryScan): number {
    // Each note brings its own space; the first has two.
    view.setUint8(start, SPACE);
    const begin = start + 1;
    let at = begin;
    const { status } = scan;
    if (!this.#pods.isEmpty) at = this.#writePod(view, at, scan);
    if (scan.hasCounters || scan.startedAtMs >= 0) at = this.#writeAccounting(view, at, scan);
    if (scan.state >= 0) {
      if ((status & IPS.SEEN_REPLY) === 0) at = writePhrase(view, at, UNREPLIED);
      if ((status & IPS.ASSURED) !== 0) at = writePhrase(view, at, ASSURED);
    }
    if ((status & ANY_LINE_FLAG) !== 0) {
      for (const [bit, text] of FLAG_PHRASES) if ((status & bit) !== 0) at = writePhrase(view, at, text);
    }
    if (scan.mark !== 0) at = writeDecimal(view, writePhrase(view, at, MARK), scan.mark);
    if (scan.zone !== 0) at = writeDecimal(view, writePhrase(view, at, ZONE), scan.zone);
    if (scan.original.zone >= 0) {
      at = writeDecimal(view, writePhrase(view, at, ZONE_ORIGINAL), scan.original.zone);
    }
    if (scan.reply.zone >= 0) at = writeDecimal(view, writePhrase(view, at, ZONE_REPLY), scan.reply.zone);
    if (scan.helperStart >= 0) {
      at = writePhrase(view, at, HELPER);
      at = writeBytes(view, at, scan.wire.bytes, scan.helperStart, scan.helperEnd);
    }
    if (scan.labelsStart >= 0) at = writeLabels(view, writePhrase(view, at, LABELS), scan);
    return at === begin ? start : at;
  }

  #writePod(view: DataView, at: number, scan: EntryScan): number {
    const { bytes } = scan.wire;
    const v6 = scan.family === 6;
    const pod =
      this.#pods.find(bytes, scan.original.source, v6) ?? this.#pods.find(bytes, scan.reply.source, v6);
    return pod === undefined ? at : writePhrase(view, writePhrase(view, at, POD), pod);
  }

  #writeAccounting(view: DataView, start: number, scan: EntryScan): number {
    let at = start;
    if (scan.hasCounters) {
      at = writeCounters(view, writePhrase(view, at, SENT), scan.originalPackets, scan.originalBytes);
      at = writeCounters(view, writePhrase(view, at, RECEIVED), scan.replyPackets, scan.replyBytes);
    }
    if (scan.startedAtMs >= 0) {
      at = writeDecimal(view, writePhrase(view, at, AGE), ageSeconds(scan.startedAtMs, this.#nowMs));
      view.setUint8(at++, 0x73);
    }
    return at;
  }
}

/** The names of pods as bytes, found by an address in the wire. */
class PodPhrases {
  readonly isEmpty: boolean;
  /** Bytes of the longest name. */
  readonly longest: number;
  readonly #v4 = new Map<number, Phrase>();
  readonly #v6 = new Map<string, Phrase>();

  constructor(pods: PodIndex) {
    this.isEmpty = pods.size === 0;
    let longest = 0;
    for (const [address, name] of pods) {
      const text = phrase(visible(name));
      longest = Math.max(longest, text.length);
      const bytes = ipBytes(address);
      if (bytes.length === 4) this.#v4.set(new DataView(bytes.buffer).getUint32(0), text);
      else this.#v6.set(ipText(bytes), text);
    }
    this.longest = longest;
  }

  find(bytes: Uint8Array, at: number, v6: boolean): Phrase | undefined {
    if (v6) return this.#v6.size === 0 ? undefined : this.#v6.get(ipText(bytes, at, at + 16));
    const number =
      ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
    return this.#v4.get(number);
  }
}

function writeTimeout(view: DataView, start: number, seconds: number): number {
  view.setInt32(start, FOUR_SPACES, true);
  view.setInt32(start + 4, FOUR_SPACES, true);
  let at: number;
  if (seconds < 0) {
    at = start + TIMEOUT_WIDTH;
    view.setUint8(at++, 0x2d);
  } else {
    at = start + Math.max(0, TIMEOUT_WIDTH - decimalLength(seconds));
    at = writeDecimal(view, at, seconds);
    view.setUint8(at++, 0x73);
  }
  view.setUint16(at, 0x2020, true);
  return at + 2;
}

function writeTranslation(view: DataView, start: number, scan: EntryScan): number {
  const { original, reply, wire, family } = scan;
  const { bytes } = wire;
  const v6 = family === 6;
  const isIcmp = original.icmpType >= 0;
  const separator =
    original.protocol === IP_PROTOCOL.icmp || original.protocol === IP_PROTOCOL.icmpv6 ? HASH : COLON;
  // Of an ICMP query both tuples hold the id as their source port.
  const outsidePort = isIcmp ? reply.sourcePort : reply.destinationPort;
  const realPort = isIcmp ? -1 : reply.sourcePort;
  let at = writeEnd(view, start, bytes, original.source, original.sourcePort, v6, separator);
  if (
    original.sourcePort !== outsidePort ||
    !sameAddress(wire.view, original.source, reply.destination, v6)
  ) {
    at = writePhrase(view, at, BOTH_WAYS);
    at = writeEnd(view, at, bytes, reply.destination, outsidePort, v6, separator);
  }
  at = writePhrase(view, at, ARROW);
  at = writeEnd(view, at, bytes, original.destination, original.destinationPort, v6, separator);
  if (
    original.destinationPort !== realPort ||
    !sameAddress(wire.view, original.destination, reply.source, v6)
  ) {
    at = writePhrase(view, at, BOTH_WAYS);
    at = writeEnd(view, at, bytes, reply.source, realPort, v6, separator);
  }
  if (isIcmp) at = writeIcmp(view, at, original);
  return at;
}

function writeIcmp(view: DataView, start: number, tuple: TupleScan): number {
  const at = writeDecimal(view, writePhrase(view, start, TYPE), tuple.icmpType);
  return writeDecimal(view, writePhrase(view, at, CODE), Math.max(0, tuple.icmpCode));
}

function writeEnd(
  view: DataView,
  start: number,
  bytes: Uint8Array,
  address: number,
  port: number,
  v6: boolean,
  separator: number,
): number {
  if (port < 0) return writeAddress(view, start, bytes, address, v6);
  let at = start;
  const brackets = v6 && separator === COLON;
  if (brackets) view.setUint8(at++, 0x5b);
  at = writeAddress(view, at, bytes, address, v6);
  if (brackets) view.setUint8(at++, 0x5d);
  view.setUint8(at, separator);
  return writeDecimal(view, at + 1, port);
}

function sameAddress(view: DataView, a: number, b: number, v6: boolean): boolean {
  if (view.getInt32(a, true) !== view.getInt32(b, true)) return false;
  return (
    !v6 ||
    (view.getInt32(a + 4, true) === view.getInt32(b + 4, true) &&
      view.getInt32(a + 8, true) === view.getInt32(b + 8, true) &&
      view.getInt32(a + 12, true) === view.getInt32(b + 12, true))
  );
}

function writeCounters(view: DataView, start: number, packets: number, bytes: number): number {
  let at = writeDecimal(view, start, packets);
  view.setUint8(at++, 0x2f);
  return writePhrase(view, writeDecimal(view, at, bytes), BYTES);
}

function writeLabels(view: DataView, start: number, scan: EntryScan): number {
  const { bytes } = scan.wire;
  let at = start;
  for (let bit = 0; bit < (scan.labelsEnd - scan.labelsStart) * 8; bit++) {
    if ((bytes[scan.labelsStart + (bit >> 3)]! & (1 << (bit & 7))) === 0) continue;
    if (at > start) view.setUint8(at++, 0x2c);
    at = writeDecimal(view, at, bit);
  }
  return at;
}
