/** What a change did to the pods: the agent sees it, names who did it, and can show the node as it was. */
import { expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { StoredEvent } from "../../src/agent/journal/journal.ts";
import { wayOutEvent } from "../../src/agent/look/way-out-event.ts";
import { socketPath } from "../../src/agent/socket.ts";
import type { Verdict } from "../../src/doctor/transitions.ts";
import type { Diagnosis } from "../../src/doctor/diagnose.ts";
import { freshName, wayout, wayoutJson, world } from "../attachment/world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { until } from "../support/until.ts";
import { ask, testWith } from "../support/witness.ts";
import { RunningAgent } from "./running-agent.ts";

const test = testWith(["root", "nft"]);
const TIMEOUT_MS = 180_000;

test(
  "a rule that stops the pods is in the history with its culprit and the pods, and the doctor can look back",
  async () => {
    const { node } = world();
    const blue = freshName();
    const journal = freshJournal();
    await wayout(node, "attach", blue, "--create");
    const agent = await RunningAgent.on(node, "--journal", journal, "--look");
    // The first look: what is broken later worked then.
    await until(
      async () => (await wayout(node, "doctor", "--at", "0s", "--journal", journal)).exitCode === 0,
      "it has looked",
    );
    const before = new Date().toISOString();
    ask(node, [
      "sh",
      "-c",
      "nft 'add table ip shop; add chain ip shop f { type filter hook forward priority 0; policy drop; }'; sleep 0.2",
    ]);
    expect(await agent.says("way-out")).toMatchObject({
      level: "warn",
      message: "1 pod lost its way out",
      pod: blue,
      why: expect.stringContaining("shop"),
    });
    const metrics = await (await fetch("http://agent/metrics", { unix: socketPath(node) })).text();
    expect(metrics).toContain('wayout_pods{state="broken"} 1');
    expect(metrics).toMatch(/^wayout_findings\{code="[a-z-]+"\} 1$/m);
    const events = await wayoutJson<StoredEvent[]>(node, "history", blue, "--journal", journal);
    expect(events).toMatchObject([
      {
        kind: "way-out",
        object: blue,
        by: { process: "nft" },
        effects: [{ pod: blue, became: "broken", text: expect.stringContaining("shop") }],
      },
    ]);
    const asked = ["doctor", blue, "--no-probe", "--journal", journal, "--at"] as const;
    const now = await wayout(node, ...asked, "0s");
    expect([now.exitCode, now.stdout]).toEqual([1, expect.stringContaining("ip shop")]);
    expect((await wayoutJson<Diagnosis>(node, ...asked, before)).healthy).toBe(true);
    const url = `http://agent/v1/pods/${blue}/doctor?at=${encodeURIComponent(before)}`;
    expect(await (await fetch(url, { unix: socketPath(node) })).json()).toMatchObject({ healthy: true });
    const early = await wayout(node, ...asked, "1d");
    expect([early.exitCode, early.stderr]).toEqual([1, expect.stringContaining("the journal begins at")]);
  },
  TIMEOUT_MS,
);

const verdict = (pod: string, ...broken: string[]): Verdict => ({
  pod,
  healthy: broken.length === 0,
  answer: `${pod} is fine`,
  findings: broken.map((text) => ({ code: "forwarding-off", text, stopsTraffic: true })),
});

test("an event counts the pods, and blames for certain only when nothing else changed", () => {
  const by = { process: "nft", certainty: "seen" } as const;
  const before = [verdict("a"), verdict("b"), verdict("c", "x")];
  const now = [verdict("a", "x"), verdict("c"), verdict("d")];
  const alone = wayOutEvent(1, before, now, { kinds: new Set(["rules"]), by });
  expect(alone).toMatchObject({
    object: "pods",
    text: "1 pod lost its way out, 1 pod has its way out again, 1 pod came, 1 pod went",
    by: { certainty: "seen" },
  });
  const kinds = new Set(["rules", "network"] as const);
  expect(wayOutEvent(1, before, now, { kinds, by })?.by?.certainty).toBe("guessed");
  expect(wayOutEvent(1, [verdict("a")], [verdict("a", "x")], { kinds: new Set(["setting"]) })?.text).toBe(
    "1 pod lost its way out, after a change of a network setting",
  );
  expect(wayOutEvent(1, now, now, { kinds, by })).toBeUndefined();
});

function freshJournal(): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-looks-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "journal.db");
}
