import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { decodePacket } from "../../../src/linux/packet/decode.ts";
import { compilePacketFilter } from "../../../src/linux/packet/filter.ts";
import { summaryOf } from "../../../src/linux/packet/packet.ts";

/** Frames as `tcpdump -xx` prints them, taken from a veth pair. */
const FRAMES = {
  syn:
    "0a58 0a09 0002 0a58 0a09 0001 0800 4500 003c 1c46 4000 4006 0a54 0a09 0001 0a09 0002" +
    "9c40 01bb 1234 5678 0000 0000 a002 faf0 0000 0000 0204 05b4 0402 080a 0000 0000 0000 0000 0103 0307",
  tooBig:
    "0a58 0a09 0001 0a58 0a09 0002 86dd 6000 0000 0038 3a40 fd09 0000 0000 0000 0000 0000 0000 0002" +
    "fd09 0000 0000 0000 0000 0000 0000 0001 0200 0000 0000 0500" +
    "6000 0000 0100 1140 fd09 0000 0000 0000 0000 0000 0000 0001 fd0a 0000 0000 0000 0000 0000 0000 0005" +
    "9c40 0035 0100 0000",
  tagged:
    "0a58 0a09 0002 0a58 0a09 0001 8100 002a 0806 0001 0800 0604 0001 0a58 0a09 0001 0a09 0001" +
    "0000 0000 0000 0a09 0002",
} as const;

const frame = (name: keyof typeof FRAMES): Uint8Array =>
  Uint8Array.from(Buffer.from(FRAMES[name].replaceAll(" ", ""), "hex"));

test("a TCP SYN with its options", () => {
  const packet = decodePacket(frame("syn"));
  expect(summaryOf(packet)).toBe("10.9.0.1:40000 → 10.9.0.2:443 tcp SYN");
  expect(packet.tcp).toEqual({
    sourcePort: 40000,
    destinationPort: 443,
    sequence: 0x12345678,
    acknowledgement: 0,
    flags: ["SYN"],
    window: 64240,
    payloadLength: 0,
    mss: 1460,
  });
  expect(packet.ip).toMatchObject({ ttl: 64, length: 60, dontFragment: true, id: 0x1c46 });
});

test("an ICMPv6 error quotes the packet it is about", () => {
  const packet = decodePacket(frame("tooBig"));
  expect(summaryOf(packet)).toBe(
    "fd09::2 → fd09::1 icmpv6 packet too big mtu 1280 about ([fd09::1]:40000 → [fd0a::5]:53 udp 248 bytes)",
  );
});

test("a tagged ARP request", () => {
  const packet = decodePacket(frame("tagged"));
  expect(packet.ethernet?.vlans).toEqual([42]);
  expect(summaryOf(packet)).toBe("arp who has 10.9.0.2? tell 10.9.0.1");
});

test("a frame that is cut off says where, and keeps what stands above", () => {
  const packet = decodePacket(frame("syn").subarray(0, 44));
  expect(packet.ip?.destination).toBe("10.9.0.2");
  expect(packet.tcp?.destinationPort).toBe(443);
  expect(packet.problem).toBe("TCP header cut off after 10 bytes");
});

test("no bytes make the decoder throw", () => {
  const bytes = fc.uint8Array({ maxLength: 120 });
  const spoilt = fc
    .tuple(
      fc.constantFrom(...(Object.keys(FRAMES) as (keyof typeof FRAMES)[])),
      fc.nat(200),
      fc.nat(255),
      fc.nat(200),
    )
    .map(([name, at, value, length]) => {
      const copy = frame(name);
      copy[at % copy.length] = value;
      return copy.subarray(0, length);
    });
  fc.assert(
    fc.property(
      fc.oneof(bytes, spoilt),
      fc.constantFrom("ethernet" as const, "raw" as const),
      (input, link) => {
        summaryOf(decodePacket(input, link));
      },
    ),
    { numRuns: 2000 },
  );
});

test("an empty filter takes everything, an impossible one nothing", () => {
  const instructions = (filter: Parameters<typeof compilePacketFilter>[0]): string[] =>
    Buffer.from(compilePacketFilter(filter, 100)).toString("hex").match(/.{16}/g)!;
  expect(instructions([])).toEqual(["0600000064000000", "0600000000000000"]);
  expect(instructions({ source: "10.0.0.1", destination: "fd00::1" })).toEqual(["0600000000000000"]);
});
