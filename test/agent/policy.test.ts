/** The agent's policy: in force, followed when its file changes, and held when the file turns bad. */
import { expect } from "bun:test";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import type { NodeAnswer } from "../../src/agent/api/view.ts";
import type { NatBackendName } from "../../src/nat/backends/backends.ts";
import { openNat } from "../../src/nat/open.ts";
import { ended, freshName, start, WAYOUT, wayout, world } from "../attachment/world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { RunningAgent } from "./running-agent.ts";

const test = testWith(["root", "nft"]);

test("is in force, is followed, and stays when the file turns bad, while repairs go on", async () => {
  const { node } = world();
  const path = join(freshDirectory(), "policy.yaml");
  writeFileSync(path, "sources: [10.1.0.0/16]\nnonMasqueradeCIDRs: [10.0.0.0/8]\n");
  const agent = await RunningAgent.on(node, "--config", path);
  await agent.says("policy", { level: "info" });
  expect(sourcesOn(node)).toEqual(["10.1.0.0/16"]);
  writeFileSync(path, "sources: [10.1.0.0/16, 10.2.0.0/16]\n");
  await agent.says("policy", { level: "info" });
  expect(sourcesOn(node)).toEqual(["10.1.0.0/16", "10.2.0.0/16"]);
  writeFileSync(path, "sorces: [10.9.0.0/16]\n");
  const bad = await agent.says("policy", { level: "error" });
  expect(bad["message"]).toContain("did you mean sources?");
  ask(node, ["nft", "flush", "ruleset"]);
  await agent.says("repaired", { step: "nat", object: "table inet wayout" });
  expect(sourcesOn(node)).toEqual(["10.1.0.0/16", "10.2.0.0/16"]);
  // One flush is one repair, however much stood in the table.
  const { lastRepairs } = JSON.parse((await wayout(node, "agent", "status", "--json")).stdout) as NodeAnswer;
  expect(lastRepairs.filter(({ step }) => step === "nat")).toHaveLength(1);
  rmSync(path);
  expect((await agent.says("policy", { level: "error" }))["message"]).toContain("there is no");
  expect(sourcesOn(node)).toEqual(["10.1.0.0/16", "10.2.0.0/16"]);
});

test("a mounted ConfigMap of ip-masq-agent is followed through the swap of its link", async () => {
  const { node } = world();
  const directory = freshDirectory();
  const put = (version: string, text: string): void => {
    mkdirSync(join(directory, version));
    writeFileSync(join(directory, version, "config"), text);
    symlinkSync(version, join(directory, "..data-new"));
    renameSync(join(directory, "..data-new"), join(directory, "..data"));
  };
  put("..1", "nonMasqueradeCIDRs: [10.0.0.0/8]\n");
  symlinkSync("..data/config", join(directory, "config"));
  const agent = await RunningAgent.on(
    node,
    "--ip-masq-agent-config",
    join(directory, "config"),
    "--source",
    "10.244.1.0/24",
  );
  await agent.says("policy", { level: "info" });
  expect(untranslatedOn(node)).toContain("10.0.0.0/8");
  put("..2", "nonMasqueradeCIDRs:\n");
  expect((await agent.says("policy", { level: "warn" }))["message"]).toContain("EVERYTHING");
  await agent.says("policy", { level: "info" });
  expect(untranslatedOn(node)).not.toContain("10.0.0.0/8");
});

test("with another backend the policy's rules are in that one, and in that alone", async () => {
  const { node } = world();
  const path = join(freshDirectory(), "policy.yaml");
  writeFileSync(path, "sources: [10.1.0.0/16]\n");
  const agent = await RunningAgent.on(node, "--config", path);
  await agent.says("policy", { level: "info" });
  for (const [backend, here, gone] of [
    ["iptables", "iptables", "nftables"],
    ["nftables", "nftables", "iptables"],
  ] as const) {
    writeFileSync(path, `sources: [10.1.0.0/16]\nbackend: ${backend}\n`);
    await agent.says("policy", { level: "info" });
    expect([sourcesOn(node, here), sourcesOn(node, gone)]).toEqual([["10.1.0.0/16"], []]);
  }
});

