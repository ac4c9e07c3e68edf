/** The conversation: what is asked again, what is ignored, whose error it is. */
import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { SystemError } from "../../../src/linux/errno.ts";
import { NetlinkConnection } from "../../../src/kernel/netlink/connection.ts";
import {
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  readMessages,
  request,
  writeMessage,
} from "../../../src/linux/netlink/message.ts";
import { NetlinkError } from "../../../src/linux/netlink/netlink-error.ts";
import { DecodeError, EncodeError, Writer } from "../../../src/linux/netlink/wire.ts";
import { addAddressRequest, RTM_GETADDR, RTM_NEWADDR } from "../../../src/linux/route/address.ts";
import { RTM_NEWLINK } from "../../../src/linux/route/link-attributes.ts";
import {
  createBridgeRequest,
  createVethRequest,
  deleteLinkRequest,
  setBridgePortRequest,
} from "../../../src/linux/route/link-requests.ts";
import {
  acknowledgement,
  attribute,
  datagram,
  done,
  message,
  ScriptedTransport,
  type Received,
  type Script,
} from "../../support/scripted-transport.ts";

const MULTI = 2;

function connected(script: Script): { connection: NetlinkConnection; transport: ScriptedTransport } {
  const transport = new ScriptedTransport(script);
  return { connection: new NetlinkConnection(transport), transport };
}

/** RTM_NEWADDR for 10.0.0.N, as a kernel sends it. */
function address(sequence: number, last: number, flags = MULTI): Uint8Array {
  const writer = new Writer();
  const one = request(
    RTM_NEWADDR,
    "telling",
    { family: 2, prefixLength: 24, index: 1 },
    { local: `10.0.0.${last}` },
  );
  writeMessage(writer, one, sequence);
  const bytes = writer.done().slice();
  new DataView(bytes.buffer).setUint16(6, flags, true);
  return bytes;
}

const askAddresses = request(RTM_GETADDR, "reading the addresses", {}, {});

function dumped(connection: NetlinkConnection): (string | undefined)[] {
  return connection.dump(askAddresses, RTM_NEWADDR).map(({ attributes }) => attributes.local);
}

