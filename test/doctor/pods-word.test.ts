/** A pod may give itself what it likes: `doctor --fix` changes the node for what others than the pod say, and mends the pod. */
import { expect } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Diagnosis } from "../../src/doctor/diagnose.ts";
import { createNamedNamespace, deleteNamedNamespace } from "../../src/kernel/named-namespace.ts";
import { isNeverAdvised } from "../../src/causes/never-advised.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { healthyWorld, PLAN, type World } from "./world.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");
const POD = "ns-red";
const HIDDEN = "ns-hidden";
const inPod = (...words: string[]): string => ask(undefined, ["ip", "-n", POD, ...words]);

/** A pod that our record knows, beside those of the lab, of which nobody but they themselves say anything. */
function attachedWorld(...options: string[]): World {
  afterThisTest(() => {
    deleteNamedNamespace(POD);
    rmSync("/run/wayout", { recursive: true, force: true });
  });
  const world = healthyWorld();
  createNamedNamespace(POD);
  // So that net1 has another index than its neighbours' have.
  inPod("link", "add", "spare0", "type", "bridge");
  expect(run(world.node, [WAYOUT, "attach", POD, "--interface", "net1", ...options]).exitCode).toBe(0);
  return world;
}

const SETTINGS = ["*rp_filter", "*forward*", "*arp_*", "*proxy*", "accept_*", "disable_ipv6", "*martian*"];

/** All that a repair could change on the node. */
function nodeState(world: World): string {
  return (
    [
      ["ip", "-o", "addr"],
      ["ip", "-4", "route", "show", "table", "all"],
      ["ip", "-6", "route", "show", "table", "all"],
      ["ip", "rule"],
      ["ip", "neigh", "show", "nud", "permanent"],
      ["ip", "-o", "link"],
      ["bridge", "link"],
      ["nft", "-s", "list", "ruleset"],
      ["grep", "-rs", "", ...SETTINGS.map((name) => `--include=${name}`), "/proc/sys/net"],
    ]
      .map((words) => ask(world.node, words))
      .join("\n")
      .split("\n")
      // The kernel's own link-local addresses come when their detection of duplicates is over.
      .filter((line) => !/ fe80::/.test(line))
      // Nor does a repair change whether there is a carrier, and what follows from that.
      .map((line) => line.replace(/<([^>]*)>/, (_, flags: string) => (/\bUP\b/.test(flags) ? "up" : "down")))
      .map((line) => line.replace(/ state \S+/, ""))
      .sort()
      .join("\n")
      .replace(/ (?:linkdown|tentative|valid_lft|expires).*$/gm, "")
  );
}

function fix(world: World, pod = POD): { diagnosis: Diagnosis; exitCode: number } {
  const { stdout } = run(world.node, [WAYOUT, "doctor", pod, "--no-probe", "--json"]);
  const { exitCode } = run(world.node, [WAYOUT, "doctor", pod, "--no-probe", "--fix", "--yes"]);
  return { diagnosis: JSON.parse(stdout) as Diagnosis, exitCode };
}

const LIES: Readonly<Record<string, () => void>> = {
  "a quarter of the internet as its network": () => {
    inPod("addr", "flush", "dev", "net1");
    inPod("addr", "add", "100.0.0.5/2", "dev", "net1");
    inPod("route", "add", "default", "via", "100.1.2.3");
  },
  "an address outside, with the bridge as its gateway": () => {
    const gateway = /via (\S+)/.exec(inPod("route", "show", "default"))![1]!;
    inPod("addr", "flush", "dev", "net1");
    inPod("addr", "add", "198.51.100.80/32", "dev", "net1");
    inPod("route", "add", "default", "via", gateway, "dev", "net1", "onlink");
  },
  "an address of the lab's network": () => {
    const gateway = /via (\S+)/.exec(inPod("route", "show", "default"))![1]!;
    inPod("addr", "add", "10.0.0.77/32", "dev", "net1");
    inPod("route", "replace", "default", "via", gateway, "dev", "net1", "src", "10.0.0.77");
  },
};

/** The node is as its administrator wants it, and only what the pod does with its own things asks for a change. */
const WANTED: Readonly<Record<string, { readonly node: (world: World) => void; readonly pod: () => void }>> =
  {
    "the node's uplink for its gateway, for which the bridge is told not to answer": {
      node: (world) => void ask(world.node, ["sysctl", "-w", "net.ipv4.conf.wayout0.arp_ignore=1"]),
      pod: () =>
        void inPod("route", "replace", "default", "via", PLAN.node.uplinkIpv4, "dev", "net1", "onlink"),
    },
    "IPv6 of its own making, which the node does not forward": {
      node: (world) => void ask(world.node, ["sysctl", "-w", "net.ipv6.conf.all.forwarding=0"]),
      pod: () => {
        inPod("addr", "add", "2001:db8:bad::5/64", "dev", "net1", "nodad");
        inPod("-6", "route", "add", "default", "via", "fe80::1", "dev", "net1", "onlink");
      },
    },
    "a unique local address, and a bridge without IPv6 for its gateway": {
      node: (world) => void ask(world.node, ["sysctl", "-w", "net.ipv6.conf.wayout0.disable_ipv6=1"]),
      pod: () => {
        inPod("addr", "add", "fd00:bad::5/64", "dev", "net1", "nodad");
        inPod("-6", "route", "add", "default", "via", "fd00:bad::1", "dev", "net1");
      },
    },
    "half of the internet behind a gateway of its own choice": {
      node: (world) => void ask(world.node, ["sysctl", "-w", "net.ipv4.conf.wayout0.proxy_arp=0"]),
      pod: () => {
        for (const half of ["0.0.0.0/1", "128.0.0.0/1"])
          inPod("route", "add", half, "via", "169.254.1.1", "dev", "net1", "onlink");
      },
    },
    "the MAC address of another, where the node keeps its own": {
      node: (world) => {
        const [, mac] = /link\/ether (\S+)/.exec(inPod("link", "show", "dev", "net1"))!;
        const [, address] = /inet ([\d.]+)/.exec(inPod("-4", "-o", "addr", "show", "dev", "net1"))!;
        ask(world.node, [
          "ip",
          "neigh",
          "replace",
          address!,
          "lladdr",
          mac!,
          "dev",
          "wayout0",
          "nud",
          "permanent",
        ]);
      },
      pod: () => void inPod("link", "set", "dev", "net1", "address", "02:bb:bb:bb:bb:bb"),
    },
    "a link with the indexes of a neighbour's, which was set down": {
      node: (world) => void ask(world.node, ["ip", "link", "set", "dev", PLAN.pods.blue.veth, "down"]),
      pod: () => pretendToBe(PLAN.pods.blue.veth),
    },
    "a link with the indexes of a neighbour's, which was taken out of the bridge": {
      node: (world) => void ask(world.node, ["ip", "link", "set", "dev", PLAN.pods.blue.veth, "nomaster"]),
      pod: () => pretendToBe(PLAN.pods.blue.veth),
    },
  };

