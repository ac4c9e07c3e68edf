/** Pods are let through chains of table filter where the policy asks for it, in both kinds of iptables, and nowhere else. */
import { expect, test as always } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { changesOf } from "../../src/admission/iptables-door.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { legacyTableNames } from "../../src/kernel/iptables-legacy/table-names.ts";
import { RunningAgent } from "../agent/running-agent.ts";
import { freshName, seenFrom, UPLINK, wayout, wayoutJson, world } from "../attachment/world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";

const test = testWith(["root", "nft", "iptables"]);
const test_legacy = testWith(["root", "iptables-legacy", "iptables-legacy-restore"]);
const SUBNET = "10.213.0.0/24";

/** A pod that would be translated, and a chain FORWARD that drops what nobody lets through. */
async function shut(
  options: { readonly program?: string; readonly docker?: boolean } = {},
): Promise<{ readonly node: NetworkNamespace; readonly pod: string }> {
  const { program = "iptables", docker = false } = options;
  const { node } = world();
  const pod = freshName();
  await wayout(node, "attach", pod, "--create", "--subnet", SUBNET);
  ask(node, [program, "-P", "FORWARD", "DROP"]);
  if (docker) {
    ask(node, [program, "-N", "DOCKER-USER"]);
    ask(node, [program, "-A", "DOCKER-USER", "-j", "RETURN"]);
    ask(node, [program, "-A", "FORWARD", "-j", "DOCKER-USER"]);
  }
  expect(await seenFrom(pod)).toBeUndefined();
  return { node, pod };
}

function policy(text: string): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-admission-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "policy.yaml");
  writeFileSync(path, text);
  return path;
}

const own = (node: NetworkNamespace, chain: string, program = "iptables"): string[] =>
  ask(node, [program, "-S", chain])
    .split("\n")
    .filter((line) => line.includes("wayout admits"));
const rule = (chain: string): string =>
  `-A ${chain} -m conntrack --ctorigsrc ${SUBNET} -m comment --comment "wayout admits ${SUBNET}" -j ACCEPT`;

for (const [door, chain, docker] of [
  ["iptables-forward", "FORWARD", false],
  ["docker-user", "DOCKER-USER", true],
] as const) {
  test(`${door}: one rule lets the pods out and the answers in, is repaired, and goes with the policy`, async () => {
    const { node, pod } = await shut({ docker });
    const path = policy(`sources: [${SUBNET}]\nadmit: ${door}\n`);
    const agent = await RunningAgent.on(node, "--config", path);
    await agent.says("repaired", { step: door });
    expect(own(node, chain)).toEqual([rule(chain)]);
    expect(await seenFrom(pod)).toBe(UPLINK.v4);
    ask(node, ["iptables", "-F", chain]);
    expect(await agent.says("repaired", { step: door })).toMatchObject({
      object: `${SUBNET} in ${chain} (iptables)`,
    });
    expect(own(node, chain)).toEqual([rule(chain)]);
    // A verdict without a condition in front of it: it would never be met.
    ask(node, ["iptables", "-I", chain, "-j", "RETURN"]);
    await agent.says("repaired", { step: door });
    expect(ask(node, ["iptables", "-S", chain]).split("\n")[1]).toBe(rule(chain));
    writeFileSync(path, `sources: [${SUBNET}]\n`);
    await agent.says("repaired", { step: door });
    expect(own(node, chain)).toEqual([]);
  });
}

test("everybody is nobody's network: those that attach made are let out, nobody is let in", async () => {
  const { node, pod } = await shut();
  const other = freshName("other");
  await wayout(node, "attach", other, "--create", "--subnet", "10.214.0.0/24", "--bridge", "other0");
  ask(node, ["iptables", "-A", "FORWARD", "-s", "10.213.0.0/25", "-j", "DROP"]);
  const outcome = await wayoutJson<{ readonly admission: { readonly cidrs: readonly string[] } }>(
    node,
    "nat",
    "apply",
    "-f",
    policy("sources: [0.0.0.0/0]\nadmit: [iptables-forward]\n"),
  );
  // Those of attach are known; everybody is nobody's network.
  expect(outcome.admission.cidrs).toEqual([SUBNET, "10.214.0.0/24"]);
  expect(await seenFrom(pod)).toBe(UPLINK.v4);
  expect(await seenFrom(other)).toBe(UPLINK.v4);
  const inwards = ask(node, ["iptables", "-S", "FORWARD"]);
  expect(inwards).not.toContain(" -d ");
  await wayout(node, "nat", "remove");
  expect(own(node, "FORWARD")).toEqual([]);
  expect(await seenFrom(pod)).toBeUndefined();
});

test("nothing is made where the product is not at work", async () => {
  const { node } = world();
  const outcome = await wayoutJson<{ readonly admission: { readonly idle: readonly string[] } }>(
    node,
    "nat",
    "apply",
    "-f",
    policy(`sources: [${SUBNET}]\nadmit: [docker-user, iptables-forward]\n`),
  );
  expect(outcome.admission.idle).toEqual(["docker-user", "iptables-forward"]);
  expect(ask(node, ["nft", "list", "tables"])).not.toContain("filter");
});

test_legacy(
  "where the older kind of iptables is not in use, looking for it does not make its tables",
  async () => {
    const { node } = await shut();
    await wayout(node, "nat", "apply", "-f", policy(`sources: [${SUBNET}]\nadmit: iptables-forward\n`));
    expect(legacyTableNames("ip", node)).toEqual([]);
  },
);

test_legacy("the older kind of iptables has a door of its own", async () => {
  const { node, pod } = await shut({ program: "iptables-legacy" });
  const path = policy(`sources: [${SUBNET}]\nadmit: iptables-forward\n`);
  await wayout(node, "nat", "apply", "-f", path);
  expect(own(node, "FORWARD", "iptables-legacy")).toEqual([rule("FORWARD")]);
  expect(await seenFrom(pod)).toBe(UPLINK.v4);
  await wayout(node, "nat", "remove");
  expect(own(node, "FORWARD", "iptables-legacy")).toEqual([]);
});

always("what is ours and wanted stays, what is not goes, what is out of reach or double is put right", () => {
  const chain = "DOCKER-USER";
  const of = (cidr: string): string =>
    `-A ${chain} -m conntrack --ctorigsrc ${cidr} -m comment --comment "wayout admits ${cidr}" -j ACCEPT`;
  const changes = (printed: readonly string[], ...cidrs: string[]) =>
    changesOf(chain, printed, cidrs).changes.map(({ cidr, found }) => `${cidr} ${found}`);
  const theirs = `-A ${chain} -s 10.1.0.0/24 -m comment --comment "wayout is theirs" -j DROP`;
  expect(changes([`-N ${chain}`, theirs, of("10.1.0.0/24")], "10.1.0.0/24")).toEqual([]);
  expect(changes([theirs], "10.1.0.0/24")).toEqual(["10.1.0.0/24 was missing"]);
  expect(changes([of("10.1.0.0/24"), of("10.1.0.0/24")], "10.1.0.0/24")).toEqual([
    "10.1.0.0/24 was there twice",
  ]);
  expect(changes([`-A ${chain} -j RETURN`, of("10.1.0.0/24")], "10.1.0.0/24")).toEqual([
    "10.1.0.0/24 stood behind the end of the chain",
  ]);
  expect(changes([of("10.1.0.0/24")])).toEqual(["10.1.0.0/24 was there, and is not wanted"]);
});
