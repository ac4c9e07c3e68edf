/** Destinations that are translated: a service's address that stands for somebody else, and a port that is published. */
import { afterEach, expect } from "bun:test";
import { traceText } from "../../src/cli/trace-ladder.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { tracePage } from "../../src/trace/show/page.ts";
import type { TraceReport } from "../../src/trace/report.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { makeWorld, type PodWorld } from "./world.ts";

let world: PodWorld;
const servers: { kill(signal: number): void; readonly exited: Promise<number> }[] = [];

afterEach(async () => {
  await endServers();
  await world?.[Symbol.asyncDispose]();
});

async function endServers(): Promise<void> {
  for (const server of servers.splice(0)) {
    server.kill(9);
    await server.exited;
  }
}

const NINE = Array.from({ length: 9 }, () => "proven").join();
const statuses = (report: TraceReport): string => report.steps.map(({ status }) => status).join();

/** Takes TCP connections on that port in the namespace, until the test is over. */
async function serve(namespace: NetworkNamespace, port: number): Promise<void> {
  const script = `Bun.listen({ port: ${port}, hostname: "::", socket: { data() {} } }); console.log("ready");`;
  const server = namespace.run(() =>
    Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "ignore" }),
  );
  servers.push(server);
  await server.stdout.getReader().read();
}

const SERVICE = `table ip services {
  chain web {
    meta l4proto tcp dnat to 198.51.100.80:80 comment "shop/web"
  }
  chain pre {
    type nat hook prerouting priority dstnat
    ip daddr 10.96.0.10 tcp dport 443 jump web
    ip daddr 10.96.0.11 tcp dport 443 dnat to 10.20.0.3:8443
    ip daddr 10.96.0.12 tcp dport 443 redirect to :8443
  }
}`;

testWith(["root", "nft"])("a service's address that stands for a server outside", async () => {
  world = await makeWorld();
  world.nft(SERVICE);
  const report = world.trace({ destination: "10.96.0.10:443" });
  expect([report.stop?.reason, statuses(report)]).toEqual([undefined, NINE]);
  expect(report.destinationTranslation).toMatchObject({
    before: "10.96.0.10:443",
    after: "198.51.100.80:80",
    rule: { family: "ip", table: "services", chain: "web", text: expect.stringContaining("shop/web") },
  });
  expect(report.translation).toMatchObject({
    before: expect.stringMatching(/^10\.20\.0\.2:\d+$/),
    after: expect.stringMatching(/^203\.0\.113\.2:\d+$/),
    rule: { family: "inet", table: "nat", chain: "postrouting" },
  });
  const [, , forward, translated, , left, , matched] = report.steps;
  // Routed is what the rule has put in.
  expect(JSON.stringify(forward)).toContain("iif lan0 to 198.51.100.80 via 203.0.113.1 dev ens4");
  expect(translated!.title).toBe("source and destination are translated");
  expect(translated!.text).toMatch(
    /^destination 10\.96\.0\.10:443 → 198\.51\.100\.80:80; source 10\.20\.0\.2:\d+ → 203\.0\.113\.2:\d+$/,
  );
  expect(left!.text).toMatch(/203\.0\.113\.2:\d+ → 198\.51\.100\.80:80 tcp SYN, by ens4/);
  expect(matched!.text).toMatch(
    /^destination 203\.0\.113\.2:\d+ → 10\.20\.0\.2:\d+; source 198\.51\.100\.80:80 → 10\.96\.0\.10:443$/,
  );
  // The answer comes from somebody else than was asked, and its chains are told all the same.
  world.nft("table inet late { chain fw { type filter hook forward priority filter; }; }");
  expect(JSON.stringify(world.trace({ destination: "10.96.0.10:443" }).steps[7])).toContain("inet late fw");
  const text = traceText(report);
  expect(text).toMatch(/198\.51\.100\.80\n/);
  expect(text).toContain("it is for 198.51.100.80 now");
});

const RANDOM_PORTS = `table inet nat {
  chain postrouting {
    type nat hook postrouting priority srcnat
    oifname "ens4" masquerade fully-random
  }
}`;

// Nothing of the pod's own is left in such packets.
testWith(["root", "nft"])("both ends of a connection translated, its port as well", async () => {
  world = await makeWorld({ nat: false });
  world.nft(SERVICE);
  world.nft(RANDOM_PORTS);
  const asked = world.trace({ destination: "10.96.0.10:443" });
  client(world.pod, "10.96.0.10", 443);
  for (const report of [asked, listenTo("10.96.0.10")]) {
    expect([report.stop?.reason, statuses(report)]).toEqual([undefined, NINE]);
    expect(report.steps[5]!.text).toMatch(/^203\.0\.113\.2:\d+ → 198\.51\.100\.80:80 tcp SYN, by ens4$/);
  }
});

