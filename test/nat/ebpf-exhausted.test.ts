/** What becomes of packets when there is no room, or no port; by frames, as no program would send so many. */
import { expect } from "bun:test";
import { ipBytes } from "../../src/address/ip.ts";
import { ebpfCounts } from "../../src/nat/backends/ebpf/flows.ts";
import { testWith } from "../support/witness.ts";
import { packets, readPacket, transportBytes, UDP, type ReadPacket } from "./fuzz/packets.ts";
import { stayOnOneProcessor, type Frame } from "./fuzz/wire.ts";
import { NODE, World, type WorldOptions } from "./fuzz/worlds.ts";

const test = testWith(["root", "real-root", "ip", "nft"]);
const PEER = ipBytes("203.0.113.7");
const NODE_BYTES = ipBytes(NODE[4]);
const RANGE = { first: 20_000, last: 20_063 };
const PORTS = RANGE.last - RANGE.first + 1;
const DROPPED = { full: "dropped: the table of flows is full", ports: "dropped: no free port" } as const;

function worldOf(options: Partial<WorldOptions>): World & Disposable {
  return new World("ebpf", { uplink: "veth", translation: { fullyRandom: false }, ...options });
}

/** A datagram that holds a number. */
function datagram(
  source: Uint8Array,
  destination: Uint8Array,
  ports: readonly [number, number],
  number: number,
): Frame {
  const ends = { source, destination, sourcePort: ports[0], destinationPort: ports[1] };
  const bytes = transportBytes(ends, { protocol: UDP, length: 4 }, { checksum: "zero" }, 0);
  new DataView(bytes.buffer).setUint32(8, number);
  return packets(ends, UDP, bytes, {}, 1)[0]!;
}

interface Seen {
  readonly source: string;
  readonly destination: string;
  readonly port: number;
  readonly number: number;
}

function seen(frames: readonly Frame[]): Seen[] {
  return frames.flatMap(({ bytes }) => {
    const packet: ReadPacket | undefined = readPacket(bytes);
    if (packet?.protocol !== UDP) return [];
    const view = new DataView(bytes.buffer, bytes.byteOffset + packet.start);
    const { source, destination } = packet;
    return [{ source, destination, port: view.getUint16(0), number: view.getUint32(8) }];
  });
}

const pod = (number: number): Uint8Array => ipBytes(`10.9.${number >> 8}.${number & 0xff}`);

/** Sends in portions that the sockets' buffers hold. */
function leaving(world: World, frames: readonly Frame[]): Seen[] {
  const all: Seen[] = [];
  for (let at = 0; at < frames.length; at += 2000)
    all.push(...seen(world.exchange(frames.slice(at, at + 2000), []).outside));
  return all;
}

function counted(world: World, what: string): number {
  return Number(ebpfCounts(world.node)!.get(what));
}

test("many times more flows than there is room for: as many pass as there is room, and all again when those have expired", () => {
  using _processor = stayOnOneProcessor();
  using world = worldOf({ flows: 1024 });
  const frames = Array.from({ length: 20_000 }, (_, index) =>
    datagram(pod(1 + (index % 200)), PEER, [1024 + index, 53], index),
  );
  for (const round of [1, 2]) {
    const came = leaving(world, frames);
    expect(came).toHaveLength(1024);
    expect(new Set(came.map(({ source }) => source))).toEqual(new Set([NODE_BYTES.toHex()]));
    expect(counted(world, DROPPED.full)).toBe(round * (frames.length - 1024));
    world.renew();
  }
});

test("all ports to a destination: so many pass, the others are dropped, and all again when those have expired", () => {
  using _processor = stayOnOneProcessor();
  using world = worldOf({ translation: { fullyRandom: false, ports: RANGE } });
  const frames = Array.from({ length: 200 }, (_, index) => datagram(pod(1 + index), PEER, [5000, 53], index));
  for (const round of [1, 2, 3]) {
    const came = leaving(world, frames);
    expect(new Set(came.map(({ port }) => port)).size).toBe(PORTS);
    expect(came).toHaveLength(PORTS);
    expect(counted(world, DROPPED.ports)).toBe(round * (frames.length - PORTS));
    // Nothing looks at them: who comes next finds that they are over.
    world.renew();
  }
});

test("pods and another product's masquerade race for the same ports: nobody gets another's answer", () => {
  using _processor = stayOnOneProcessor();
  const nft = `table ip docker { chain p { type nat hook postrouting priority srcnat; ip saddr 10.10.0.0/24 udp dport 53 masquerade to :${RANGE.first}-${RANGE.last}; }; }`;
  using world = worldOf({
    translation: { fullyRandom: false, ports: RANGE },
    besides: { lines: [], neighbours: [], nft },
  });
  const senders = Array.from({ length: 100 }, (_, index) =>
    index % 2 === 0 ? pod(1 + index) : ipBytes(`10.10.0.${10 + index}`),
  );
  const came = leaving(
    world,
    senders.map((source, index) => datagram(source, PEER, [6000 + index, 53], index)),
  );
  expect(new Set(came.map(({ source }) => source))).toEqual(new Set([NODE_BYTES.toHex()]));
  expect(new Set(came.map(({ port }) => port)).size).toBe(came.length);
  expect(came.length).toBeGreaterThan(PORTS / 2);
  const answers = came.map(({ port, number }) => datagram(PEER, NODE_BYTES, [53, port], number));
  const got = seen(world.exchange([], answers).pod);
  expect(got.map(({ destination, number }) => [destination, number])).toEqual(
    came.map(({ number }) => [senders[number]!.toHex(), number]),
  );
});
