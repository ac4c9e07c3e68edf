/** An answer from another address than the one that was asked; and two pods of one bridge. */
import { afterEach, expect } from "bun:test";
import { traceText } from "../../src/cli/trace-ladder.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import type { TraceReport } from "../../src/trace/report.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { makeWorld, type PodWorld } from "./world.ts";

let world: PodWorld;
let server: { kill(signal: number): void; readonly exited: Promise<number> } | undefined;

afterEach(async () => {
  server?.kill(9);
  await server?.exited;
  server = undefined;
  await world?.[Symbol.asyncDispose]();
});

/** Another pod of the same bridge, 10.20.0.3 behind a link that is not called eth0, which takes connections on 8080. */
async function withNeighbour(): Promise<NetworkNamespace> {
  const near = freshNamespace("near");
  const ip = (namespace: NetworkNamespace, line: string): string =>
    ask(namespace, ["ip", ...line.split(" ")]);
  ip(world.node, `link add veth-near type veth peer name net7 netns ${near.name}`);
  ip(world.node, "link set veth-near master lan0 up");
  ip(near, "addr add 10.20.0.3/24 dev net7");
  ip(near, "link set net7 up");
  ip(near, "route add default via 10.20.0.1");
  const script = `Bun.listen({ port: 8080, hostname: "::", socket: { data() {} } }); console.log("ready");`;
  const child = near.run(() =>
    Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "ignore" }),
  );
  server = child;
  await child.stdout.getReader().read();
  return near;
}

/** Whether the node has the module. */
function bridgedPacketsMeetIptables(on: boolean): boolean {
  return (
    run(world.node, ["sysctl", "-qw", `net.bridge.bridge-nf-call-iptables=${on ? 1 : 0}`]).exitCode === 0
  );
}

const statusOf = (report: TraceReport, step: number): string | undefined =>
  report.steps.find(({ number }) => number === step)?.status;

const PUBLISHED = { destination: "203.0.113.2:8081" };
const PUBLISH = `table ip publish {
  chain pre {
    type nat hook prerouting priority dstnat
    ip daddr 203.0.113.2 tcp dport 8081 dnat to 10.20.0.3:8080
  }
}`;

/** The fix is pasted, and it heals. */
function expectHairpin(report: TraceReport): void {
  expect([report.stop?.step, report.stop?.code, statusOf(report, 8)]).toEqual([
    8,
    "answer-from-elsewhere",
    "stopped",
  ]);
  expect(report.stop?.reason).toContain("answered, but from 10.20.0.3:8080");
  expect(report.stop?.reason).toContain("crosses the bridge without passing connection tracking");
  const [fix] = report.stop!.fix!;
  expect(fix!.command).toContain("8081");
  ask(world.node, ["sh", "-c", fix!.command]);
  const healed = world.trace(PUBLISHED);
  expect([healed.outcome, statusOf(healed, 8)]).toEqual(["answered", "proven"]);
}

testWith(["root", "nft"])("a published port of a neighbour on the bridge, published by nft", async () => {
  world = await makeWorld();
  await withNeighbour();
  bridgedPacketsMeetIptables(false);
  world.nft(PUBLISH);
  expectHairpin(world.trace(PUBLISHED));
});

testWith(["root", "nft", "iptables-nft"])("the same, published by iptables", async () => {
  world = await makeWorld();
  await withNeighbour();
  bridgedPacketsMeetIptables(false);
  const rule =
    "-t nat -A PREROUTING -d 203.0.113.2 -p tcp --dport 8081 -j DNAT --to-destination 10.20.0.3:8080";
  world.in("node", "iptables-nft", ...rule.split(" "));
  const report = world.trace(PUBLISHED);
  expect(report.stop?.fix?.[0]?.command).toStartWith(
    "iptables -t nat -A POSTROUTING -s 10.20.0.0/24 -d 10.20.0.3",
  );
});

testWith(["root", "nft"])(
  "where iptables sees bridged packets the answer is translated back, each time",
  async () => {
    world = await makeWorld();
    await withNeighbour();
    if (!bridgedPacketsMeetIptables(true)) return;
    world.nft(PUBLISH);
    for (let time = 0; time < 4; time++) {
      const report = world.trace(PUBLISHED);
      expect([report.outcome, statusOf(report, 8), report.stop?.reason]).toEqual([
        "answered",
        "proven",
        undefined,
      ]);
    }
    world.nft(
      "table inet guard { chain fw { type filter hook forward priority filter; tcp dport 8080 drop; }; }",
    );
    for (let time = 0; time < 4; time++) {
      const { stop } = world.trace(PUBLISHED);
      expect([stop?.step, stop?.code, stop?.rule?.table]).toEqual([2, "filter-rule-drops", "guard"]);
    }
  },
);

testWith(["root", "nft"])("a pod at the other end is called by its name", async () => {
  world = await makeWorld();
  const near = await withNeighbour();
  const answered = world.trace({ destination: "10.20.0.3:8080" });
  expect([answered.outcome, answered.path.at(-1)]).toEqual([
    "answered",
    { kind: "outside", name: near.name!, address: "10.20.0.3" },
  ]);
  expect(traceText(answered)).toContain(near.name!);
  expect(traceText(answered)).not.toContain("outside");
  world.nft(PUBLISH);
  world.nft(
    "table ip hairpin { chain post { type nat hook postrouting priority srcnat - 1; ip saddr 10.20.0.0/24 ip daddr 10.20.0.0/24 masquerade; }; }",
  );
  ask(
    near,
    ["nft", "-f", "-"],
    "table inet own { chain inp { type filter hook input priority 0; tcp dport 8080 drop; }; }",
  );
  const { stop } = world.trace(PUBLISHED);
  expect([stop?.code, stop?.owner]).toEqual(["no-answer", `the pod ${near.name}`]);
});

testWith(["root", "nft"])(
  "a server that answers from its other address, without any translation",
  async () => {
    world = await makeWorld({ nat: false });
    world.in("internet", "ip", "route", "add", "10.20.0.0/24", "via", "203.0.113.2");
    const { stop } = world.trace({ destination: "198.51.100.80:7777", protocol: "udp" });
    expect([stop?.step, stop?.code]).toEqual([8, "answer-from-elsewhere"]);
    expect(stop?.reason).toContain("answered, but from 203.0.113.1:7777");
    expect(world.trace({ destination: "203.0.113.1:7777", protocol: "udp" }).outcome).toBe("answered");
  },
);

testWith(["root", "nft"])("a packet that stays in the pod claims nothing of the node", async () => {
  world = await makeWorld();
  ask(
    world.pod,
    ["nft", "-f", "-"],
    "table ip mesh { chain out { type nat hook output priority -100; tcp dport 443 redirect to :15001; }; }",
  );
  const proxy = world.pod.run(() => Bun.listen({ hostname: "0.0.0.0", port: 15_001, socket: { data() {} } }));
  const redirected = world.trace();
  proxy.stop(true);
  for (const report of [redirected, world.trace({ destination: "127.0.0.1:9" })]) {
    expect(report.outcome).not.toBe("stopped");
    expect([2, 3, 5, 6, 7].map((step) => statusOf(report, step))).toEqual(Array(5).fill("not-needed"));
    expect(report.path.map(({ kind }) => kind)).toEqual(["pod"]);
    expect(traceText(report)).toContain("it stays in the pod");
  }
  expect(redirected.destinationTranslation).toMatchObject({ after: expect.stringMatching(/:15001$/) });
});
