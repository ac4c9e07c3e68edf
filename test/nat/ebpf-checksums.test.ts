/** Checksums that come to nothing, of protocols where a zero says that there is none. By frames: one in 65 536 is so. */
import { expect } from "bun:test";
import { ipBytes } from "../../src/address/ip.ts";
import { testWith } from "../support/witness.ts";
import {
  checksumAt,
  checksumError,
  ICMP,
  ICMPV6,
  packets,
  readPacket,
  sealed,
  transportBytes,
  UDP,
  UDPLITE,
  type Ends,
  type ReadPacket,
} from "./fuzz/packets.ts";
import { stayOnOneProcessor, type Frame } from "./fuzz/wire.ts";
import { NODE, World } from "./fuzz/worlds.ts";

const test = testWith(["root", "real-root", "ip"]);
const FAMILIES = {
  4: {
    pod: ipBytes("10.9.0.2"),
    peer: ipBytes("203.0.113.7"),
    node: ipBytes(NODE[4]),
    unreachable: [ICMP, 3, 3],
  },
  6: {
    pod: ipBytes("fd00:9::2"),
    peer: ipBytes("2001:db8::7"),
    node: ipBytes(NODE[6]),
    unreachable: [ICMPV6, 1, 4],
  },
} as const;

function field({ bytes, start, protocol }: Pick<ReadPacket, "bytes" | "start" | "protocol">): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint16(start + checksumAt(protocol)!);
}

/** A datagram from `sent`, whose checksum comes to nothing once `summed` is its source. */
function datagram(protocol: number, sent: Ends, summed: Uint8Array): Frame {
  const bytes = transportBytes(sent, { protocol, length: 2 }, {}, 0);
  const view = new DataView(bytes.buffer);
  view.setUint16(8, 0);
  const as = { ...sent, source: summed };
  sealed(bytes, as, protocol);
  view.setUint16(8, view.getUint16(checksumAt(protocol)!));
  sealed(bytes, sent, protocol);
  return packets(sent, protocol, bytes, {}, 1)[0]!;
}

for (const family of [4, 6] as const)
  for (const protocol of [UDP, UDPLITE])
    test(`IPv${family}, protocol ${protocol}: it is written as all ones, in a packet and in what an error quotes`, () => {
      using _processor = stayOnOneProcessor();
      using world = new World("ebpf", { uplink: "veth", translation: { fullyRandom: false } });
      const { pod, peer, node, unreachable } = FAMILIES[family];
      const ends = (source: Uint8Array, sourcePort: number): Ends => ({
        source,
        destination: peer,
        sourcePort,
        destinationPort: 53,
      });
      const sent = [datagram(protocol, ends(pod, 2000), node), datagram(protocol, ends(pod, 2001), pod)];
      const came = world.exchange(sent, []).outside.map(({ bytes }) => readPacket(bytes)!);
      const seen = came.filter((one) => one.protocol === protocol);
      expect(seen.map((one) => checksumError(one))).toEqual([0xffff, 0xffff]);
      expect(seen.map(field)[0]).toBe(0xffff);
      const [type, code] = [unreachable[1], unreachable[2]];
      const errors = seen.map(({ bytes }) => {
        const error = new Uint8Array(8 + bytes.length);
        error.set([type, code]);
        error.set(bytes, 8);
        const to = { source: peer, destination: node };
        sealed(error, to, unreachable[0]);
        return packets(to, unreachable[0], error, {}, 2)[0]!;
      });
      const told = world
        .exchange([], errors)
        .pod.map(({ bytes }) => readPacket(bytes)!)
        .filter((one) => one.protocol === unreachable[0]);
      expect(told.map((one) => checksumError(one))).toEqual([0xffff, 0xffff]);
      // As the pod sent them.
      const quoted = told.map(({ bytes, start }) => readPacket(bytes.subarray(start + 8))!);
      expect(quoted.map(field)).toEqual(sent.map(({ bytes }) => field(readPacket(bytes)!)));
      expect(quoted.map((one) => checksumError(one))).toEqual([0xffff, 0xffff]);
      expect(quoted.map(field)[1]).toBe(0xffff);
    });