testWith(["root", "nft"])("both ends of a datagram translated, its port as well", async () => {
  world = await makeWorld({ nat: false });
  world.nft(RANDOM_PORTS);
  world.nft(`table ip services {
    chain pre {
      type nat hook prerouting priority dstnat
      ip daddr 10.96.0.10 udp dport 5353 dnat to 198.51.100.80:9999
      ip daddr 10.96.0.10 udp dport 5354 dnat to 198.51.100.80:9998
    }
  }`);
  const answered = world.trace({ destination: "10.96.0.10:5353", protocol: "udp" });
  expect([answered.stop?.reason, statuses(answered)]).toEqual([undefined, NINE]);
  const wall = "chain inp { type filter hook input priority 0; udp dport 9998 drop; }";
  ask(world.internet, ["nft", "-f", "-"], `table inet wall { ${wall}; }`);
  expect(world.trace({ destination: "10.96.0.10:5354", protocol: "udp" }).stop).toMatchObject({
    step: 7,
    code: "no-answer",
  });
});

testWith(["root", "nft"])("a service's address that stands for another pod, or for the node", async () => {
  world = await makeWorld();
  world.nft(SERVICE);
  const neighbour = freshNamespace("near");
  const ip = (namespace: NetworkNamespace, line: string): string =>
    ask(namespace, ["ip", ...line.split(" ")]);
  ip(world.node, `link add veth-near type veth peer name net1 netns ${neighbour.name}`);
  ip(world.node, "link set veth-near master lan0 up");
  ip(neighbour, "addr add 10.20.0.3/24 dev net1");
  ip(neighbour, "link set net1 up");
  ip(neighbour, "route add default via 10.20.0.1");
  await serve(neighbour, 8443);
  // Without masquerade the neighbour would answer past the node, which could not put the service's address back.
  world.nft(`table ip hairpin {
    chain post {
      type nat hook postrouting priority srcnat - 1
      ip saddr 10.20.0.0/24 ip daddr 10.20.0.0/24 masquerade
    }
  }`);
  const near = world.trace({ destination: "10.96.0.11:443" });
  expect([near.stop?.reason, near.outcome]).toEqual([undefined, "answered"]);
  expect(near.destinationTranslation).toMatchObject({
    before: "10.96.0.11:443",
    after: "10.20.0.3:8443",
    rule: { table: "services", chain: "pre" },
  });
  expect(near.translation).toMatchObject({
    after: expect.stringMatching(/^10\.20\.0\.1:\d+$/),
    rule: { table: "hairpin" },
  });
  const closed = world.trace({ destination: "10.96.0.12:443" });
  expect(closed.outcome).toBe("stopped");
  expect(closed.stop).toMatchObject({ step: 4, code: "ends-on-node", rule: { table: "services" } });
  expect(closed.stop!.reason).toMatch(
    /redirect to :8443.* redirects it to 10\.20\.0\.1:8443, the node itself, and nothing listens there/,
  );
  await serve(world.node, 8443);
  const local = world.trace({ destination: "10.96.0.12:443" });
  expect(local.outcome).toBe("answered");
  expect(local.destinationTranslation).toMatchObject({
    after: "10.20.0.1:8443",
    rule: { text: expect.stringContaining("redirect to :8443") },
  });
  expect(local.steps[2]).toMatchObject({ status: "not-needed", text: "10.20.0.1 is the node itself" });
  expect(local.steps[3]).toMatchObject({ status: "proven", title: "the destination is translated" });
  expect(local.steps[7]!.text).toBe("source 10.20.0.1:8443 → 10.96.0.12:443");
});

testWith(["root", "nft"])("a service's address that stands for the pod itself", async () => {
  world = await makeWorld();
  world.nft(`table ip services {
    chain pre {
      type nat hook prerouting priority dstnat
      ip daddr 10.96.0.10 tcp dport 443 dnat to 10.20.0.2:80
    }
    chain post {
      type nat hook postrouting priority srcnat - 1
      ip saddr 10.20.0.2 ip daddr 10.20.0.2 masquerade
    }
  }`);
  await serve(world.pod, 80);
  // Where iptables sees bridged packets, the bridge itself sends it back; else the node does, as its own packet.
  const callIptables = ["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"];
  if (run(world.node, callIptables).exitCode === 0) {
    const off = world.trace({ destination: "10.96.0.10:443" });
    expect([off.stop?.step, off.stop?.code]).toEqual([6, "hairpin-off"]);
    expect(statuses(off)).toMatch(/^proven,proven,proven,proven,not-needed,stopped,/);
    expect(off.destinationTranslation).toMatchObject({ after: "10.20.0.2:80", rule: { chain: "pre" } });
  }
  world.in("node", "ip", "link", "set", "veth-pod", "type", "bridge_slave", "hairpin", "on");
  const on = world.trace({ destination: "10.96.0.10:443" });
  expect([on.outcome, on.stop]).toEqual(["answered", undefined]);
  expect(on.translation).toMatchObject({ rule: { table: "services", chain: "post" } });
  expect(on.steps.slice(5, 7).map(({ status, text }) => `${status}: ${text}`)).toEqual([
    "not-needed: it goes back to the pod that sent it",
    "not-needed: the pod itself answers",
  ]);
});

