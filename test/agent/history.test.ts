/** `wayout history`: what an agent wrote down, read by somebody else. */
import { expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AttachmentStore } from "../../src/attachment/store.ts";
import type { Culprit, StoredEvent } from "../../src/agent/journal/journal.ts";
import { momentText, parseMoment } from "../../src/cli/moment.ts";
import { freshName, wayout, wayoutJson, world } from "../attachment/world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { until } from "../support/until.ts";
import { ask, testWith } from "../support/witness.ts";
import { RunningAgent } from "./running-agent.ts";

const test = testWith(["root", "nft"]);

test("says what changed, by whom, and what was put back", async () => {
  const { node } = world();
  const journal = freshJournal();
  await wayout(node, "attach", freshName(), "--create");
  const agent = await RunningAgent.on(node, "--journal", journal);
  ask(node, ["sh", "-c", "nft flush ruleset; sleep 0.2"]);
  await agent.says("repaired", { object: "table inet wayout" });
  ask(node, ["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
  await agent.says("repaired", { object: "net.ipv4.ip_forward" });
  const events = await wayoutJson<StoredEvent[]>(node, "history", "--journal", journal);
  expect(events.find(({ kind }) => kind === "rules")?.by).toMatchObject({ process: "nft" });
  const repairs = events.filter(({ kind }) => kind === "repair");
  expect(repairs.map(({ object }) => object)).toEqual(["table inet wayout", "net.ipv4.ip_forward"]);
  expect(repairs[0]!.by).toMatchObject({ process: "nft" });
  const told = (await wayout(node, "history", "--journal", journal)).stdout;
  expect(told).toMatch(/put back: table inet wayout is missing +by nft/);
});

testWith(["real-root", "nft"])(
  "who did it is known with the parents although they are gone, of rules, settings, addresses and routes",
  async () => {
    const { node } = world();
    const journal = freshJournal();
    await wayout(node, "attach", freshName(), "--create");
    const agent = await RunningAgent.on(node, "--journal", journal);
    await agent.says("listening");
    const gateway = new AttachmentStore(node).read().networks[0]!.gateways[0]!;
    const by = async (object: string): Promise<Culprit | undefined> => {
      await agent.says("repaired", { object });
      const events = await wayoutJson<StoredEvent[]>(node, "history", "--journal", journal);
      return events.findLast((one) => one.kind === "repair" && one.object === object)?.by;
    };
    // Nobody of them is there any more when the agent hears of it.
    ask(node, ["bash", "-c", "sh -c 'nft flush ruleset; :'; :"]);
    expect(await by("table inet wayout")).toMatchObject({
      process: "nft",
      certainty: "seen",
      parents: expect.arrayContaining(["sh", "bash"]),
    });
    ask(node, ["bash", "-c", "sysctl -qw net.ipv4.ip_forward=0; :"]);
    expect(await by("net.ipv4.ip_forward")).toMatchObject({
      process: "sysctl",
      certainty: "seen",
      parents: expect.arrayContaining(["bash"]),
    });
    ask(node, ["bash", "-c", `ip address delete ${gateway} dev wayout0; :`]);
    expect(await by(`address ${gateway} on wayout0`)).toMatchObject({ process: "ip", certainty: "guessed" });
    ask(node, ["ip", "route", "delete", "default"]);
    expect(await agent.stop()).toBe(0);
    const events = await wayoutJson<StoredEvent[]>(node, "history", "--journal", journal);
    expect(events.find(({ object }) => object === "default route")?.by).toMatchObject({ process: "ip" });
    expect(events.filter(({ by: who }) => who?.pid === agent.pid)).toEqual([]);
  },
);

test("what changed of the way out of the node is noted, and no pod's coming and going", async () => {
  const { node } = world();
  const journal = freshJournal();
  await wayout(node, "attach", freshName(), "--create");
  const agent = await RunningAgent.on(node, "--journal", journal);
  const changes = [
    "ip link set up0 down",
    "ip link set up0 up",
    "ip route add default via 203.0.113.1",
    "ip route replace default via 203.0.113.1",
    "ip address delete 203.0.113.9/24 dev up0",
    "ip rule add from 192.0.2.0/24 lookup 100",
    "sysctl -qw net.ipv4.conf.up0.rp_filter=1",
    "ip route delete default",
    "sysctl -qw net.ipv4.ip_forward=0",
  ];
  for (const change of changes) ask(node, change.split(" "));
  await agent.says("repaired", { object: "net.ipv4.ip_forward" });
  await wayout(node, "attach", freshName("red"), "--create");
  expect(await agent.stop()).toBe(0);
  const events = await wayoutJson<StoredEvent[]>(node, "history", "--journal", journal);
  const noted = events.filter(({ kind }) => kind === "network" || kind === "setting");
  expect(noted.map(({ text }) => text)).toEqual([
    "up0 is down now",
    "up0 is up now",
    'the IPv4 route "default via 203.0.113.1 dev up0" is there now',
    "203.0.113.9/24 is no more on up0",
    'the rule "32765: from 192.0.2.0/24 lookup 100" is there now',
    "net.ipv4.conf.up0.rp_filter is 1 now",
    'the IPv4 route "default via 203.0.113.1 dev up0" is gone now',
    "net.ipv4.ip_forward is 0 now",
  ]);
});

testWith(["root", "nft", "iptables-legacy"])(
  "what the kernel does not announce is noted as well: rules of iptables-legacy, and settings",
  async () => {
    const { node } = world();
    const journal = freshJournal();
    ask(node, ["iptables-legacy", "-t", "nat", "-S"]);
    await wayout(node, "attach", freshName(), "--create", "--backend", "iptables");
    const agent = await RunningAgent.on(node, "--journal", journal);
    const texts = async (): Promise<string[]> =>
      (await wayoutJson<StoredEvent[]>(node, "history", "--journal", journal)).map(({ text }) => text);
    ask(node, ["iptables-legacy", "-P", "FORWARD", "DROP"]);
    ask(node, ["sysctl", "-qw", "net.ipv4.ip_default_ttl=63"]);
    const wanted = [
      "the rules of iptables-legacy were changed",
      "net.ipv4.ip_default_ttl is 63 now; it was 64",
    ];
    await until(async () => {
      const said = await texts();
      return wanted.every((one) => said.includes(one));
    }, "both are told");
    // Counters change with every packet, and are no news.
    const before = (await texts()).length;
    await Bun.sleep(1200);
    expect((await texts()).length).toBe(before);
    expect(await agent.stop()).toBe(0);
  },
);

test("what changed while no agent ran is told as that by the next one", async () => {
  const { node } = world();
  const journal = freshJournal();
  const blue = freshName();
  await wayout(node, "attach", blue, "--create");
  const first = await RunningAgent.on(node, "--journal", journal, "--look");
  await until(
    async () => (await wayout(node, "doctor", "--at", "0s", "--journal", journal)).exitCode === 0,
    "the first look is written down",
  );
  expect(await first.stop()).toBe(0);
  ask(node, ["ip", "route", "delete", "default"]);
  const second = await RunningAgent.on(node, "--journal", journal, "--look");
  expect(await second.says("way-out")).toMatchObject({
    message: expect.stringMatching(/^since .*, while no agent looked: 1 pod lost its way out/),
    pod: blue,
  });
  const events = await wayoutJson<StoredEvent[]>(node, "history", "--journal", journal);
  expect(events.filter(({ kind }) => kind === "network").map(({ text }) => text)).toContainEqual(
    expect.stringMatching(/while no agent looked: the IPv4 route "default via 203.0.113.1 dev up0" went$/),
  );
});

test("without a journal it says how one comes about", async () => {
  const { node } = world();
  const { exitCode, stderr } = await wayout(node, "history", "--journal", "/nowhere/journal.db");
  expect([exitCode, stderr]).toEqual([3, expect.stringContaining("sudo wayout agent")]);
});

test("moments are read as people write them", () => {
  const now = new Date(2026, 10, 28, 14, 30, 0).getTime();
  expect(parseMoment("10m", now)).toBe(now - 600_000);
  expect(parseMoment("14:03", now)).toBe(new Date(2026, 10, 28, 14, 3, 0).getTime());
  // What the clock has not shown today, it showed yesterday.
  expect(parseMoment("23:00:10", now)).toBe(new Date(2026, 10, 27, 23, 0, 10).getTime());
  expect(parseMoment("2026-11-28T12:00:00Z", now)).toBe(Date.UTC(2026, 10, 28, 12));
  for (const wrong of ["", "25:00", "noon", "14", "2026-13-40"])
    expect(() => parseMoment(wrong, now)).toThrow("it is no time that wayout understands");
  expect(momentText(now - 60_000, now)).toBe("14:29:00");
  expect(momentText(now - 86_400_000, now)).toBe("2026-11-27 14:30:00");
});

function freshJournal(): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-history-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "journal.db");
}
