/** A kernel made of prepared answers, for what a real one cannot be made to do on demand. */
import type { NetlinkTransport } from "../../src/kernel/netlink/transport.ts";
import { align4 } from "../../src/linux/netlink/wire.ts";

/** A message received by the scripted kernel. */
export interface Received {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** The whole message, header included. */
  readonly bytes: Uint8Array;
}

/** Answers datagrams: each call gets the messages of one, and returns the datagrams the kernel would send back. */
export type Script = (messages: readonly Received[], round: number) => readonly Uint8Array[];

export class ScriptedTransport implements NetlinkTransport {
  readonly groups: number[] = [];
  closed = false;
  rounds = 0;
  #queue: Uint8Array[] = [];

  constructor(readonly script: Script) {}

  send(datagram: Uint8Array): void {
    const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
    const messages: Received[] = [];
    for (let at = 0; at < datagram.length; at += align4(view.getUint32(at, true))) {
      messages.push({
        type: view.getUint16(at + 4, true),
        flags: view.getUint16(at + 6, true),
        sequence: view.getUint32(at + 8, true),
        bytes: datagram.slice(at, at + view.getUint32(at, true)),
      });
    }
    this.#queue.push(...this.script(messages, this.rounds++));
  }

  receive(): Uint8Array | undefined {
    return this.#queue.shift();
  }

  /** What nobody asked for. */
  push(datagram: Uint8Array): void {
    this.#queue.push(datagram);
  }

  join(group: number): void {
    this.groups.push(group);
  }

  close(): void {
    this.closed = true;
  }
}

/** One netlink message. */
export function message(type: number, flags: number, sequence: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(align4(16 + payload.length));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 16 + payload.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  view.setUint32(8, sequence, true);
  bytes.set(payload, 16);
  return bytes;
}

/** Several messages in one datagram. */
export function datagram(...messages: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(messages));
}

function i32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

/** NLMSG_DONE. */
export function done(sequence: number, flags = 0, errno = 0): Uint8Array {
  return message(3, 2 | flags, sequence, i32(-errno));
}

/** NLMSG_ERROR; errno 0 acknowledges. With NETLINK_CAP_ACK the request's header is echoed, and only that. */
export function acknowledgement(
  request: Received,
  errno = 0,
  extack: readonly Uint8Array[] = [],
): Uint8Array {
  const NLM_F_CAPPED = 0x100;
  const NLM_F_ACK_TLVS = 0x200;
  const flags = NLM_F_CAPPED | (extack.length > 0 ? NLM_F_ACK_TLVS : 0);
  return message(2, flags, request.sequence, datagram(i32(-errno), request.bytes.subarray(0, 16), ...extack));
}

/** One attribute, e.g. of an extended acknowledgement. */
export function attribute(type: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(align4(4 + payload.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 4 + payload.length, true);
  view.setUint16(2, type, true);
  bytes.set(payload, 4);
  return bytes;
}