testWith(["root", "nft"])("a service whose server is silent, or may not be reached", async () => {
  world = await makeWorld();
  world.nft(SERVICE.replace("198.51.100.80:80", "198.51.100.99:80"));
  expect(world.trace({ destination: "10.96.0.10:443" }).stop).toMatchObject({
    step: 7,
    code: "no-answer",
    reason: expect.stringMatching(/as 203\.0\.113\.2:\d+ → 198\.51\.100\.99:80 tcp SYN/),
  });
  world.nft(`table inet guard {
    chain fw {
      type filter hook forward priority filter
      ip daddr 198.51.100.99 tcp dport 80 drop
    }
  }`);
  const dropped = world.trace({ destination: "10.96.0.10:443" });
  expect(dropped.stop).toMatchObject({ step: 3, code: "filter-rule-drops", rule: { table: "guard" } });
  // The destination was translated before.
  expect(dropped.destinationTranslation).toMatchObject({ after: "198.51.100.99:80" });
  expect(dropped.steps[3]).toMatchObject({ status: "proven", title: "the destination is translated" });
});

testWith(["root", "nft"])("a service's IPv6 address, followed and asked", async () => {
  world = await makeWorld({ ipv6: true });
  world.nft(`table ip6 services {
    chain pre {
      type nat hook prerouting priority dstnat
      ip6 daddr fd96::10 tcp dport 443 dnat to [2001:db8:198::80]:80
    }
  }`);
  const asked = world.trace({ destination: "[fd96::10]:443", timeoutMs: 3000 });
  client(world.pod, "fd96::10", 443);
  for (const report of [asked, listenTo("fd96::10")]) {
    expect([report.stop?.reason, statuses(report)]).toEqual([undefined, NINE]);
    expect(report.destinationTranslation).toMatchObject({
      before: "[fd96::10]:443",
      after: "[2001:db8:198::80]:80",
      rule: { family: "ip6", table: "services" },
    });
  }
});

testWith(["root", "iptables-nft", "iptables-legacy"])("a service that iptables made", async () => {
  for (const program of ["iptables-nft", "iptables-legacy"]) {
    world = await makeWorld({ nat: false });
    const nat = (...rule: string[]): string => world.in("node", program, "-t", "nat", "-A", ...rule);
    nat("PREROUTING", "-d", "10.96.0.10", "-p", "tcp", "-j", "DNAT", "--to-destination", "198.51.100.80:80");
    nat("POSTROUTING", "-s", "10.20.0.0/24", "-j", "MASQUERADE");
    const report = world.trace({ destination: "10.96.0.10:443" });
    const step = report.steps[3]!;
    expect([program, report.outcome, step.text]).toEqual([
      program,
      "answered",
      expect.stringMatching(/^destination 10\.96\.0\.10:443 → 198\.51\.100\.80:80; source /),
    ]);
    const evidence = JSON.stringify(step.evidence);
    expect(evidence).toMatch(/PREROUTING.*DNAT|DNAT.*PREROUTING|dnat to.*PREROUTING/);
    expect(evidence).toMatch(/POSTROUTING.*MASQUERADE|masquerade.*POSTROUTING/i);
    await world[Symbol.asyncDispose]();
  }
});

const PUBLISHED = `table ip published {
  chain pre {
    type nat hook prerouting priority dstnat
    fib daddr type local tcp dport 8080 dnat to 10.20.0.2:80 comment "shop/web"
  }
}`;

/** Connects again and again, until the test is over. */
function client(from: NetworkNamespace, to: string, port: number): void {
  const script = `setInterval(() => {
    const socket = { data() {}, open(one) { one.end(); } };
    Bun.connect({ hostname: "${to}", port: ${port}, socket }).catch(() => {});
  }, 100);`;
  servers.push(
    from.run(() => Bun.spawn([process.execPath, "-e", script], { stdout: "ignore", stderr: "ignore" })),
  );
}

const listenTo = (destination: string): TraceReport =>
  world.trace({ destination, listen: true, timeoutMs: 2000 });

