/** The doctor follows translation by our eBPF programs, and says when one of them is missing. */
import { expect } from "bun:test";
import { diagnose } from "../../src/doctor/diagnose.ts";
import { detachFromLink } from "../../src/kernel/bpf/link.ts";
import { pinnedObject } from "../../src/kernel/bpf/map.ts";
import { NftablesNat } from "../../src/nat/backends/nftables/nftables.ts";
import { namesIn, namespaceDirectory } from "../../src/nat/backends/ebpf/bpf-directory.ts";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { parseSnapshot } from "../../src/snapshot/file.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { healthyWorld, serveInternet, snapshotOf, PLAN, type World } from "./world.ts";

const V4 = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 } as const;
const V6 = { address: PLAN.internet.httpIpv6, protocol: "tcp", port: 80 } as const;
const test = testWith(["root", "real-root", "ip"]);

/** A world that is translated by programs instead of rules. */
function worldOfPrograms(): World {
  const world = healthyWorld();
  takePrograms(world);
  return world;
}

function takePrograms(world: World): void {
  using rules = new NftablesNat({ namespace: world.node });
  rules.remove();
  const nat = new EbpfNat({ namespace: world.node });
  afterThisTest(() => {
    nat.remove();
    nat[Symbol.dispose]();
  });
  nat.apply(masqueradeIntent("lab", [PLAN.podNetworkIpv4, PLAN.podNetworkIpv6]));
}

function uplinkIndex(world: World): number {
  using route = Rtnetlink.open(world.node);
  return route.link("up0")!.index;
}

function detach(world: World, side: "egress" | "ingress"): void {
  const name = `${side}-${uplinkIndex(world)}`;
  expect(namesIn(namespaceDirectory(world.node)!)).toContain(name);
  detachFromLink(pinnedObject(`${namespaceDirectory(world.node)!}/${name}`)!);
}

const judge = (world: World, target: typeof V4 | typeof V6 = V4) => {
  // As on another machine: what is judged is what a file holds.
  const snapshot = parseSnapshot(JSON.stringify(snapshotOf(world, [V4.address, V6.address])), "node.json");
  return diagnose(snapshot, snapshot.pods[0]!, target);
};

