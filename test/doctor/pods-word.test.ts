/** A pod may give itself what it likes: `doctor --fix` changes the node for what others than the pod say, and mends the pod. */
import { expect } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Diagnosis } from "../../src/doctor/diagnose.ts";
import { createNamedNamespace, deleteNamedNamespace } from "../../src/kernel/named-namespace.ts";
import { isNeverAdvised } from "../../src/causes/never-advised.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { healthyWorld, type World } from "./world.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");
const POD = "ns-red";
const inPod = (...words: string[]): string => ask(undefined, ["ip", "-n", POD, ...words]);

/** A pod that our record knows, beside those of the lab, of which nobody but they themselves say anything. */
function attachedWorld(): World {
  afterThisTest(() => {
    deleteNamedNamespace(POD);
    rmSync("/run/wayout", { recursive: true, force: true });
  });
  const world = healthyWorld();
  createNamedNamespace(POD);
  expect(run(world.node, [WAYOUT, "attach", POD, "--interface", "net1"]).exitCode).toBe(0);
  return world;
}

/** All that a repair could change on the node. */
function nodeState(world: World): string {
  return [
    ["ip", "-4", "-o", "addr"],
    ["ip", "-4", "route", "show", "table", "all"],
    ["ip", "rule"],
    ["ip", "neigh", "show", "nud", "permanent"],
    ["nft", "-s", "list", "ruleset"],
    ["sysctl", "-a", "--pattern", "rp_filter|forwarding"],
  ]
    .map((words) => ask(world.node, words))
    .join("\n")
    .replace(/ (?:tentative|valid_lft|expires).*$/gm, "");
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
  ask(world.node, ["ip", "-4", "addr", "flush", "dev", "lan0"]);
  const before = nodeState(world);
  const { diagnosis, exitCode } = fix(world, "ns-blue");
  const [found] = diagnosis.findings;
  expect(found?.code).toBe("bridge-address-missing");
  expect(found?.fix).toEqual([]);
  expect(found?.advice?.[0]).toContain("only ns-blue itself says that 10.0.0.254 is its gateway");
  expect(exitCode).toBe(1);
  expect(nodeState(world)).toBe(before);
});
