import { expect } from "bun:test";
import { writeFileSync } from "node:fs";
import type { NetworkNamespace } from "../../../src/kernel/namespace.ts";
import type { PacketFilter } from "../../../src/linux/packet/filter.ts";
import { writePcapng } from "../../../src/linux/packet/pcapng.ts";
import { PacketTap, waitForPackets } from "../../../src/kernel/packet-socket.ts";
import { ask, run, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";

/** Two namespaces joined by a veth pair: 10.9.0.1 and fd09::1 on the left, .2 and ::2 on the right. */
function pair(): { left: NetworkNamespace; right: NetworkNamespace } {
  const left = freshNamespace("left");
  const right = freshNamespace("right");
  ask(left, ["ip", "link", "add", "l0", "type", "veth", "peer", "name", "r0", "netns", right.name!]);
  for (const [namespace, link, last] of [
    [left, "l0", 1],
    [right, "r0", 2],
  ] as const) {
    ask(namespace, ["ip", "addr", "add", `10.9.0.${last}/24`, "dev", link]);
    ask(namespace, ["ip", "-6", "addr", "add", `fd09::${last}/64`, "dev", link, "nodad"]);
    ask(namespace, ["ip", "link", "set", link, "up"]);
  }
  return { left, right };
}

const ping = (namespace: NetworkNamespace, to: string, ...more: string[]): void => {
  run(namespace, ["ping", "-c1", "-W1", ...more, to]);
};

/** Sends one UDP datagram from a program of its own, so that the tap sees what anybody sends. */
const udp = (namespace: NetworkNamespace, to: string, port: number): void => {
  run(namespace, ["bash", "-c", `echo hello > /dev/udp/${to}/${port}`]);
};

testWith(["root", "ping"])("a tap sees both directions, with times, in order", () => {
  const { left } = pair();
  using tap = PacketTap.open(left, { interfaces: ["l0"], filter: { protocol: "icmp" } });
  const before = Date.now() * 1000;
  ping(left, "10.9.0.2");
  const packets = tap.read(1000);
  expect(packets.map((p) => [p.direction, p.summary.replace(/id \d+/, "id N")])).toEqual([
    ["out", "10.9.0.1 → 10.9.0.2 icmp echo request id N seq 1"],
    ["host", "10.9.0.2 → 10.9.0.1 icmp echo reply id N seq 1"],
  ]);
  expect(packets[0]!.timeUs).toBeGreaterThan(before - 1000);
  expect(packets[1]!.timeUs).toBeGreaterThan(packets[0]!.timeUs);
  expect(packets[1]!.timeUs - packets[0]!.timeUs).toBeLessThan(1_000_000);
  expect(packets[0]!.interface).toBe("l0");
  expect(tap.lost()).toBe(0);
});

testWith(["root", "ping"])("filters keep what they mean and nothing else", () => {
  const { left, right } = pair();
  ask(right, ["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0"]);
  // Neighbours are known before the taps open.
  ping(left, "10.9.0.2");
  ping(left, "fd09::2");
  const seen = (filter: PacketFilter): string[] => {
    using tap = PacketTap.open(right, { interfaces: ["r0"], filter });
    udp(left, "10.9.0.2", 5353);
    udp(left, "10.9.0.2", 53);
    ping(left, "10.9.0.2");
    ping(left, "fd09::2");
    const packets = tap.read(100);
    return [
      ...new Set(packets.map((p) => p.summary.replace(/:(3|4|5|6)\d{4}/g, ":P").replace(/ id .*/, ""))),
    ];
  };
  expect(seen({ protocol: "udp", port: 53 })).toEqual(["10.9.0.1:P → 10.9.0.2:53 udp 6 bytes"]);
  expect(seen({ protocol: "udp", destinationPort: 5353, source: "10.9.0.0/30" })).toEqual([
    "10.9.0.1:P → 10.9.0.2:5353 udp 6 bytes",
  ]);
  expect(seen({ protocol: "udp", source: "10.9.0.128/25" })).toEqual([]);
  expect(seen({ icmpErrors: true })).toEqual([
    "10.9.0.2 → 10.9.0.1 icmp port unreachable about (10.9.0.1:P → 10.9.0.2:5353 udp 6 bytes)",
    "10.9.0.2 → 10.9.0.1 icmp port unreachable about (10.9.0.1:P → 10.9.0.2:53 udp 6 bytes)",
  ]);
  expect(seen({ protocol: "icmpv6", source: "fd09::1", destination: "fd09::/64" })).toEqual([
    "fd09::1 → fd09::2 icmpv6 echo request",
  ]);
  expect(
    seen([
      { protocol: "udp", port: 53 },
      { protocol: "icmp", host: "10.9.0.1" },
    ]),
  ).toHaveLength(3 + 2);
});

testWith(["root"])("of TCP connections only their beginning", async () => {
  const { left, right } = pair();
  const server = right.run(() => Bun.listen({ port: 80, hostname: "::", socket: { data() {} } }));
  try {
    using tap = PacketTap.open(right, { filter: { tcpSyn: true } });
    for (const hostname of ["10.9.0.2", "fd09::2"]) {
      const socket = await left.run(() => Bun.connect({ hostname, port: 80, socket: { data() {} } }));
      socket.write("more packets");
      socket.end();
    }
    expect(tap.read(100).map((packet) => packet.summary.replace(/^.* tcp /, ""))).toEqual([
      "SYN",
      "SYN,ACK",
      "SYN",
      "SYN,ACK",
    ]);
  } finally {
    server.stop(true);
  }
});

testWith(["root", "ping"])(
  "several taps are waited for together, and all interfaces can be had at once",
  () => {
    const { left, right } = pair();
    using near = PacketTap.open(left, { filter: { protocol: "icmp" } });
    using far = PacketTap.open(right, { filter: { protocol: "arp" } });
    expect(waitForPackets([near, far], 0)).toBe(false);
    ping(left, "10.9.0.2");
    expect(waitForPackets([near, far], 1000)).toBe(true);
    expect(near.read().map((p) => p.interface)).toEqual(["l0", "l0"]);
    const arp = far.read().map((p) => p.summary);
    expect(arp[0]).toBe("arp who has 10.9.0.2? tell 10.9.0.1");
    expect(arp[1]).toMatch(/^arp 10\.9\.0\.2 is at /);
  },
);

testWith(["root", "ping"])("what does not fit into the buffer is counted, never silently gone", () => {
  const { left } = pair();
  using tap = PacketTap.open(left, {
    interfaces: ["l0"],
    filter: { protocol: "icmp" },
    bufferBytes: 4096,
  });
  run(left, ["ping", "-c200", "-i0.001", "-s1400", "10.9.0.2"]);
  const seen = tap.read(100).length;
  expect(seen).toBeGreaterThan(0);
  expect(seen + tap.lost()).toBe(400);
});

testWith(["root"])("an interface that does not exist is named", () => {
  const namespace = freshNamespace();
  expect(() => PacketTap.open(namespace, { interfaces: ["nosuch0"] })).toThrow(/nosuch0: no such device/);
});

// tcpdump gives up its privileges, which root of a user namespace cannot.
testWith(["real-root", "ping", "tcpdump"])("tcpdump reads the file as we read the packets", async () => {
  const { left, right } = pair();
  using near = PacketTap.open(left, { interfaces: ["l0"], filter: { family: 4 } });
  using far = PacketTap.open(right, { interfaces: ["r0"], filter: { family: 4 } });
  ping(left, "10.9.0.2", "-s", "99");
  const frames = [
    ...near.read(500).map((p) => ({ ...p, place: "left/l0" })),
    ...far.read(500).map((p) => ({ ...p, place: "right/r0" })),
  ];
  const file = `/tmp/wayout-test-${process.pid}.pcapng`;
  writeFileSync(
    file,
    writePcapng(
      frames.map((frame) => ({
        ...frame,
        direction: frame.direction === "out" ? "out" : "in",
        comment: frame.place,
      })),
      "wayout test",
    ),
  );
  try {
    const lines = ask(undefined, ["tcpdump", "--nano", "-ttnr", file]).trim().split("\n");
    expect(lines).toHaveLength(4);
    expect(lines[0]).toContain("10.9.0.1 > 10.9.0.2: ICMP echo request");
    expect(lines[0]).toContain("length 107");
    expect(lines[3]).toContain("10.9.0.2 > 10.9.0.1: ICMP echo reply");
    const [seconds, nanoseconds] = lines[0]!.split(" ")[0]!.split(".").map(Number);
    expect(Math.abs(seconds! * 1e6 + nanoseconds! / 1000 - frames[0]!.timeUs)).toBeLessThan(1);
  } finally {
    await Bun.file(file).delete();
  }
});