test("beside a bad file a restarted agent keeps what the one before it had in force, doors included", async () => {
  const { node } = world();
  const path = join(freshDirectory(), "policy.yaml");
  ask(node, ["iptables", "-P", "FORWARD", "DROP"]);
  writeFileSync(path, "sources: [10.77.0.0/24]\nsnat: 203.0.113.6\nadmit: iptables-forward\n");
  const first = await RunningAgent.on(node, "--config", path);
  await first.says("repaired", { step: "iptables-forward" });
  const doors = ask(node, ["iptables", "-S", "FORWARD"]);
  const rules = ask(node, ["nft", "-s", "list", "table", "inet", "wayout"]);
  await first.stop("SIGKILL");
  writeFileSync(path, "sources: [10.77.0.0/33]\n");
  const second = await RunningAgent.on(node, "--config", path);
  expect((await second.says("policy", { level: "error" }))["message"]).toContain("sources[0]");
  ask(node, ["nft", "delete", "table", "inet", "wayout"]);
  await second.says("repaired", { step: "nat", object: "table inet wayout" });
  expect(ask(node, ["nft", "-s", "list", "table", "inet", "wayout"])).toBe(rules);
  expect(ask(node, ["iptables", "-S", "FORWARD"])).toBe(doors);
});

test("a file that could not be read is in force again when it can be, also as it was before", async () => {
  const { node } = world();
  const path = join(freshDirectory(), "policy.yaml");
  const text = "sources: [10.1.0.0/16]\n";
  writeFileSync(path, text);
  const agent = await RunningAgent.on(node, "--config", path);
  await agent.says("policy", { level: "info" });
  rmSync(path);
  mkdirSync(path);
  expect((await agent.says("policy", { level: "error" }))["message"]).toContain("is no regular file");
  rmSync(path, { recursive: true });
  writeFileSync(path, text);
  await agent.says("policy", { level: "info" });
  const { policy } = JSON.parse((await wayout(node, "agent", "status", "--json")).stdout) as NodeAnswer;
  expect(policy).not.toHaveProperty("trouble");
});

test("a file that names no sources needs them beside it", async () => {
  const { node } = world();
  const said = await ended(
    start(node, [WAYOUT, "agent", "--journal", "none", "--ip-masq-agent-config", "/nowhere"]),
  );
  expect([said.exitCode, said.stderr]).toEqual([2, expect.stringContaining("--source 10.244.1.0/24")]);
});

function intentOn(node: NetworkNamespace, backend: NatBackendName = "nftables") {
  using nat = openNat(backend, node);
  return nat.intents().find(({ owner }) => owner === "policy");
}

function sourcesOn(node: NetworkNamespace, backend?: NatBackendName): string[] {
  return intentOn(node, backend)?.sources.map(({ cidr }) => cidr) ?? [];
}

function untranslatedOn(node: NetworkNamespace): readonly string[] {
  return intentOn(node)?.untranslated ?? [];
}

function freshDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-policy-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

test("with --cleanup-on-exit the policy's rules and doors go with the agent, and no others", async () => {
  const { node } = world();
  const blue = freshName();
  await wayout(node, "attach", blue, "--create", "--subnet", "10.213.0.0/24");
  const attached = ask(node, ["nft", "-s", "list", "table", "inet", "wayout"]);
  ask(node, ["iptables", "-P", "FORWARD", "DROP"]);
  const path = join(freshDirectory(), "policy.yaml");
  writeFileSync(path, "sources: [10.77.0.0/24]\nadmit: iptables-forward\n");
  for (const [words, left] of [
    [[], true],
    [["--cleanup-on-exit"], false],
  ] as const) {
    const agent = await RunningAgent.on(node, "--config", path, ...words);
    await agent.says("listening");
    if (words.length === 0) await agent.says("repaired", { step: "iptables-forward" });
    expect(await agent.stop()).toBe(0);
    expect(sourcesOn(node)).toEqual(left ? ["10.77.0.0/24"] : []);
    expect(ask(node, ["iptables", "-S", "FORWARD"]).includes("wayout admits")).toBe(left);
  }
  expect(ask(node, ["nft", "-s", "list", "table", "inet", "wayout"])).toBe(attached);
});
