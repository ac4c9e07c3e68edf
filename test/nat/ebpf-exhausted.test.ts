/** What becomes of packets when there is no room, or no port; by frames, as no program would send so many. */
import { expect } from "bun:test";
import { ipBytes } from "../../src/address/ip.ts";
import { ebpfCounts, ebpfFlows } from "../../src/nat/backends/ebpf/flows.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { afterThisTest } from "../support/teardown.ts";
import { until } from "../support/until.ts";
import { testWith } from "../support/witness.ts";
import { FLAGS, packets, readPacket, TCP, transportBytes, UDP, type ReadPacket } from "./fuzz/packets.ts";
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

/** WAYOUT_EXHAUST_FLOWS: how many; more than a test should take the time for are asked for by hand. */
const MANY = Number(process.env["WAYOUT_EXHAUST_FLOWS"] ?? 20_000);
const ROOM = 1024;
const PORTION = 20_000;

test("many times more flows than there is room for: as many pass as there is room, and all again when those have expired", () => {
  using _processor = stayOnOneProcessor();
  using world = worldOf({ flows: ROOM });
  for (const round of [1, 2]) {
    let passed = 0;
    for (let at = 0; at < MANY; at += PORTION) {
      const frames = Array.from({ length: Math.min(PORTION, MANY - at) }, (_, index) => {
        const number = at + index;
        const ports = [1024 + (number % 60_000), 53] as const;
        return datagram(pod(1 + Math.floor(number / 60_000) * 200 + (number % 200)), PEER, ports, number);
      });
      const came = leaving(world, frames);
      passed += came.length;
      expect(came.every(({ source }) => source === NODE_BYTES.toHex())).toBe(true);
    }
    expect(passed).toBe(ROOM);
    expect(counted(world, DROPPED.full)).toBe(round * (MANY - ROOM));
    world.renew();
  }
}, 600_000);

test("a full table whose flows have all expired is used again at once, with nobody to look after it", async () => {
  using _processor = stayOnOneProcessor();
  using world = worldOf({ flows: ROOM });
  writeSysctl(world.node, "net.netfilter.nf_conntrack_udp_timeout", "1");
  world.apply();
  const frames = Array.from({ length: ROOM }, (_, index) =>
    datagram(pod(1 + index), PEER, [5000, 53], index),
  );
  for (const from of [0, 10_000]) {
    const came = leaving(
      world,
      frames.map((_, index) => datagram(pod(1 + index), PEER, [5000 + from, 53], index)),
    );
    expect(came).toHaveLength(ROOM);
    await until(() => ebpfFlows(world.node)!.length === 0, "all flows expire");
    expect(ebpfFlows(world.node)).toEqual([]);
  }
  expect(counted(world, DROPPED.full)).toBe(0);
}, 180_000);

test("nothing that lives is displaced: in a full table, who talks already goes on talking both ways", () => {
  using _processor = stayOnOneProcessor();
  using world = worldOf({ flows: ROOM });
  const said = datagram(pod(1), PEER, [4000, 53], 7);
  const [first] = leaving(world, [said]);
  leaving(
    world,
    Array.from({ length: 4 * ROOM }, (_, index) => datagram(pod(2), PEER, [5000 + index, 53], index)),
  );
  expect(counted(world, DROPPED.full)).toBe(3 * ROOM + 1);
  for (let round = 0; round < 3; round++) {
    const heard = seen(world.exchange([], [datagram(PEER, NODE_BYTES, [53, first!.port], 8)]).pod);
    expect(heard.map(({ destination, number }) => [destination, number])).toEqual([[pod(1).toHex(), 8]]);
    expect(leaving(world, [said])).toEqual([first!]);
  }
});

test("every port of a range is found, the last as the first", () => {
  using _processor = stayOnOneProcessor();
  const ports = { first: 20_000, last: 21_999 };
  using world = worldOf({ translation: { fullyRandom: false, ports } });
  const count = ports.last - ports.first + 1;
  const came = leaving(
    world,
    Array.from({ length: count }, (_, index) => datagram(pod(1 + index), PEER, [5000, 53], index)),
  );
  expect(new Set(came.map(({ port }) => port)).size).toBe(count);
  expect(counted(world, DROPPED.ports)).toBe(0);
});