describe("a dump", () => {
  test("gathers the messages of all its datagrams, up to the end", () => {
    const { connection } = connected(([asked]) => {
      expect(asked!.flags & NLM_F_DUMP).toBe(NLM_F_DUMP);
      const { sequence } = asked!;
      return [datagram(address(sequence, 1), address(sequence, 2)), address(sequence, 3), done(sequence)];
    });
    expect(dumped(connection)).toEqual(["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
  });

  test("that was interrupted is asked for again, until one comes through whole", () => {
    const { connection, transport } = connected(([asked], round) => {
      const { sequence } = asked!;
      // The mark may stand on any message of it, or only on its end.
      if (round === 0) return [address(sequence, 1, MULTI | NLM_F_DUMP_INTR), done(sequence)];
      if (round === 1) return [address(sequence, 1), done(sequence, NLM_F_DUMP_INTR)];
      return [address(sequence, 1), address(sequence, 2), done(sequence)];
    });
    expect(dumped(connection)).toEqual(["10.0.0.1", "10.0.0.2"]);
    expect(transport.rounds).toBe(3);
  });

  test("that is interrupted for ever ends with EAGAIN", () => {
    const { connection, transport } = connected(([asked]) => [done(asked!.sequence, NLM_F_DUMP_INTR)]);
    expect(() => dumped(connection)).toThrow(expect.objectContaining({ code: "EAGAIN" }));
    expect(transport.rounds).toBeLessThan(50);
  });

  test("that the kernel refuses, at its beginning or at its end, throws the kernel's error", () => {
    for (const end of [
      (asked: Received) => acknowledgement(asked, 1),
      (asked: Received) => done(asked.sequence, 0, 1),
    ]) {
      const { connection } = connected(([asked]) => [end(asked!)]);
      expect(() => dumped(connection)).toThrow(
        expect.objectContaining({ code: "EPERM", request: "RTM_GETADDR" }),
      );
    }
  });

  test("that is left early leaves nothing in the queue for the next question", () => {
    const { connection } = connected(([asked]) => {
      const { sequence, flags } = asked!;
      if ((flags & NLM_F_DUMP) === 0) return [acknowledgement(asked!)];
      return [address(sequence, 1), address(sequence, 2), address(sequence, 3), done(sequence)];
    });
    for (const raw of connection.dumpRaw(askAddresses)) {
      expect(raw.type).toBe(RTM_NEWADDR.type);
      break;
    }
    connection.request(deleteLinkRequest("v0"));
    expect(dumped(connection)).toEqual(["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
  });

  test("overlooks answers to older questions and events of nobody's", () => {
    const { connection } = connected(([asked]) => {
      const { sequence } = asked!;
      return [datagram(address(sequence - 1, 9), address(0, 8), address(sequence, 1)), done(sequence)];
    });
    expect(dumped(connection)).toEqual(["10.0.0.1"]);
  });

  test("that is cut off by a broken message throws DecodeError", () => {
    const { connection } = connected(([asked]) => {
      const broken = address(asked!.sequence, 1);
      new DataView(broken.buffer).setUint16(24, 999, true);
      return [broken, done(asked!.sequence)];
    });
    expect(() => dumped(connection)).toThrow(DecodeError);
  });
});

describe("questions", () => {
  const ask = (count: number) => Array.from({ length: count }, () => askAddresses);

  test("are answered in their order, whatever came between, errors at their place", () => {
    const { connection } = connected((asked) => [
      ...asked.map(({ sequence }) => address(sequence - asked.length, 99)),
      ...asked
        .map((one, index) =>
          index % 3 === 1 ? acknowledgement(one, 101) : address(one.sequence, one.sequence & 255, 0),
        )
        .toReversed(),
    ]);
    const answers = connection.questions(ask(250), RTM_NEWADDR);
    const texts = answers.map((answer) =>
      answer instanceof NetlinkError ? answer.code : answer.attributes.local,
    );
    expect(texts).toEqual(
      Array.from({ length: 250 }, (_, index) =>
        // Each datagram of 100 begins anew.
        (index % 100) % 3 === 1 ? "ENETUNREACH" : `10.0.0.${(index + 1) & 255}`,
      ),
    );
  });

  test("go without an acknowledgement, and one that gets no answer ends with ETIMEDOUT", () => {
    const { connection } = connected((asked) => {
      expect(asked.every(({ flags }) => flags === NLM_F_REQUEST)).toBe(true);
      return asked.slice(1).map(({ sequence }) => address(sequence, 1, 0));
    });
    expect(() => connection.questions(ask(2), RTM_NEWADDR)).toThrow(
      expect.objectContaining({ code: "ETIMEDOUT" }),
    );
  });

  test("one alone throws its error", () => {
    const { connection } = connected(([asked]) => [acknowledgement(asked!, 101)]);
    expect(() => connection.question(askAddresses, RTM_NEWADDR)).toThrow(
      expect.objectContaining({ code: "ENETUNREACH", doing: "reading the addresses" }),
    );
  });
});

describe("a batch", () => {
  const three = ["a", "b", "c"].map((name) => deleteLinkRequest(name));

  test("goes out in one datagram and gives each error to its request", () => {
    const { connection, transport } = connected((asked) => [
      datagram(acknowledgement(asked[0]!), acknowledgement(asked[1]!, 19)),
      acknowledgement(asked[2]!, 1),
    ]);
    const errors = connection.batchResults(three);
    expect(transport.rounds).toBe(1);
    expect([...errors].map(([index, error]) => [index, (error as NetlinkError).code])).toEqual([
      [1, "ENODEV"],
      [2, "EPERM"],
    ]);
    expect(errors.get(1)!.message).toBe("deleting b: the kernel says: no such device (ENODEV)");
  });

  test("that is long goes out in several, and no request is lost", () => {
    const many = Array.from({ length: 3000 }, (_, i) => deleteLinkRequest(`link${i}`));
    let seen = 0;
    const { connection, transport } = connected((asked) => {
      seen += asked.length;
      return asked.map((one, index) => acknowledgement(one, seen - asked.length + index === 2999 ? 19 : 0));
    });
    const errors = connection.batchResults(many);
    expect(seen).toBe(3000);
    expect(transport.rounds).toBeGreaterThan(3);
    expect([...errors.keys()]).toEqual([2999]);
  });

  test("that gets no answer ends with ETIMEDOUT and says at what", () => {
    const { connection } = connected((asked) => [acknowledgement(asked[0]!)]);
    const error = caught(() => connection.batch(three));
    expect(error).toBeInstanceOf(SystemError);
    expect(error).toMatchObject({ code: "ETIMEDOUT" });
    expect(error.message).toContain("deleting b");
  });
});

function caught(action: () => unknown): Error {
  try {
    action();
  } catch (error) {
    return error as Error;
  }
  throw new Error("it did not fail");
}

describe("a transaction", () => {
  const three = ["a", "b", "c"].map((name) => deleteLinkRequest(name));

  test("with more errors than the receive buffer holds gives those that it held", () => {
    const { connection, transport } = connected((asked) => [
      acknowledgement(asked[0]!),
      acknowledgement(asked[1]!, 2),
    ]);
    const receive = transport.receive.bind(transport);
    let drops = 1;
    transport.receive = () => {
      if (drops-- > 0) throw new SystemError("recv", 105);
      return receive();
    };
    const errors = connection.exchangeBatch(three, 2);
    expect([...errors].map(([index, error]) => [index, (error as NetlinkError).code])).toEqual([
      [1, "ENOENT"],
    ]);
  });

  test("whose answer was dropped is not taken for done", () => {
    const { connection, transport } = connected(() => []);
    const receive = transport.receive.bind(transport);
    let drops = 1;
    transport.receive = () => {
      if (drops-- > 0) throw new SystemError("recv", 105);
      return receive();
    };
    expect(() => connection.exchangeBatch(three, 2)).toThrow(expect.objectContaining({ code: "ENOBUFS" }));
  });
});

describe("an extended acknowledgement", () => {
  const NLMSGERR_ATTR_MSG = 1;
  const NLMSGERR_ATTR_OFFS = 2;
  const NLMSGERR_ATTR_MISS_TYPE = 5;
  const number = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

  /** Where, in the message, the bytes of this text stand. */
  function offsetOf(bytes: Uint8Array, text: string): number {
    return Buffer.from(bytes).indexOf(text) - 4;
  }

  test("names the attribute, however deep, and says what the kernel said", () => {
    const { connection } = connected(([asked]) => [
      acknowledgement(asked!, 22, [
        attribute(NLMSGERR_ATTR_MSG, Buffer.from("Too odd\0")),
        attribute(NLMSGERR_ATTR_OFFS, number(offsetOf(asked!.bytes, "eth7"))),
      ]),
    ]);
    const error = caught(() => connection.request(createVethRequest({ name: "v0", peer: { name: "eth7" } })));
    expect(error).toMatchObject({
      code: "EINVAL",
      request: "RTM_NEWLINK",
      extack: "Too odd",
      attribute: "IFLA_LINKINFO.IFLA_INFO_DATA.VETH_INFO_PEER.IFLA_IFNAME",
    });
    expect(error.message).toBe(
      "creating veth v0 with peer eth7: the kernel says: Too odd (EINVAL at IFLA_LINKINFO.IFLA_INFO_DATA.VETH_INFO_PEER.IFLA_IFNAME)",
    );
  });

  test("names what was missing", () => {
    const { connection } = connected(([asked]) => [
      acknowledgement(asked!, 22, [attribute(NLMSGERR_ATTR_MISS_TYPE, number(2))]),
    ]);
    const spec = { interface: 1, address: "10.0.0.1", prefixLength: 24 };
    expect(caught(() => connection.request(addAddressRequest(spec)))).toMatchObject({ missing: "IFA_LOCAL" });
  });

  test("of any content, even nonsense, never hides the error itself", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), fc.nat({ max: 400 }), (noise, offset) => {
        const { connection } = connected(([asked]) => [
          acknowledgement(asked!, 16, [attribute(NLMSGERR_ATTR_OFFS, number(offset)), noise]),
        ]);
        const error = caught(() => connection.request(setBridgePortRequest("v0", { hairpin: true })));
        expect(error).toBeInstanceOf(NetlinkError);
        expect(error).toMatchObject({ code: "EBUSY" });
      }),
    );
  });

  test("points into every attribute of a message at its own path", () => {
    const named = createBridgeRequest({
      name: "br0",
      mac: "02:00:00:00:00:01",
      mtu: 1400,
      vlanFiltering: true,
    });
    const paths = new Set<string>();
    const writer = new Writer();
    writeMessage(writer, named, 1);
    for (let offset = 32; offset < writer.length; offset += 4) {
      const { connection } = connected(([asked]) => [
        acknowledgement(asked!, 22, [attribute(NLMSGERR_ATTR_OFFS, number(offset))]),
      ]);
      paths.add((caught(() => connection.request(named)) as NetlinkError).attribute!);
    }
    expect([...paths]).toEqual([
      "IFLA_ADDRESS",
      "IFLA_IFNAME",
      "IFLA_MTU",
      "IFLA_LINKINFO",
      "IFLA_LINKINFO.IFLA_INFO_KIND",
      "IFLA_LINKINFO.IFLA_INFO_DATA",
      "IFLA_LINKINFO.IFLA_INFO_DATA.IFLA_BR_VLAN_FILTERING",
    ]);
  });
});

