/** Without a destination both families of a pod are examined, as far as the pod was given a way out over them. */
import { afterEach, expect } from "bun:test";
import { join } from "node:path";
import type { Diagnosis } from "../../src/doctor/diagnose.ts";
import { run, testWith } from "../support/witness.ts";
import { makeWorld, MASQUERADE, type PodWorld } from "../trace/world.ts";

const MAIN = join(import.meta.dir, "..", "..", "src", "main.ts");

let world: PodWorld | undefined;

afterEach(async () => {
  await world?.[Symbol.asyncDispose]();
  world = undefined;
});

function doctor(at: PodWorld): { exitCode: number; answer: string; codes: string[]; checklist: string[] } {
  const ran = run(undefined, [process.execPath, MAIN, "doctor", at.pod.name!, "--json"]);
  const { answer, findings, checklist } = JSON.parse(ran.stdout) as Diagnosis;
  return {
    exitCode: ran.exitCode,
    answer,
    codes: findings.map((one) => `${one.stopsTraffic ? "✗" : "!"} ${one.code}`),
    checklist: checklist.filter(({ status }) => status === "broken").map(({ step }) => step),
  };
}

testWith(["root", "nft"])("both work: one answer for both", async () => {
  world = await makeWorld();
  const { exitCode, answer, codes } = doctor(world);
  expect([exitCode, codes]).toEqual([0, []]);
  expect(answer).toContain("can reach 1.1.1.1:443");
  expect(answer).toContain("[2606:4700:4700::1111]:443 over IPv6");
});

const IPV6_FAULTS: readonly { name: string; break: (at: PodWorld) => void; code: string; says: string }[] = [
  {
    name: "forwarding",
    break: (at) => at.in("node", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0"),
    code: "forwarding-off",
    says: "net.ipv6.conf.all.forwarding is 0",
  },
  {
    name: "a filter",
    break: (at) =>
      at.nft("table ip6 guard { chain fw { type filter hook forward priority 0; iifname lan0 drop; }; }"),
    code: "filter-rule-drops",
    says: "ip6 guard fw",
  },
  {
    name: "a route that refuses",
    break: (at) => at.in("node", "ip", "-6", "route", "add", "unreachable", "2606:4700::/32"),
    code: "node-route-refused",
    says: "2606:4700::/32",
  },
];

for (const fault of IPV6_FAULTS) {
  testWith(["root", "nft"])(`IPv4 works and IPv6 does not: ${fault.name}`, async () => {
    world = await makeWorld();
    fault.break(world);
    const { exitCode, answer, codes } = doctor(world);
    expect([exitCode, codes]).toEqual([1, [`✗ ${fault.code}`]]);
    expect(answer).toContain("reaches the outside over IPv4 and not over IPv6: ");
    expect(answer).toContain(fault.says);
  });
}

testWith(["root", "nft"])("IPv6 works and IPv4 does not", async () => {
  world = await makeWorld();
  world.in("node", "sysctl", "-qw", "net.ipv4.ip_forward=0");
  const { exitCode, answer, codes, checklist } = doctor(world);
  expect([exitCode, codes, checklist]).toEqual([1, ["✗ forwarding-off"], ["forwarding"]]);
  expect(answer).toEndWith("over IPv6 it can reach [2606:4700:4700::1111]:443");
});

testWith(["root", "nft"])("a cause of both is told once", async () => {
  world = await makeWorld();
  world.in("node", "ip", "link", "set", "lan0", "down");
  const { exitCode, codes } = doctor(world);
  expect([exitCode, codes]).toEqual([1, ["✗ bridge-down"]]);
});

testWith(["root", "nft"])(
  "a node whose IPv6 lacks nothing but its default route, and one without",
  async () => {
    world = await makeWorld();
    world.in("node", "ip", "-6", "route", "del", "default");
    const { exitCode, answer, codes } = doctor(world);
    expect([exitCode, codes]).toEqual([1, ["✗ node-no-route"]]);
    expect(answer).toContain("reaches the outside over IPv4 and not over IPv6: the node has no route to");
    // Without a global address the node itself has no IPv6 outside, and nobody promised it to the pod.
    world.in("node", "ip", "-6", "addr", "flush", "dev", "ens4", "scope", "global");
    expect(doctor(world)).toMatchObject({ exitCode: 0, codes: [] });
  },
);

testWith(["root", "nft"])(
  "unique local addresses that nobody meant to translate are worth a warning only",
  async () => {
    world = await makeWorld({ nat: false });
    world.nft(MASQUERADE.replace(/\n.*ip6 saddr.*/, ""));
    const { exitCode, codes, answer } = doctor(world);
    expect([exitCode, codes]).toEqual([0, ["! nat-missing"]]);
    expect(answer).toEndWith("over IPv6 only what is inside");
  },
);

testWith(["root", "nft"])(
  "a leg of a multipath route that fails is broken, whichever the one address takes",
  async () => {
    world = await makeWorld();
    const legs = [
      "nexthop",
      "via",
      "203.0.113.1",
      "dev",
      "ens4",
      "nexthop",
      "via",
      "203.0.113.2",
      "dev",
      "ens4",
    ];
    world.in("node", "ip", "route", "replace", "default", ...legs);
    world.in("node", "ip", "neigh", "add", "203.0.113.2", "dev", "ens4", "nud", "failed");
    const { exitCode, answer, codes, checklist } = doctor(world);
    expect([exitCode, checklist]).toEqual([1, ["node-route"]]);
    expect(codes).toContain("✗ leg-fails");
    expect(answer).toContain("203.0.113.2");
  },
);

testWith(["root", "nft"])(
  "an IPv4 address that was given and is lost is told, though IPv6 works",
  async () => {
    world = await makeWorld();
    // As plugins derive it from 10.20.0.2.
    world.in("pod", "ip", "link", "set", "net1", "address", "0a:58:0a:14:00:02");
    world.in("pod", "ip", "-4", "addr", "flush", "dev", "net1");
    const { exitCode, answer, codes, checklist } = doctor(world);
    expect([exitCode, codes, checklist]).toEqual([1, ["✗ pod-no-address"], ["pod-address"]]);
    expect(answer).toEndWith("over IPv6 it can reach [2606:4700:4700::1111]:443");
  },
);

testWith(["root", "nft"])("a pod that was given IPv6 alone is well", async () => {
  world = await makeWorld();
  world.in("pod", "ip", "-4", "addr", "flush", "dev", "net1");
  world.in("node", "ip", "neigh", "flush", "dev", "lan0");
  expect(doctor(world)).toMatchObject({ exitCode: 0, codes: [] });
});
