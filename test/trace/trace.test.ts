/** Paths that work, in every form; what a trace leaves behind; what it says to bad input. */
import { afterEach, expect, test } from "bun:test";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { writePcapng } from "../../src/linux/packet/pcapng.ts";
import { tracePage } from "../../src/trace/show/page.ts";
import { trace } from "../../src/trace/trace.ts";
import type { TraceReport } from "../../src/trace/report.ts";
import { until } from "../support/until.ts";
import { ask, isRealRoot, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { makeWorld, type PodWorld } from "./world.ts";

let world: PodWorld;

afterEach(async () => {
  await world?.[Symbol.asyncDispose]();
});

const MAIN = join(import.meta.dir, "..", "..", "src", "main.ts");

const statuses = (report: TraceReport): string[] => report.steps.map((step) => step.status);

testWith(["root", "nft"])("a healthy path: nine steps, each with its evidence", async () => {
  world = await makeWorld();
  world.nft(`table inet guard {
    chain fw {
      type filter hook forward priority filter
      ct state established,related accept comment "known"
      ip saddr 10.20.0.0/24 accept comment "pods may leave"
    }
  }`);
  const report = world.trace();
  expect(report.outcome).toBe("answered");
  expect(statuses(report)).toEqual(Array.from({ length: 9 }, () => "proven"));
  expect(report.path.map((place) => place.name)).toEqual([
    world.pod.name!,
    "veth-pod",
    "lan0",
    "node",
    "ens4",
    "outside",
  ]);
  expect(report.translation).toMatchObject({
    before: expect.stringMatching(/^10\.20\.0\.2:\d+$/),
    after: expect.stringMatching(/^203\.0\.113\.2:\d+$/),
    rule: { family: "inet", table: "nat", chain: "postrouting" },
  });
  const order = report.sightings.map(({ heading, interface: name }) => `${heading} ${name}`);
  expect(order).toEqual([
    "out net1",
    "out veth-pod",
    "out lan0",
    "out ens4",
    "back ens4",
    "back lan0",
    "back veth-pod",
    "back net1",
  ]);
  const forward = JSON.stringify(report.steps[2]!.evidence);
  expect(forward).toContain("net.ipv4.ip_forward = 1");
  expect(forward).toContain("iif lan0 to 198.51.100.80 via 203.0.113.1 dev ens4");
  expect(forward).toContain("inet guard fw (forward, priority 0): accept");
  expect(JSON.stringify(report.steps[4])).toContain("ESTABLISHED");
  expect(report.roundTripUs).toBeGreaterThan(0);
  expect(report.roundTripUs).toBeLessThan(1_000_000);
});

testWith(["root", "nft"])("UDP, ICMP, HTTP, IPv6, a refusal", async () => {
  world = await makeWorld({ ipv6: true });
  const ask = (destination: string, protocol?: string): TraceReport =>
    world.trace({ destination, timeoutMs: 3000, ...(protocol === undefined ? {} : { protocol }) });
  for (const report of [
    ask("198.51.100.80:53", "udp"),
    ask("198.51.100.80:9999", "udp"),
    ask("198.51.100.80", "icmp"),
    ask("http://198.51.100.80/"),
    ask("2001:db8:198::80"),
    ask("2001:db8:198::80", "icmp"),
    ask("[2001:db8:198::80]:53", "udp"),
  ]) {
    expect([report.destination, report.stop, statuses(report).join()]).toEqual([
      report.destination,
      undefined,
      Array.from({ length: 9 }, () => "proven").join(),
    ]);
  }
  expect(ask("http://198.51.100.80/").answer).toMatch(/^HTTP\/1\.1 200 OK, \d+ bytes$/);
  // Connects and says nothing.
  expect(world.trace({ destination: "http://198.51.100.80:8080/", timeoutMs: 300 }).stop).toMatchObject({
    step: 7,
    code: "request-unanswered",
  });
  const refused = ask("198.51.100.80:22");
  expect([refused.outcome, refused.answer]).toEqual(["refused", "connection refused"]);
  expect(ask("198.51.100.80:7777", "udp").stop).toMatchObject({ step: 8, code: "answer-from-elsewhere" });
});

testWith(["root", "nft"])(
  "a point-to-point veth without a bridge; the node itself; no rules at all",
  async () => {
    world = await makeWorld({ wiring: "ptp", ipv6: true });
    for (const request of [{}, { protocol: "icmp" }]) {
      const v6 = world.trace({ destination: "2001:db8:198::80", timeoutMs: 3000, ...request });
      expect([v6.stop, statuses(v6).join()]).toEqual([
        undefined,
        Array.from({ length: 9 }, () => "proven").join(),
      ]);
      expect(v6.path.map((place) => place.kind)).toEqual(["pod", "veth", "node", "uplink", "outside"]);
    }
    const report = world.trace();
    expect(report.outcome).toBe("answered");
    expect(report.path.map((place) => place.kind)).toEqual(["pod", "veth", "node", "uplink", "outside"]);
    expect(statuses(report)).toEqual(Array.from({ length: 9 }, () => "proven"));
    const local = world.trace({ destination: "10.20.0.1:9" });
    expect(local.outcome).toBe("refused");
    expect(local.steps[2]).toMatchObject({ status: "not-needed" });
    ask(world.node, ["nft", "flush", "ruleset"]);
    ask(world.internet, ["ip", "route", "add", "10.20.0.0/24", "via", "203.0.113.2"]);
    const routed = world.trace();
    expect(routed.outcome).toBe("answered");
    expect(statuses(routed).slice(3, 5)).toEqual(["not-needed", "not-needed"]);
  },
);

testWith(["root", "nft"])("a macvlan pod, and a neighbour on the same bridge", async () => {
  world = await makeWorld();
  const [lone, neighbour] = [freshNamespace("lone"), freshNamespace("near")];
  const ip = (namespace: NetworkNamespace, line: string): string =>
    ask(namespace, ["ip", ...line.split(" ")]);
  ip(world.node, `link add link ens4 name mv0 type macvlan mode bridge`);
  ip(world.node, `link set mv0 netns ${lone.name} name net1`);
  ip(lone, "addr add 203.0.113.77/24 dev net1");
  ip(lone, "link set net1 up");
  ip(lone, "route add default via 203.0.113.1");
  const past = world.trace({ pod: lone.name! });
  expect(past.outcome).toBe("answered");
  expect(statuses(past).join()).toBe(
    "proven,not-needed,not-needed,not-needed,not-needed,proven,proven,not-needed,proven",
  );
  ip(world.node, `link add veth-near type veth peer name net1 netns ${neighbour.name}`);
  ip(world.node, "link set veth-near master lan0 up");
  ip(neighbour, "addr add 10.20.0.3/24 dev net1");
  ip(neighbour, "link set net1 up");
  const near = world.trace({ destination: "10.20.0.3", protocol: "icmp" });
  expect(near.outcome).toBe("answered");
  expect(near.steps[1]!.text).toContain("switched within lan0");
  expect(near.steps[2]!.status).toBe("not-needed");
});

testWith(["root", "iptables-nft", "iptables-legacy"])("who translated it, when iptables did", async () => {
  for (const program of ["iptables-nft", "iptables-legacy"]) {
    world = await makeWorld({ nat: false });
    world.in("node", program, "-t", "nat", "-A", "POSTROUTING", "-s", "10.20.0.0/24", "-j", "MASQUERADE");
    const report = world.trace();
    const step = report.steps[3]!;
    expect([program, report.outcome, step.status, JSON.stringify(step.evidence)]).toEqual([
      program,
      "answered",
      "proven",
      expect.stringMatching(
        program === "iptables-nft"
          ? /masquerade.*chain POSTROUTING in table ip nat/i
          : /POSTROUTING -s 10\.20\.0\.0\/24 -j MASQUERADE/,
      ),
    ]);
    await world[Symbol.asyncDispose]();
  }
});

testWith(["root", "nft"])("traffic that flows by itself is followed", async () => {
  world = await makeWorld();
  const ping = world.pod.run(() =>
    Bun.spawn(["ping", "-i", "0.2", "-c", "20", "198.51.100.80"], { stdout: "ignore" }),
  );
  try {
    const report = world.trace({
      destination: "198.51.100.80",
      protocol: "icmp",
      listen: true,
      timeoutMs: 3000,
    });
    expect(report.outcome).toBe("answered");
    expect(statuses(report).filter((status) => status === "proven").length).toBeGreaterThanOrEqual(7);
  } finally {
    ping.kill(9);
    await ping.exited;
  }
  expect(() =>
    world.trace({ destination: "198.51.100.81", protocol: "icmp", listen: true, timeoutMs: 100 }),
  ).toThrow(expect.objectContaining({ code: "nothing-flows" }));
});

testWith(["real-root", "nft"])("a name is resolved as the pod does", async () => {
  world = await makeWorld();
  const own = `/etc/netns/${world.pod.name}`;
  mkdirSync(own, { recursive: true });
  await Bun.write(`${own}/resolv.conf`, "search example\nnameserver 198.51.100.80\n");
  try {
    expect(world.trace({ destination: "api.github.com:443" })).toMatchObject({
      outcome: "answered",
      destination: { host: "api.github.com", address: "198.51.100.80", nameserver: "198.51.100.80" },
    });
    expect(() => world.trace({ destination: "api.github.com:443", family: 6 })).toThrow(/no AAAA record/);
    await Bun.write(`${own}/resolv.conf`, "nameserver 198.51.100.81\n");
    expect(() => world.trace({ destination: "api.github.com:443", timeoutMs: 200 })).toThrow(
      expect.objectContaining({ code: "name-not-resolved", kind: "broken" }),
    );
  } finally {
    rmSync(own, { recursive: true });
  }
  const hosts = await Bun.file("/etc/hosts").text();
  await Bun.write("/etc/hosts", `${hosts}\n198.51.100.80 site.example\n`);
  try {
    expect(world.trace({ destination: "site.example:443" })).toMatchObject({
      outcome: "answered",
      destination: { host: "site.example", address: "198.51.100.80" },
    });
  } finally {
    await Bun.write("/etc/hosts", hosts);
  }
});

testWith(["root", "nft"])("nothing of others is changed: rules, counters, settings, namespaces", async () => {
  world = await makeWorld();
  world.nft(`table inet guard {
    chain elsewhere {
      type filter hook forward priority filter
      ip daddr 192.0.2.1 counter drop
    }
  }`);
  const state = (): string[] => [
    ...[world.node, world.pod].flatMap((namespace) => [
      ask(namespace, ["nft", "-a", "list", "ruleset"]),
      ask(namespace, ["sysctl", "-a", "--pattern", "forward|rp_filter|nf_conntrack_(acct|events|max)"]),
      ask(namespace, ["ip", "route"]),
      ask(namespace, ["ip", "link"]).replace(/qlen \d+/g, ""),
    ]),
    ask(undefined, ["ip", "netns"]),
  ];
  const before = state();
  world.trace();
  world.trace({ destination: "198.51.100.81:443", timeoutMs: 100 });
  expect(state()).toEqual(before);
});

testWith(["root", "nft"])(
  "a killed trace leaves nothing, and an older kernel's leftover is removed at the next start",
  async () => {
    world = await makeWorld();
    ask(world.internet, ["ip", "addr", "del", "198.51.100.80/32", "dev", "lo"]);
    const child = Bun.spawn(
      [process.execPath, MAIN, "trace", world.pod.name!, "198.51.100.80", "--timeout", "20000"],
      { stdout: "ignore", stderr: "ignore" },
    );
    const tables = (): string => ask(world.node, ["nft", "list", "tables"]);
    await until(() => tables().includes("wayout-trace"), "it traces");
    child.kill(9);
    await child.exited;
    await until(() => !tables().includes("wayout-trace"), "its table is gone");
    // A table that no socket owns, as a kernel before 5.12 would keep it, of a process that is gone.
    world.nft(`table inet wayout-trace-${child.pid}-1 {
  }`);
    world.trace({ timeoutMs: 50 });
    expect(tables()).not.toContain("wayout-trace");
  },
);

testWith(["root", "nft"])("many other flows to the same destination do not confuse it", async () => {
  world = await makeWorld();
  const flood = world.pod.run(() =>
    Bun.spawn(
      [
        process.execPath,
        "-e",
        // Few at a time: the server's queue must not overflow, or an answer would be missing in earnest.
        `console.log("ready");
         for (let round = 0; round < 200; round++) {
           const sockets = await Promise.all(
             Array.from({ length: 50 }, () => Bun.udpSocket({ socket: { data() {}, error() {} } })),
           );
           for (const socket of sockets) for (const port of [9999, 53]) socket.send("x", port, "198.51.100.80");
           await Bun.sleep(2);
           for (const socket of sockets) socket.close();
         }`,
      ],
      { stdout: "pipe", stderr: "inherit" },
    ),
  );
  await flood.stdout.getReader().read();
  const rules = (): string => ask(world.node, ["nft", "-a", "list", "ruleset"]);
  const before = rules();
  const reports: TraceReport[] = [];
  while (flood.exitCode === null && reports.length < 12) {
    reports.push(world.trace({ destination: "198.51.100.80:9999", protocol: "udp", timeoutMs: 2000 }));
    await Bun.sleep(50);
  }
  await flood.exited;
  expect(reports.length).toBeGreaterThan(0);
  expect(rules()).toBe(before);
  for (const report of reports) {
    expect([report.stop?.reason, statuses(report).join()]).toEqual([
      undefined,
      Array.from({ length: 9 }, () => "proven").join(),
    ]);
    const ports = new Set(
      report.sightings.flatMap(({ summary }) =>
        [...summary.matchAll(/10\.20\.0\.2:(\d+)/g)].map((m) => m[1]),
      ),
    );
    expect(ports.size).toBe(1);
  }
  const entries = Number(ask(world.node, ["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]));
  expect(entries).toBeGreaterThan(10_000);
});

// tcpdump gives up its privileges, which root of a user namespace cannot.
testWith(["real-root", "nft", "tcpdump"])(
  "the packets as a file that tcpdump reads, the report as a page",
  async () => {
    world = await makeWorld();
    const { report, packets } = trace({ pod: world.pod.name!, destination: "198.51.100.80" });
    const file = `/tmp/wayout-trace-${process.pid}.pcapng`;
    try {
      await Bun.write(
        file,
        writePcapng(
          packets.map((packet) => ({
            ...packet,
            place: `${packet.where}/${packet.interface}`,
            direction: packet.direction === "out" ? "out" : "in",
          })),
          "wayout",
        ),
      );
      const lines = ask(undefined, ["tcpdump", "-nr", file]).split("\n");
      const syns = lines.filter((line) => line.includes("Flags [S],"));
      expect(syns.map((line) => / IP (\S+)\.\d+ >/.exec(line)?.[1])).toEqual([
        "10.20.0.2",
        "10.20.0.2",
        "10.20.0.2",
        "203.0.113.2",
      ]);
    } finally {
      await Bun.file(file).delete();
    }
    const page = tracePage({ ...report, answer: '<script>alert("x")</script>' });
    expect(page).not.toContain("<script");
    expect(page).not.toMatch(/(src|href)=|url\(|@import|https?:\/\/(?!www\.w3\.org)/);
    expect(page).toContain("203.0.113.2");
  },
);

testWith(["root", "nft"])("whoever may not enter the pod is told so", async () => {
  world = await makeWorld();
  const ran = run(undefined, [
    "unshare",
    "-Ur",
    process.execPath,
    MAIN,
    "trace",
    world.pod.name!,
    "198.51.100.80",
    "--json",
  ]);
  // A user namespace below ours may not enter the pod's.
  expect(ran.exitCode).toBe(3);
  expect(JSON.parse(ran.stdout)).toMatchObject({ error: { code: "no-privilege", kind: "machine" } });
});

testWith(["root"])("bad input: code, exit code, and what to do", async () => {
  world = await makeWorld({ nat: false });
  const cases: [string[], number, string][] = [
    [["no-such-pod", "198.51.100.80"], 2, "unknown-pod"],
    [[world.pod.name!, "300.1.2.3"], 2, "bad-destination"],
    [[world.pod.name!, "https://198.51.100.80/"], 2, "bad-destination"],
    [[world.pod.name!, "198.51.100.80:99999"], 2, "bad-destination"],
    [[world.pod.name!, "198.51.100.80", "--proto", "sctp"], 2, "usage"],
    [[world.pod.name!, "198.51.100.80", "--size", "x"], 2, "usage"],
    [[world.pod.name!, "does.not.exist.example", "--timeout", "100"], 1, "name-not-resolved"],
  ];
  for (const [args, exitCode, code] of cases) {
    const ran = run(world.node, [process.execPath, MAIN, "trace", ...args, "--json"]);
    expect([
      args.slice(1),
      ran.exitCode,
      (JSON.parse(ran.stdout) as { error: { code: string } }).error.code,
    ]).toEqual([args.slice(1), exitCode, code]);
  }
  expect(ask(world.node, ["nft", "list", "tables"])).toBe("");
});

testWith(["root", "nft"])("instruments that this user does not have are named", async () => {
  world = await makeWorld();
  const missing = isRealRoot
    ? []
    : [{ what: "the kernel's drop reasons", why: "this needs root of the machine" }];
  expect(world.trace().missing).toEqual(missing);
});

test("a namespace that is gone is told so", () => {
  expect(() => trace({ pod: "/run/netns/vanished", destination: "198.51.100.80" })).toThrow(
    expect.objectContaining({ code: "unknown-pod" }),
  );
  expect(() => trace({ pod: "pid:999999999", destination: "198.51.100.80" })).toThrow(
    expect.objectContaining({ code: "unknown-pod" }),
  );
});
