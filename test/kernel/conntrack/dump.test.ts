/** Dumps of tables that change, end badly, or are read by a second thread. */
import { describe, expect, test } from "bun:test";
import { IPCTNL_MSG_CT_GET } from "../../../src/linux/conntrack/attributes.ts";
import { Conntrack } from "../../../src/kernel/conntrack/conntrack.ts";
import { SystemError } from "../../../src/linux/errno.ts";
import { NetlinkConnection } from "../../../src/kernel/netlink/connection.ts";
import { NLMSG_DONE, NLMSG_ERROR, request } from "../../../src/linux/netlink/message.ts";
import { NetlinkError } from "../../../src/linux/netlink/netlink-error.ts";
import { openReadAhead } from "../../../src/kernel/netlink/read-ahead.ts";
import {
  NETLINK_NETFILTER,
  openTransport,
  type NetlinkTransport,
} from "../../../src/kernel/netlink/transport.ts";
import { DecodeError } from "../../../src/linux/netlink/wire.ts";
import { testWith } from "../../support/witness.ts";
import { encodeDescription } from "./arbitrary.ts";

/** Answers the one request with these datagrams. */
class Answers implements NetlinkTransport {
  received = 0;
  #sequence = 0;

  constructor(readonly datagrams: readonly ((sequence: number) => Uint8Array)[]) {}

  send(datagram: Uint8Array): void {
    this.#sequence = new DataView(datagram.buffer, datagram.byteOffset).getUint32(8, true);
  }
  receive(): Uint8Array | undefined {
    return this.datagrams[this.received++]?.(this.#sequence);
  }
  join(): void {}
  close(): void {}
}

function message(type: number, payload: Uint8Array, sequence: number): Uint8Array {
  const bytes = new Uint8Array((16 + payload.length + 3) & ~3);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 16 + payload.length, true);
  view.setUint16(4, type, true);
  view.setUint32(8, sequence, true);
  bytes.set(payload, 16);
  return bytes;
}

const joined = (parts: readonly Uint8Array[]): Uint8Array => Buffer.concat(parts);

/** One datagram with an entry for each id. */
function entries(...ids: readonly number[]): (sequence: number) => Uint8Array {
  return (sequence) =>
    joined(
      ids.map((id) => {
        const ip = { v4Source: "10.0.0.1", v4Destination: "198.51.100.80" };
        const reply = { v4Source: "198.51.100.80", v4Destination: "10.0.0.1" };
        const attributes = {
          original: { ip, proto: { number: 50 } },
          reply: { ip: reply, proto: { number: 50 } },
        };
        return message(
          0x100,
          encodeDescription({ family: 2, attributes: { ...attributes, status: 0, id } }),
          sequence,
        );
      }),
    );
}

const code = (value: number): Uint8Array => new Uint8Array(Int32Array.of(value).buffer);
const done = (sequence: number): Uint8Array => message(NLMSG_DONE, code(0), sequence);
const failed =
  (errno: number) =>
  (sequence: number): Uint8Array =>
    message(NLMSG_ERROR, joined([code(-errno), new Uint8Array(16)]), sequence);

describe("a dump", () => {
  test("gives each entry once, although a bucket came twice because its last entry vanished", () => {
    const table = new Conntrack(new Answers([entries(1, 2, 3), entries(9, 2, 3, 4), entries(5), done]));
    expect(table.entries().map((entry) => entry.id)).toEqual([1, 2, 3, 9, 4, 5]);
  });

  test("may end in the datagram that holds its last entries", () => {
    const last = (sequence: number): Uint8Array => joined([entries(2)(sequence), done(sequence)]);
    expect(new Conntrack(new Answers([entries(1), last])).entries()).toHaveLength(2);
  });

  test("that the kernel refuses is a NetlinkError with what we were doing", () => {
    const table = new Conntrack(new Answers([failed(1)]));
    expect(() => table.entries()).toThrow(NetlinkError);
    expect(() => new Conntrack(new Answers([entries(1), failed(12)])).entries()).toThrow(
      /listing tracked connections.*ENOMEM/,
    );
  });

  test("that breaks off, or is damaged, is an error and no short list", () => {
    expect(() => new Conntrack(new Answers([entries(1)])).entries()).toThrow(SystemError);
    const cut = (sequence: number): Uint8Array => entries(1, 2)(sequence).slice(0, 100);
    expect(() => new Conntrack(new Answers([cut, done])).entries()).toThrow(DecodeError);
  });

  test("that its reader leaves is read to its end, so that the next answer is the next answer", () => {
    const transport = new Answers([entries(1, 2), entries(3), done, entries(7), done]);
    const table = new Conntrack(transport);
    expect(() =>
      table.scan(() => {
        throw new Error("enough");
      }),
    ).toThrow("enough");
    expect(transport.received).toBe(3);
    expect(table.entries().map((entry) => entry.id)).toEqual([7]);
  });

  test("left in its last datagram waits for nothing more", () => {
    const last = (sequence: number): Uint8Array => joined([entries(1)(sequence), done(sequence)]);
    const transport = new Answers([last]);
    expect(() =>
      new Conntrack(transport).scan(() => {
        throw new Error("enough");
      }),
    ).toThrow("enough");
    expect(transport.received).toBe(1);
  });

  test("of another request is passed over", () => {
    const foreign = (sequence: number): Uint8Array => entries(8)(sequence + 1);
    expect(new Conntrack(new Answers([foreign, entries(1), done])).entries()).toHaveLength(1);
  });
});

testWith(["root"])("a refusal reaches the reader through the second thread too", () => {
  // An empty mask: ctnetlink_filter_parse_status refuses it.
  const refused = request(IPCTNL_MSG_CT_GET, "asking nonsense", {}, { status: 0, statusMask: 0 });
  for (const open of [openTransport, openReadAhead]) {
    using connection = new NetlinkConnection(open(NETLINK_NETFILTER));
    expect(() => connection.dumpEach(refused, () => undefined)).toThrow(/asking nonsense.*EINVAL/);
  }
});