test("with nearly all ports to a destination taken, the next flows still find theirs", () => {
  using _processor = stayOnOneProcessor();
  using world = worldOf({ flows: 131_072 });
  const [taken, more] = [63_000, 1000];
  let found = 0;
  for (let at = 0; at < taken + more; at += PORTION) {
    const frames = Array.from({ length: Math.min(PORTION, taken + more - at) }, (_, index) =>
      datagram(pod(1 + at + index), PEER, [5000, 53], at + index),
    );
    found += leaving(world, frames).length;
  }
  expect([found, counted(world, DROPPED.ports)]).toEqual([taken + more, 0]);
}, 180_000);

test("packets that come late, to the node or to the pod itself, keep nobody from being translated", () => {
  using _processor = stayOnOneProcessor();
  using world = worldOf({});
  const { syn, ack, fin, rst } = FLAGS;
  const own = pod(1);
  const segment = (
    source: Uint8Array,
    destination: Uint8Array,
    ports: readonly [number, number],
    flags: number,
  ): Frame => {
    const ends = { source, destination, sourcePort: ports[0], destinationPort: ports[1] };
    const what = { protocol: TCP, flags, seq: 1, ack: 1, length: 0 };
    return packets(ends, TCP, transportBytes(ends, what, {}, 0), {}, 1)[0]!;
  };
  const call = (): string[] =>
    world
      .exchange([segment(own, PEER, [4000, 443], syn)], [])
      .outside.map(({ bytes }) => readPacket(bytes)!)
      .filter(({ protocol }) => protocol === TCP)
      .map(({ source }) => source);
  expect(call()).toEqual([NODE_BYTES.toHex()]);
  world.renew();
  for (const late of [ack, fin | ack, rst | ack, syn | ack, rst]) {
    world.exchange([], [segment(PEER, NODE_BYTES, [443, 4000], late), segment(PEER, own, [443, 4000], late)]);
    expect([late, ...call()]).toEqual([late, NODE_BYTES.toHex()]);
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

test("the node's own programs, pods and another product's masquerade race for the same ports: nobody gets another's answer", async () => {
  using _processor = stayOnOneProcessor();
  const nft = `table ip docker { chain p { type nat hook postrouting priority srcnat; ip saddr 10.10.0.0/24 udp dport 53 masquerade to :${RANGE.first}-${RANGE.last}; }; }`;
  using world = worldOf({
    translation: { fullyRandom: false, ports: RANGE },
    besides: { lines: [], neighbours: [], nft },
  });
  /** What each socket of the node has heard, by its number. */
  const heard = new Map<number, number[]>();
  const hostSends = async (numbers: readonly number[]): Promise<void> => {
    for (const number of numbers) {
      const answers: number[] = [];
      heard.set(number, answers);
      const socket = await world.node.run(() =>
        Bun.udpSocket({
          hostname: NODE[4],
          port: RANGE.first + number * 4,
          socket: { data: (_, bytes) => void answers.push(bytes.readUInt32BE(0)) },
        }),
      );
      afterThisTest(() => socket.close());
      const text = new Uint8Array(4);
      new DataView(text.buffer).setUint32(0, number);
      socket.send(text, 53, "203.0.113.7");
    }
  };
  const [before, after] = [
    Array.from({ length: 8 }, (_, at) => at),
    Array.from({ length: 8 }, (_, at) => at + 8),
  ];
  await hostSends(before);
  const senders = Array.from({ length: 100 }, (_, index) =>
    index % 2 === 0 ? pod(1 + index) : ipBytes(`10.10.0.${10 + index}`),
  );
  const came = leaving(
    world,
    senders.map((source, index) => datagram(source, PEER, [6000 + index, 53], 100 + index)),
  );
  await hostSends(after);
  came.push(...seen(world.exchange([], []).outside));
  const isOfNode = ({ number }: Seen): boolean => number < 100;
  expect(came.filter(isOfNode).map(({ number }) => number)).toEqual([...before, ...after]);
  expect(new Set(came.map(({ source }) => source))).toEqual(new Set([NODE_BYTES.toHex()]));
  expect(new Set(came.map(({ port }) => port)).size).toBe(came.length);
  expect(came.length).toBeGreaterThan(PORTS / 2);
  const answers = came.map(({ port, number }) => datagram(PEER, NODE_BYTES, [53, port], number));
  const got = seen(world.exchange([], answers).pod);
  expect(got.map(({ destination, number }) => [destination, number])).toEqual(
    came.filter((one) => !isOfNode(one)).map(({ number }) => [senders[number - 100]!.toHex(), number]),
  );
  const until = performance.now() + 10_000;
  while ([...heard.values()].some(({ length }) => length === 0) && performance.now() < until)
    await Bun.sleep(20);
  expect([...heard]).toEqual([...before, ...after].map((number) => [number, [number]]));
});