testWith(["root", "nft"])("a published port is followed from outside to the pod and back", async () => {
  for (const wiring of ["bridge", "ptp"] as const) {
    world = await makeWorld({ wiring });
    world.nft(`${PUBLISHED}
    table inet guard {
      chain fw {
        type filter hook forward priority filter
      }
    }`);
    await serve(world.pod, 80);
    client(world.internet, "203.0.113.2", 8080);
    const report = listenTo("203.0.113.1");
    expect([wiring, report.begunBy, report.outcome, report.stop, statuses(report)]).toEqual([
      wiring,
      "outside",
      "answered",
      undefined,
      NINE,
    ]);
    // What happened before the pod said a word is part of the story: the rule that decided.
    expect(report.destinationTranslation).toMatchObject({
      before: "203.0.113.2:8080",
      after: "10.20.0.2:80",
      rule: { table: "published", chain: "pre", text: expect.stringContaining("shop/web") },
    });
    expect(report.steps[2]!.evidence.at(-1)!.lines.join()).toContain("inet guard fw (forward");
    expect(report.steps[7]!.text).toBe("source 10.20.0.2:80 → 203.0.113.2:8080");
    expect(report.steps[8]!.text).toMatch(/^203\.0\.113\.2:8080 → 203\.0\.113\.1:\d+ tcp SYN,ACK, by ens4$/);
    const text = traceText(report);
    expect(text).toStartWith("203.0.113.1 → ");
    // To the pod first, then from it.
    expect(text.indexOf("◀")).toBeLessThan(text.indexOf("▶"));
    expect(tracePage(report)).toContain("who asked 203.0.113.2:8080");
    await endServers();
    await world[Symbol.asyncDispose]();
  }
});

interface InboundFault {
  readonly name: string;
  readonly break: () => void | Promise<void>;
  readonly expected: object;
}

const INBOUND_FAULTS: readonly InboundFault[] = [
  {
    name: "nobody listens in the pod",
    break: () => {},
    expected: { begunBy: "outside", outcome: "refused" },
  },
  {
    name: "a rule of the node drops it",
    break: () =>
      world.nft(`table inet guard {
        chain fw {
          type filter hook forward priority filter
          ip daddr 10.20.0.2 tcp dport 80 drop
        }
      }`),
    expected: {
      begunBy: "outside",
      outcome: "stopped",
      stop: {
        step: 3,
        code: "filter-rule-drops",
        rule: { table: "guard" },
        lastSeen: "coming in at ens4 on the node",
      },
      destinationTranslation: { after: "10.20.0.2:80" },
    },
  },
  {
    name: "the pod itself drops it",
    break: () => {
      const inner = "type filter hook input priority filter; tcp dport 80 drop;";
      ask(world.pod, ["nft", "-f", "-"], `table inet own { chain inp { ${inner} }; }`);
    },
    expected: { outcome: "stopped", stop: { step: 7, code: "filter-rule-drops", rule: { table: "own" } } },
  },
  {
    name: "the pod's answer is dropped",
    break: async () => {
      await serve(world.pod, 80);
      world.nft(`table inet guard {
        chain fw {
          type filter hook forward priority filter
          ip saddr 10.20.0.2 tcp sport 80 drop
        }
      }`);
    },
    expected: {
      outcome: "stopped",
      stop: {
        step: 8,
        code: "filter-rule-drops",
        rule: { table: "guard" },
        lastSeen: "the answer, coming in at lan0 on the node",
      },
    },
  },
];

for (const fault of INBOUND_FAULTS) {
  testWith(["root", "nft"])(`a published port when ${fault.name}`, async () => {
    world = await makeWorld();
    world.nft(PUBLISHED);
    await fault.break();
    client(world.internet, "203.0.113.2", 8080);
    expect(listenTo("203.0.113.1")).toMatchObject(fault.expected);
  });
}

testWith(["root", "nft"])("a port that is not published is told so", async () => {
  world = await makeWorld();
  world.nft(PUBLISHED);
  client(world.internet, "203.0.113.2", 8081);
  expect(() => world.trace({ destination: "203.0.113.1", listen: true, timeoutMs: 400 })).toThrow(
    expect.objectContaining({
      code: "nothing-flows",
      said: expect.stringMatching(
        /203\.0\.113\.2:8081 tcp SYN at ens4, and no rule translated it to the pod/,
      ),
    }),
  );
});

testWith(["root", "nft"])("what the pod sends to a service is followed, short as it is", async () => {
  world = await makeWorld();
  world.nft(SERVICE);
  client(world.pod, "10.96.0.10", 443);
  const report = listenTo("10.96.0.10:443");
  expect([report.begunBy, report.outcome, report.stop, statuses(report)]).toEqual([
    undefined,
    "answered",
    undefined,
    NINE,
  ]);
  expect(report.destinationTranslation).toMatchObject({
    before: "10.96.0.10:443",
    after: "198.51.100.80:80",
    rule: { table: "services", chain: "web" },
  });
  expect(report.translation).toMatchObject({ rule: { table: "nat", chain: "postrouting" } });
});