/** A pod chooses the indexes of its links, and what its other namespaces hold: a pair that looks like a neighbour's. */
function pretendToBe(hostLink: string): void {
  const link = ask(undefined, ["ip", "-n", PLAN.node.namespace, "-o", "link", "show", "dev", hostLink]);
  const [, own, peer] = /^(\d+): \S+@if(\d+):/.exec(link)!;
  inPod("link", "del", "dev", "spare0");
  createNamedNamespace(HIDDEN);
  afterThisTest(() => deleteNamedNamespace(HIDDEN));
  const other = ["peer", "name", hostLink, "index", own!, "netns", HIDDEN];
  inPod("link", "add", "name", "fake1", "index", peer!, "type", "veth", ...other);
  inPod("addr", "add", `${PLAN.pods.blue.ipv4}/24`, "dev", "fake1");
  inPod("link", "set", "dev", "fake1", "up");
  inPod("route", "replace", "default", "via", PLAN.node.gatewayIpv4, "dev", "fake1");
}

for (const [name, { node, pod }] of Object.entries(WANTED)) {
  testWith(["root", "ip", "bridge", "nft"])(`a pod that gives itself ${name}`, () => {
    const world = attachedWorld("--no-ipv6");
    node(world);
    pod();
    const before = nodeState(world);
    const { diagnosis } = fix(world);
    const fixes = [...diagnosis.findings, ...diagnosis.suspicions].flatMap((one) => one.fix);
    expect(fixes.filter((one) => one.place === "node")).toEqual([]);
    // Whose link it is, the kernel's number for the node's namespace says, not the indexes.
    expect(JSON.stringify(diagnosis.findings)).not.toContain(PLAN.pods.blue.veth);
    expect(nodeState(world)).toBe(before);
  });
}

for (const [name, lie] of Object.entries(LIES)) {
  testWith(["root", "ip", "nft"])(`a pod that says it has ${name}`, () => {
    const world = attachedWorld();
    const promised = inPod("-4", "-o", "addr", "show", "dev", "net1").match(/inet (\S+)/)![1]!;
    lie();
    const before = nodeState(world);
    const { diagnosis, exitCode } = fix(world);
    const fixes = diagnosis.findings.flatMap((one) => one.fix);
    expect(diagnosis.healthy).toBe(false);
    expect(fixes.filter((one) => one.place === "node")).toEqual([]);
    expect(fixes.some((one) => one.place === "pod")).toBe(true);
    expect(nodeState(world)).toBe(before);
    expect(fixes.filter((one) => isNeverAdvised(one.command))).toEqual([]);
    expect(inPod("-4", "-o", "addr", "show", "dev", "net1")).toContain(promised);
    expect(inPod("route", "show", "default")).toEndWith(` src ${promised.split("/")[0]} \n`);
    expect(exitCode).toBe(0);
  });
}

testWith(["root", "ip", "nft"])("what the record says, the node is given back", () => {
  const world = attachedWorld();
  const before = nodeState(world);
  ask(world.node, ["ip", "-4", "addr", "flush", "dev", "wayout0"]);
  const { diagnosis, exitCode } = fix(world);
  expect(diagnosis.findings[0]?.code).toBe("bridge-address-missing");
  expect(diagnosis.findings[0]?.fix.map((one) => one.place)).toEqual(["node"]);
  expect(exitCode).toBe(0);
  expect(nodeState(world)).toBe(before);
});

testWith(["root", "ip", "nft"])("a gateway of which only the pod knows is not made on the node", () => {
  const world = healthyWorld();
  ask(world.node, ["ip", "-4", "addr", "flush", "dev", PLAN.node.bridge]);
  const before = nodeState(world);
  const { diagnosis, exitCode } = fix(world, "ns-blue");
  const [found] = diagnosis.findings;
  expect(found?.code).toBe("bridge-address-missing");
  expect(found?.fix).toEqual([]);
  expect(found?.advice?.[0]).toContain("only ns-blue itself says that 10.0.0.254 is its gateway");
  expect(exitCode).toBe(1);
  expect(nodeState(world)).toBe(before);
});
