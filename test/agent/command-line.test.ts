/** The command line asks a running agent for what only that knows, and goes on without one. */
import { expect } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { NodeAnswer } from "../../src/agent/api/view.ts";
import type { StoredEvent } from "../../src/agent/journal/journal.ts";
import { socketPath, VERSION_HEADER } from "../../src/agent/socket.ts";
import type { Diagnosis } from "../../src/doctor/diagnose.ts";
import type { NatExplanation } from "../../src/examination/explain-nat.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { freshName, wayout, wayoutJson, world } from "../attachment/world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { RunningAgent } from "./running-agent.ts";

const test = testWith(["root", "nft"]);

function folder(): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-command-line-"));
  afterThisTest(() => rmSync(directory, { recursive: true }));
  return directory;
}

test("history and the past are the agent's, wherever its journal is, and the same as the file has", async () => {
  const { node } = world();
  const blue = freshName();
  await wayout(node, "attach", blue, "--create");
  const journal = join(folder(), "elsewhere.db");
  const agent = await RunningAgent.on(node, "--journal", journal, "--look");
  await agent.says("listening");
  // Once it has looked, it knows that the pod had a way out.
  while ((await wayout(node, "doctor", "--at", "0s", blue)).exitCode !== 0) await Bun.sleep(100);
  ask(node, ["sh", "-c", "nft add table ip shop"]);
  ask(node, ["nft", "add chain ip shop f { type filter hook forward priority 0; policy drop; }"]);
  await agent.says("way-out", { pod: blue });

  const told = await wayoutJson<StoredEvent[]>(node, "history");
  expect(told).toEqual(await wayoutJson<StoredEvent[]>(node, "history", "--journal", journal));
  expect(told.some(({ kind, by }) => kind === "rules" && by?.process === "nft")).toBe(true);
  const text = await wayout(node, "history", blue);
  expect(text.stdout).toBe((await wayout(node, "history", blue, "--journal", journal)).stdout);
  expect(text.stdout).toContain(`${blue} broken`);

  const past = async (...words: readonly string[]): Promise<Diagnosis> =>
    JSON.parse((await wayout(node, "doctor", "--json", "--at", "0s", blue, ...words)).stdout) as Diagnosis;
  const then = await past();
  expect(then).toEqual(await past("--journal", journal));
  expect(then.healthy).toBe(false);
  const early = await wayout(node, "doctor", "--at", "1d", blue);
  expect([early.exitCode, early.stderr]).toEqual([1, expect.stringContaining("the journal begins at")]);

  const doctor = await wayout(node, "doctor", blue);
  expect([doctor.exitCode, doctor.stderr]).toEqual([
    1,
    expect.stringMatching(/^Since \d.*lost its way out.* by nft/),
  ]);
  expect(doctor.stdout).not.toContain("Since");
});

const POLICY = "sources:\n  - 10.99.0.0/16\nnonMasqueradeCIDRs:\n  - 198.51.100.0/24\n";

test("nat explain names the line of the policy that the agent holds, also when its file is bad by now", async () => {
  const { node } = world();
  const file = join(folder(), "policy.yaml");
  writeFileSync(file, POLICY);
  const agent = await RunningAgent.on(node, "--config", file);
  await agent.says("listening");
  const explained = async () =>
    (await wayoutJson<NatExplanation>(node, "nat", "explain", "10.99.1.2", "198.51.100.80")).wanted;
  const kept = { owner: "policy", written: { file, line: 4, path: "nonMasqueradeCIDRs[0]" } };
  expect((await explained()).kept).toMatchObject(kept);
  const status = await wayoutJson<NodeAnswer>(node, "agent", "status");
  expect([status.troubles, status.policy.files]).toEqual([[], [file]]);
  expect((await wayout(node, "agent", "status")).exitCode).toBe(0);

  writeFileSync(file, "sauces: []\n");
  await agent.says("policy", { level: "error" });
  expect((await explained()).kept).toMatchObject(kept);
  const broken = await wayout(node, "agent", "status");
  expect([broken.exitCode, broken.stdout]).toEqual([1, expect.stringContaining("did you mean sources?")]);
  expect(broken.stdout).toContain(`${file} is in force`);
});

test("without an agent, beside one of another version, and past one that is busy, the command looks for itself", async () => {
  const { node } = world();
  const explain = ["nat", "explain", "10.99.1.2", "198.51.100.80"] as const;
  const alone = await wayout(node, ...explain);
  expect([alone.exitCode, alone.stderr]).toEqual([0, ""]);
  const away = await wayout(node, "agent", "status");
  expect([away.exitCode, away.stderr]).toEqual([3, expect.stringContaining("no agent of this node answers")]);

  const other = pretend(node, () => Response.json({}, { headers: { [VERSION_HEADER]: "9.9.9" } }));
  const beside = await wayout(node, ...explain);
  expect([beside.exitCode, beside.stdout]).toEqual([0, alone.stdout]);
  expect(beside.stderr).toContain("was not asked: it is of version 9.9.9");
  expect((await wayout(node, "agent", "status")).stderr).toContain("it is of version 9.9.9");
  await other.stop(true);

  // What a killed one leaves: a socket of which nobody listens.
  const left = await wayout(node, ...explain);
  expect([left.exitCode, left.stdout, left.stderr]).toEqual([0, alone.stdout, ""]);

  pretend(node, () => new Response("no JSON", { headers: { [VERSION_HEADER]: "0.1.0" } }));
  const strange = await wayout(node, ...explain);
  expect([strange.exitCode, strange.stdout]).toEqual([0, alone.stdout]);
  expect(strange.stderr).toContain("was not asked");
});

/** Something else on the agent's socket. */
function pretend(node: NetworkNamespace, fetch: () => Response) {
  const unix = socketPath(node);
  mkdirSync(dirname(unix), { recursive: true });
  rmSync(unix, { force: true });
  const server = Bun.serve({ unix, fetch });
  afterThisTest(() => server.stop(true));
  return server;
}
