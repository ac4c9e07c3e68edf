/**
 * Netlink messages: struct nlmsghdr, a family header, attributes (include/uapi/linux/netlink.h). Pure: bytes in,
 * values out.
 */
import type { AttributeSet, AttributesOf, AttributeTable } from "./attributes.ts";
import type { StructCodec, StructOf } from "./codec.ts";
import { align4, DecodeError, EncodeError, Wire, type Writer } from "./wire.ts";

/** sizeof(struct nlmsghdr). */
export const NLMSG_HDRLEN = 16;

export const NLMSG_NOOP = 1;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const NLMSG_OVERRUN = 4;
/** Below this number are control messages. */
export const NLMSG_MIN_TYPE = 0x10;

export const NLM_F_REQUEST = 0x1;
export const NLM_F_MULTI = 0x2;
export const NLM_F_ACK = 0x4;
export const NLM_F_ECHO = 0x8;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_ROOT = 0x100;
export const NLM_F_MATCH = 0x200;
export const NLM_F_DUMP = NLM_F_ROOT | NLM_F_MATCH;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;
export const NLM_F_NONREC = 0x100;
export const NLM_F_CAPPED = 0x100;
export const NLM_F_ACK_TLVS = 0x200;

// oxlint-disable-next-line typescript/no-explicit-any -- any structure may be a family header; HeaderOf recovers it
type AnyStruct = StructCodec<any>;
export type HeaderOf<H> = H extends StructCodec<infer F> ? StructOf<F> : never;

/** One kind of message: its kernel name and number, the family header, the attributes behind it. */
export interface MessageSpec<H extends AnyStruct = AnyStruct, T extends AttributeTable = AttributeTable> {
  /** Kernel name: "RTM_NEWLINK". */
  readonly name: string;
  readonly type: number;
  readonly header: H;
  readonly attributes: AttributeSet<T>;
}

/** A message received: header and attributes decoded. */
export interface Message<H extends AnyStruct = AnyStruct, T extends AttributeTable = AttributeTable> {
  readonly header: HeaderOf<H>;
  readonly attributes: AttributesOf<AttributeSet<T>>;
}

/** What a description decodes to. */
export type MessageOf<S extends MessageSpec> =
  S extends MessageSpec<infer H, infer T> ? Message<H, T> : never;

/** A message to send. `encode` writes everything behind struct nlmsghdr. */
export interface Request<H extends AnyStruct = AnyStruct, T extends AttributeTable = AttributeTable> {
  readonly message: MessageSpec<H, T>;
  readonly flags: number;
  /** What we are doing, for error messages: "creating bridge br0". */
  readonly doing: string;
  readonly encode: (writer: Writer) => void;
}

// oxlint-disable-next-line typescript/no-explicit-any -- requests of different families travel in one batch
export type AnyRequest = Request<any, any>;

/**
 * Builds a request. Nothing is encoded before it is sent.
 * @param doing what we are doing, in words for an error message
 * @param flags NLM_F_CREATE, NLM_F_EXCL and so on; NLM_F_REQUEST and NLM_F_ACK are added by the connection
 */
export function request<H extends AnyStruct, T extends AttributeTable>(
  message: MessageSpec<H, T>,
  doing: string,
  header: Partial<HeaderOf<H>>,
  attributes: AttributesOf<AttributeSet<T>>,
  flags = 0,
): Request<H, T> {
  return {
    message,
    flags,
    doing,
    encode(writer) {
      try {
        message.header.write(writer, header);
        writer.align();
        message.attributes.write(writer, attributes);
      } catch (error) {
        throw error instanceof EncodeError ? error.within(message.name) : error;
      }
    },
  };
}

/** Appends one complete message to a datagram. */
export function writeMessage(
  writer: Writer,
  request: Request,
  sequence: number,
  extraFlags = 0,
): { readonly start: number; readonly end: number } {
  const start = writer.reserve(NLMSG_HDRLEN);
  request.encode(writer);
  const end = writer.length;
  writer.align();
  writer.view.setUint32(start, end - start, true);
  writer.view.setUint16(start + 4, request.message.type, true);
  writer.view.setUint16(start + 6, request.flags | NLM_F_REQUEST | extraFlags, true);
  writer.view.setUint32(start + 8, sequence, true);
  return { start, end };
}

/** One message in a received datagram, not decoded yet. Valid until the next receive. */
export interface RawMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly portId: number;
  readonly wire: Wire;
  /** Where the payload behind struct nlmsghdr begins and ends in `wire`. */
  readonly start: number;
  readonly end: number;
}

/** The length field of the message at `at`, checked against the room that is left. @throws DecodeError */
export function messageLength(wire: Wire, at: number): number {
  const left = wire.bytes.length - at;
  if (left < NLMSG_HDRLEN) throw new DecodeError("nlmsghdr", `${left} bytes are too few`);
  const length = wire.view.getUint32(at, true);
  if (length < NLMSG_HDRLEN || length > left) {
    throw new DecodeError("nlmsghdr", `a message claims ${length} bytes where ${left} are left`);
  }
  return length;
}

/** Splits a datagram into its messages. @throws DecodeError */
export function readMessages(datagram: Uint8Array): RawMessage[] {
  const wire = new Wire(datagram);
  const messages: RawMessage[] = [];
  for (let at = 0; at < datagram.length;) {
    const length = messageLength(wire, at);
    messages.push({
      type: wire.view.getUint16(at + 4, true),
      flags: wire.view.getUint16(at + 6, true),
      sequence: wire.view.getUint32(at + 8, true),
      portId: wire.view.getUint32(at + 12, true),
      wire,
      start: at + NLMSG_HDRLEN,
      end: at + length,
    });
    at += align4(length);
  }
  return messages;
}

/** Decodes a message by its description. @throws DecodeError naming the field */
export function decode<H extends AnyStruct, T extends AttributeTable>(
  spec: MessageSpec<H, T>,
  raw: RawMessage,
): Message<H, T> {
  return decodeAt(spec, raw.wire, raw.start, raw.end);
}

/** The same for a message whose payload, behind struct nlmsghdr, is `wire` from `start` to `end`. */
export function decodeAt<H extends AnyStruct, T extends AttributeTable>(
  spec: MessageSpec<H, T>,
  wire: Wire,
  start: number,
  end: number,
): Message<H, T> {
  try {
    const header = spec.header.read(wire, start, end) as HeaderOf<H>;
    const attributes = spec.attributes.read(wire, start + align4(spec.header.size), end);
    return { header, attributes };
  } catch (error) {
    throw error instanceof DecodeError ? error.within(spec.name) : error;
  }
}