describe("datagrams", () => {
  test("of random bytes are split or refused, and never loop", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          expect([...readMessages(bytes)].length).toBeLessThanOrEqual(bytes.length / 16);
        } catch (error) {
          expect(error).toBeInstanceOf(DecodeError);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("of well-formed messages are split as they were joined", () => {
    const one = fc.record({
      type: fc.integer({ min: 0, max: 0xffff }),
      flags: fc.integer({ min: 0, max: 0xffff }),
      sequence: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      payload: fc.uint8Array({ maxLength: 50 }),
    });
    fc.assert(
      fc.property(fc.array(one, { maxLength: 6 }), (messages) => {
        const joined = datagram(
          ...messages.map(({ type, flags, sequence, payload }) => message(type, flags, sequence, payload)),
        );
        const split = [...readMessages(joined)].map(({ type, flags, sequence, wire, start, end }) => ({
          type,
          flags,
          sequence,
          payload: wire.bytes.slice(start, end),
        }));
        expect(split).toEqual(messages);
      }),
    );
  });

  test("hold only what fits: a value out of range is refused by its attribute's name", () => {
    const encode = (attributes: object): string => {
      try {
        writeMessage(new Writer(), request(RTM_NEWLINK, "testing", {}, attributes as never), 1);
        return "written";
      } catch (error) {
        if (error instanceof EncodeError) return error.path;
        throw error;
      }
    };
    expect(encode({ mtu: 2 ** 32 })).toBe("RTM_NEWLINK.IFLA_MTU");
    expect(encode({ mtu: -1 })).toBe("RTM_NEWLINK.IFLA_MTU");
    expect(encode({ mtu: 1.5 })).toBe("RTM_NEWLINK.IFLA_MTU");
    expect(encode({ mtu: 2 ** 32 - 1 })).toBe("written");
    expect(encode({ name: "a\0b" })).toBe("RTM_NEWLINK.IFLA_IFNAME");
    expect(encode({ alias: "x".repeat(70_000) })).toBe("RTM_NEWLINK.IFLA_IFALIAS");
    expect(encode({ nosuch: 1 })).toBe("RTM_NEWLINK.nosuch");
    expect(encode({ linkInfo: { info: { kind: "bridge", data: { vlanFiltering: 256 } } } })).toBe(
      "RTM_NEWLINK.IFLA_LINKINFO.IFLA_INFO_DATA(bridge).IFLA_BR_VLAN_FILTERING",
    );
  });
});
