/** `wayout nat explain`: what it says beforehand is what the kernel then does. */
import { expect } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { socketPath } from "../../src/agent/socket.ts";
import type { NatExplanation } from "../../src/examination/explain-nat.ts";
import { WrittenPolicy } from "../../src/policy/place-in-file.ts";
import { RunningAgent } from "../agent/running-agent.ts";
import { freshName, seenFrom, SERVER, UPLINK, wayout, wayoutJson, world } from "../attachment/world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";

const test = testWith(["root", "nft"]);

const POLICY = `sources:
  - 10.99.0.0/16
nonMasqueradeCIDRs:
  - 192.0.2.0/24
  - 198.51.100.0/24
`;

test("as whom a pod leaves and whose wish that is, until another product's rule comes first", async () => {
  const { node } = world();
  const blue = freshName();
  await wayout(node, "attach", blue, "--create");
  const explain = (...words: string[]): Promise<NatExplanation> =>
    wayoutJson<NatExplanation>(node, "nat", "explain", blue, SERVER.v4, ...words);
  const ours = await explain("--port", "8080");
  expect(ours.wanted).toMatchObject({ decision: "translated", entersBy: "wayout0", leavesBy: "up0" });
  expect(ours.wanted.by?.owner).toStartWith("attach/");
  expect(ours.foreseen).toMatchObject({ pod: blue, by: { place: expect.stringContaining("inet wayout") } });
  expect(ours.foreseen?.left).toStartWith(`${await seenFrom(blue)}:`);

  ask(node, [
    "nft",
    `add table ip shop; add chain ip shop p { type nat hook postrouting priority 50; }; add rule ip shop p snat to ${UPLINK.other4}`,
  ]);
  const theirs = await explain("--port", "8080");
  expect(theirs.wanted.decision).toBe("translated");
  expect(theirs.foreseen?.by?.place).toContain("table ip shop chain p");
  expect(theirs.foreseen?.left).toStartWith(`${UPLINK.other4}:`);
  expect(await seenFrom(blue)).toBe(UPLINK.other4);
});

test("a policy that is not in force yet is judged by its lines; one of an agent by the agent's", async () => {
  const { node } = world();
  const directory = mkdtempSync(join(tmpdir(), "wayout-explain-"));
  afterThisTest(() => rmSync(directory, { recursive: true }));
  const file = join(directory, "policy.yaml");
  writeFileSync(file, POLICY);
  const before = await wayoutJson<NatExplanation>(node, "nat", "explain", "10.99.1.2", SERVER.v4);
  expect([before.wanted.decision, before.foreseen]).toEqual(["none", undefined]);
  const asked = ["nat", "explain", "10.99.1.2", SERVER.v4, "-f", file] as const;
  const kept = {
    decision: "kept",
    by: { owner: "policy", cidr: "10.99.0.0/16", written: { file, line: 2, path: "sources[0]" } },
    kept: { owner: "policy", cidr: "198.51.100.0/24", written: { line: 5, path: "nonMasqueradeCIDRs[1]" } },
  };
  expect((await wayoutJson<NatExplanation>(node, ...asked)).wanted).toMatchObject(kept);
  expect((await wayout(node, ...asked)).stdout).toContain(`${file}:5`);
  expect((await wayout(node, "nat", "explain", "10.99.1.2", "192.0.3.1", "-f", file)).stdout).toContain(
    "it is translated",
  );

  writeFileSync(join(directory, "drop.yaml"), "sources: [{ cidr: 10.99.1.0/24, drop: true }]\n");
  const drops = ["nat", "explain", "10.99.1.2", SERVER.v4, "-f", join(directory, "drop.yaml")] as const;
  expect((await wayoutJson<NatExplanation>(node, ...drops)).wanted).toMatchObject({
    decision: "dropped",
    text: "it is dropped, as policy wants of 10.99.1.0/24",
    by: { cidr: "10.99.1.0/24", written: { line: 1, path: "sources[0]" } },
  });

  const agent = await RunningAgent.on(node, "--config", file);
  await agent.says("listening");
  const url = `http://agent/v1/explain?src=10.99.1.2&dst=${SERVER.v4}`;
  const told = (await (await fetch(url, { unix: socketPath(node) })).json()) as NatExplanation;
  expect(told.wanted).toMatchObject(kept);
});

test("families that do not meet, and names that are no pod's, are refused", async () => {
  const { node } = world();
  const mixed = await wayout(node, "nat", "explain", "10.99.1.2", SERVER.v6);
  expect([mixed.exitCode, mixed.stderr]).toEqual([2, expect.stringContaining("one is IPv4")]);
  expect((await wayout(node, "nat", "explain", "nobody-here", SERVER.v4)).exitCode).toBe(2);
});

test("the longest prefix around an address is found, in either dialect's spelling", async () => {
  const text =
    "nonmasqueradecidrs: [10.0.0.0/8, 10.1.0.0/16]\nsources:\n  - cidr: 10.0.0.0/8\n    snat: 203.0.113.5\n";
  const written = await WrittenPolicy.read([{ name: "f", text }]);
  expect(written.around("10.1.2.3", "nonMasqueradeCIDRs")).toMatchObject({ line: 1, cidr: "10.1.0.0/16" });
  expect(written.around("10.9.2.3", "sources")).toMatchObject({ line: 3, path: "sources[0]" });
  expect(written.around("192.0.2.1", "sources", "nonMasqueradeCIDRs")).toBeUndefined();
});