test("a healthy node is healthy, in both families, and nothing about it is uncertain", async () => {
  const world = worldOfPrograms();
  await using _internet = await serveInternet(world);
  expect(ask(world.blue, ["curl", "-s", "--max-time", "5", `http://${V4.address}/`])).toContain(
    PLAN.node.uplinkIpv4,
  );
  for (const target of [V4, V6]) {
    const diagnosis = judge(world, target);
    expect([target, diagnosis.findings, diagnosis.healthy]).toEqual([target, [], true]);
    expect(diagnosis.path.blindSpots).toEqual([]);
    expect(diagnosis.certain).toBe(true);
    const step = diagnosis.checklist.find((one) => one.step === "nat")!;
    expect(step.text).toMatch(/ → .* by wayout's eBPF program at up0$/);
  }
});

for (const side of ["egress", "ingress"] as const) {
  test(`a program that somebody detached at the ${side} is named, with what brings it back`, () => {
    const world = worldOfPrograms();
    detach(world, side);
    const diagnosis = judge(world);
    expect(diagnosis.findings.map((one) => one.code)).toEqual(["nat-program-detached"]);
    const [found] = diagnosis.findings;
    expect(found!.text).toContain(`none is attached at the ${side} of up0`);
    const repair = found!.fix[0]!.repair!;
    if (repair.kind !== "restore-nat") throw new Error(repair.kind);
    using nat = new EbpfNat({ namespace: world.node });
    nat.apply(repair.intent);
    expect(judge(world).healthy).toBe(true);
  });
}

test("what our policy leaves alone is untranslated, by no program's fault", () => {
  const world = worldOfPrograms();
  using nat = new EbpfNat({ namespace: world.node });
  nat.apply({ ...masqueradeIntent("lab", [PLAN.podNetworkIpv4]), untranslated: ["198.51.100.0/24"] });
  expect(judge(world).findings.map((one) => one.code)).toEqual(["nat-missing"]);
});

test("a node without any address is told that the program has none to translate to", () => {
  const world = worldOfPrograms();
  const snapshot = snapshotOf(world, [V6.address]);
  const addresses = snapshot.node.addresses.filter((one) => one.family === 4);
  const node = { ...snapshot.node, addresses };
  const { findings, suspicions } = diagnose({ ...snapshot, node }, snapshot.pods[0]!, V6);
  expect([...findings, ...suspicions].map((one) => one.code)).toContain("nat-no-address");
});

test("what the programs had to drop is a warning, with the count", () => {
  const world = worldOfPrograms();
  const snapshot = snapshotOf(world);
  const told = snapshot.node.linkTranslation!;
  const linkTranslation = { ...told, counts: { ...told.counts, "dropped: no free port": 7 } };
  const node = { ...snapshot.node, linkTranslation };
  const diagnosis = diagnose({ ...snapshot, node }, snapshot.pods[0]!, V4);
  expect(diagnosis.healthy).toBe(true);
  expect(diagnosis.findings.map(({ code, text }) => `${code}: ${text}`)).toEqual([
    "nat-program-full: wayout's eBPF programs have dropped 7 packets because every port to a destination is taken",
  ]);
});

/** What is wrong with a node whatever translates there; each is one command, or a ruleset. */
const FAULTS: Readonly<
  Record<string, { readonly command?: string; readonly nft?: string; readonly in?: "blue" }>
> = {
  "forwarding is off": { command: "sysctl -qw net.ipv4.ip_forward=0" },
  "no default route": { command: "ip route delete default" },
  "the uplink is down": { command: "ip link set up0 down" },
  "the destination goes nowhere": { command: `ip route add blackhole ${V4.address}` },
  "a rule sends pods elsewhere": { command: "ip rule add from 10.0.0.0/8 unreachable" },
  "forwarding is dropped by policy": {
    nft: "table inet other { chain f { type filter hook forward priority 0; policy drop; }; }",
  },
  "new connections are refused": {
    nft: `table ip other { chain f { type filter hook forward priority 0; ip daddr ${V4.address} tcp dport 80 reject; }; }`,
  },
  "answers are dropped": {
    nft: "table ip other { chain f { type filter hook forward priority 0; tcp sport 80 drop; }; }",
  },
  "the pod has no default route": { command: "ip route delete default", in: "blue" },
  "the pod's own filter drops": {
    nft: "table ip other { chain o { type filter hook output priority 0; tcp dport 80 drop; }; }",
    in: "blue",
  },
};

for (const [name, fault] of Object.entries(FAULTS))
  testWith(["root", "real-root", "ip", "nft"])(
    `${name}: the same is found with programs as with rules`,
    () => {
      const world = healthyWorld();
      const where = fault.in === "blue" ? world.blue : world.node;
      if (fault.command !== undefined) ask(where, fault.command.split(" "));
      if (fault.nft !== undefined) ask(where, ["nft", "-f", "-"], fault.nft);
      const found = (): readonly string[] => judge(world).findings.map(({ code }) => code);
      const byRules = found();
      takePrograms(world);
      expect(found()).toEqual(byRules);
      expect([judge(world).healthy, byRules.length > 0]).toEqual([false, true]);
    },
  );

test("an uplink that came up later has none of the programs, and that is what is found", () => {
  const world = worldOfPrograms();
  ask(
    world.node,
    ["ip", "-batch", "-"],
    [
      "link add up9 type veth peer name isp9",
      "link set up9 up",
      "link set isp9 up",
      "address add 192.0.2.2/24 dev up9",
      "route replace default via 192.0.2.1 dev up9",
    ].join("\n"),
  );
  expect(judge(world).findings.map(({ code }) => code)).toContain("nat-program-detached");
});
