/** Our reading of the connection tracking table against conntrack(8)'s. */
import { describe, expect } from "bun:test";
import { Conntrack } from "../../../src/kernel/conntrack/conntrack.ts";
import { openForDump } from "../../../src/kernel/conntrack/large-dump.ts";
import type { ConntrackFilter } from "../../../src/linux/conntrack/filter.ts";
import { passes } from "../../../src/linux/conntrack/filter.ts";
import { IPS } from "../../../src/linux/conntrack/status.ts";
import { ask, run, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";
import { asListed, listed } from "./as-conntrack.ts";
import { MADE, makeEntries, podWorld, trackingNamespace } from "./tracked-world.ts";

const test = testWith(["root", "conntrack", "nft", "ip"]);

describe("listing", () => {
  test("every kind of entry reads as conntrack -L prints it", () => {
    const namespace = trackingNamespace();
    makeEntries(namespace);
    using table = Conntrack.open(namespace);
    const entries = table.entries();
    expect(entries).toHaveLength(MADE.length);
    expect(asListed(entries)).toEqual(listed(namespace));
  });

  test("timestamps are those of conntrack's XML", () => {
    const namespace = trackingNamespace();
    makeEntries(namespace);
    using table = Conntrack.open(namespace);
    const xml = ask(namespace, ["conntrack", "-L", "-o", "xml,id,ktimestamp", "-f", "ipv4"]);
    const started = new Map(
      [...xml.matchAll(/<id>(\d+)<\/id>.*?<start>(\d+)<\/start>/g)].map(([, id, start]) => [
        Number(id),
        Number(BigInt(start!) / 1000n) / 1000,
      ]),
    );
    const ours = new Map(table.entries({ family: 4 }).map((entry) => [entry.id, entry.startedAtMs!]));
    expect(ours.size).toBeGreaterThan(5);
    expect(ours).toEqual(started);
  });

  test("flows of a pod through masquerade and DNAT read the same, counters and helper included", async () => {
    const { pod, node, outside } = podWorld();
    const server = outside.run(() =>
      Bun.listen({
        hostname: "198.51.100.80",
        port: 80,
        socket: { data: (socket) => void socket.end("hello") },
      }),
    );
    const ftp = outside.run(() => Bun.listen({ hostname: "198.51.100.80", port: 21, socket: { data() {} } }));
    const server6 = outside.run(() =>
      Bun.listen({
        hostname: "2001:db8::1",
        port: 80,
        socket: { data: (socket) => void socket.end("hello") },
      }),
    );
    try {
      for (const [hostname, port] of [
        ["198.51.100.80", 80],
        ["203.0.113.200", 80],
        ["198.51.100.80", 21],
        ["2001:db8::1", 80],
      ] as const) {
        await connectOnce(() => pod.run(() => Bun.connect({ hostname, port, socket: CLIENT })), port !== 21);
      }
      ask(pod, ["ping", "-c1", "-W5", "198.51.100.80"]);
      ask(pod, ["ping", "-c1", "-W5", "2001:db8::1"]);
    } finally {
      for (const one of [server, ftp, server6]) one.stop(true);
    }
    using table = Conntrack.open(node);
    const entries = table.entries();
    expect(asListed(entries)).toEqual(listed(node));
    const http = entries.find(
      (entry) => entry.original.destination === "198.51.100.80" && entry.original.destinationPort === 80,
    );
    expect(http).toMatchObject({
      protocolName: "tcp",
      original: { source: "10.0.0.1" },
      reply: { source: "198.51.100.80", destination: "203.0.113.5" },
    });
    expect(http!.flags).toContain("src-nat");
    expect(http!.counters!.original.packets).toBeGreaterThan(2);
    const service = entries.find((entry) => entry.original.destination === "203.0.113.200");
    expect(service).toMatchObject({ reply: { source: "198.51.100.80", destination: "203.0.113.5" } });
    expect(service!.flags).toEqual(expect.arrayContaining(["src-nat", "dst-nat"]));
    const ping = entries.find((entry) => entry.protocolName === "icmp");
    expect(ping).toMatchObject({ mark: 0x2a, original: { icmpType: 8 }, reply: { icmpType: 0 } });
    expect(entries.some((entry) => entry.family === 6 && entry.reply.destination === "2001:db8::5")).toBe(
      true,
    );
    if (ask(node, ["nft", "list", "ruleset"]).includes("ct helper set")) {
      expect(entries.find((entry) => entry.original.destinationPort === 21)?.helper).toBe("ftp");
    }
  });
});

/** The client asks and reads to the end; `whole` is false for a server that says nothing. */
const CLIENT = {
  open(socket: Bun.Socket): void {
    socket.write("GET\n");
  },
  data(): void {},
};

async function connectOnce(connect: () => Promise<Bun.Socket>, whole: boolean): Promise<void> {
  const socket = await connect();
  if (whole) for (let i = 0; i < 100 && socket.readyState > 0; i++) await Bun.sleep(10);
  socket.terminate();
}

/** Filters that the kernel understands, with what conntrack(8) calls them. */
const FILTERS: readonly (readonly [string, ConntrackFilter, readonly string[]])[] = [
  ["family", { family: 6 }, ["-f", "ipv6"]],
  ["protocol", { protocol: 6 }, ["-p", "tcp"]],
  ["mark", { mark: { value: 7 } }, ["--mark", "7"]],
  ["mark and mask", { mark: { value: 3, mask: 3 } }, ["--mark", "3/3"]],
  ["zone", { zone: 9 }, ["-w", "9"]],
  ["IPv4 source", { original: { source: "10.0.0.1" } }, ["-f", "ipv4", "-s", "10.0.0.1"]],
  ["IPv6 source", { original: { source: "fd00::1" } }, ["-f", "ipv6", "-s", "fd00::1"]],
  ["reply destination", { reply: { destination: "203.0.113.5" } }, ["-f", "ipv4", "-q", "203.0.113.5"]],
  [
    "port",
    { protocol: 6, family: 4, original: { destinationPort: 443 } },
    ["-f", "ipv4", "-p", "tcp", "--dport", "443"],
  ],
  ["status", { status: { value: IPS.ASSURED, mask: IPS.ASSURED } }, ["-u", "ASSURED"]],
  ["translated source", { status: { value: IPS.SRC_NAT, mask: IPS.SRC_NAT } }, ["--src-nat"]],
];

describe("filters", () => {
  for (const [name, filter, options] of FILTERS) {
    test(`by ${name} gives what conntrack -L ${options.join(" ")} does`, () => {
      const namespace = trackingNamespace();
      makeEntries(namespace);
      using table = Conntrack.open(namespace);
      const found = table.entries(filter);
      expect(found.length).toBeGreaterThan(0);
      expect(found.length).toBeLessThan(MADE.length);
      expect(asListed(found)).toEqual(listed(namespace, options));
    });
  }

  test("what the kernel hands over holds all that pass, whatever the filter", () => {
    const namespace = trackingNamespace();
    makeEntries(namespace);
    using table = Conntrack.open(namespace);
    const all = table.entries();
    const tuples = all.flatMap(({ original, reply, protocol, family }) =>
      (["original", "reply"] as const).flatMap((direction): ConntrackFilter[] => {
        const { source, destination, sourcePort, destinationPort } =
          direction === "original" ? original : reply;
        const ports = {
          ...(sourcePort === undefined ? {} : { sourcePort }),
          ...(destinationPort === undefined ? {} : { destinationPort }),
        };
        return [
          { [direction]: { source } },
          { [direction]: { destination, ...ports } },
          { family, protocol, [direction]: { source, destination, ...ports } },
        ];
      }),
    );
    const unreplied = { status: { value: 0, mask: IPS.SEEN_REPLY } };
    for (const filter of [...tuples, unreplied, { zone: 7 }, { zone: 8 }, { zone: 0 }]) {
      const ids = (entries: readonly { id: number }[]): number[] =>
        entries.map((entry) => entry.id).sort((a, b) => a - b);
      const expected = all.filter((entry) => passes(entry, filter));
      expect(expected.length).toBeGreaterThan(0);
      expect(ids(table.entries(filter))).toEqual(ids(expected));
    }
  });
});

describe("single entries", () => {
  test("each is found by either tuple, and only while it is there", () => {
    const namespace = trackingNamespace();
    makeEntries(namespace);
    using table = Conntrack.open(namespace);
    for (const entry of table.entries()) {
      const { zone, original, reply } = entry;
      expect(table.get(original, { zone })?.id).toBe(entry.id);
      expect(table.get(reply, { direction: "reply", zone })?.id).toBe(entry.id);
      expect(table.delete(original, { zone })).toBe(true);
      expect(table.get(original, { zone })).toBeUndefined();
      expect(table.delete(original, { zone })).toBe(false);
    }
    expect(listed(namespace)).toEqual([]);
  });

  test("deleting by identity leaves a newer entry with the same tuple alone", () => {
    const namespace = trackingNamespace();
    const make = (): string => ask(namespace, ["conntrack", "-I", "-t", "1000", ...MADE[0]!]);
    make();
    using table = Conntrack.open(namespace);
    const [old] = table.entries();
    expect(table.deleteEntries([old!])).toBe(1);
    make();
    const [newer] = table.entries();
    if (newer!.id !== old!.id) {
      expect(table.deleteEntries([old!])).toBe(0);
      expect(table.entries().map((entry) => entry.id)).toEqual([newer!.id]);
    }
    expect(table.deleteEntries([newer!])).toBe(1);
  });

  test("flush ends what passes the filter, and everything without one", () => {
    const namespace = trackingNamespace();
    makeEntries(namespace);
    using table = Conntrack.open(namespace);
    const udp = table.entries({ protocol: 17 }).length;
    expect(table.flush({ protocol: 17 })).toBe(udp);
    expect(table.entries()).toHaveLength(MADE.length - udp);
    expect(listed(namespace, ["-f", "ipv4", "-p", "udp"])).toEqual([]);
    expect(table.flush()).toBe(MADE.length - udp);
    expect(listed(namespace)).toEqual([]);
  });
});

test("statistics are those of conntrack -C, -S and the sysctl", () => {
  const namespace = trackingNamespace();
  makeEntries(namespace);
  using table = Conntrack.open(namespace);
  const { entries, maximum, perCpu } = table.statistics();
  expect(entries).toBe(Number(ask(namespace, ["conntrack", "-C"])));
  expect(maximum).toBe(Number(ask(namespace, ["sysctl", "-n", "net.netfilter.nf_conntrack_max"])));
  const lines = perCpu.map(
    (cpu) =>
      `cpu=${cpu.cpu} found=${cpu.found} invalid=${cpu.invalid} insert=${cpu.insert} insert_failed=${cpu.insertFailed} ` +
      `drop=${cpu.drop} early_drop=${cpu.earlyDrop} error=${cpu.error} search_restart=${cpu.searchRestart} ` +
      `clash_resolve=${cpu.clashResolve} chaintoolong=${cpu.chainTooLong}`,
  );
  const theirs = ask(namespace, ["conntrack", "-S"]).trim().split("\n");
  expect(lines).toEqual(theirs.map((line) => line.replace(/\s+/g, " ").trim()));
  expect(perCpu.reduce((sum, cpu) => sum + cpu.insert, 0)).toBe(MADE.length);
});

test("a dump by a second thread gives the same entries", () => {
  const namespace = trackingNamespace();
  makeEntries(namespace);
  using table = Conntrack.open(namespace);
  using ahead = openForDump(namespace);
  expect(asListed(ahead.entries())).toEqual(asListed(table.entries()));
});

test("a second thread waits for a slow reader, and nothing is lost or mixed up", () => {
  const namespace = trackingNamespace();
  // More datagrams than the two threads have room for between them: 4 MiB, of 164 bytes an entry.
  const ports = Array.from({ length: 40_000 }, (_, index) => index + 1);
  const lines = ports.map(
    (port) => `-A -t 1000 -p udp -s 10.0.0.1 -d 198.51.100.80 --sport ${port} --dport 53\n`,
  );
  ask(namespace, ["conntrack", "-R", "-"], lines.join(""));
  using ahead = openForDump(namespace);
  const seen: number[] = [];
  ahead.scan((scan) => {
    // Long enough for the other thread to fill all there is to fill.
    if (seen.length === 0) Bun.sleepSync(300);
    seen.push(scan.original.sourcePort);
  });
  expect(seen.sort((a, b) => a - b)).toEqual(ports);
});

test("a visitor that throws ends the dump at once, and the socket stays usable", () => {
  const namespace = trackingNamespace();
  makeEntries(namespace);
  using table = Conntrack.open(namespace);
  const begun = performance.now();
  expect(() =>
    table.visit(() => {
      throw new Error("enough");
    }),
  ).toThrow("enough");
  expect(performance.now() - begun).toBeLessThan(5000);
  expect(table.entries()).toHaveLength(MADE.length);
});

test("a namespace that tracks nothing has an empty table", () => {
  const namespace = freshNamespace("idle");
  run(namespace, ["ping", "-c1", "-W1", "127.0.0.1"]);
  using table = Conntrack.open(namespace);
  expect(table.entries()).toEqual([]);
  expect(table.statistics().entries).toBe(0);
});
