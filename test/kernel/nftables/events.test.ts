/** A traced packet's way through the rules, and the news of a changed ruleset. */
import { expect } from "bun:test";
import { addChain, addRule, addTable } from "../../../src/linux/nftables/commands.ts";
import { NftMonitor, type NftEvent, type TraceEvent } from "../../../src/kernel/nftables/events.ts";
import { Nftables } from "../../../src/kernel/nftables/nftables.ts";
import { accept, counter, drop, jump, match, setNftrace } from "../../../src/linux/nftables/rule-builder.ts";
import { ask, run, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";

const table = { family: "inet", table: "t" } as const;
const at = { type: "filter", hook: "input", policy: "drop" } as const;

function allEvents(monitor: NftMonitor): NftEvent[] {
  const events: NftEvent[] = [];
  for (let more = monitor.events(500); more.length > 0; more = monitor.events(0)) events.push(...more);
  return events;
}

testWith(["root", "ping"])("a traced packet tells every chain, rule and verdict it met", () => {
  const namespace = freshNamespace();
  using nftables = Nftables.open(namespace);
  nftables.transaction(
    [
      addTable(table),
      addChain({ ...table, chain: "sub" }),
      addChain({ ...table, chain: "in" }, { base: { ...at, priority: 0 } }),
      addChain({ ...table, chain: "first" }, { base: { ...at, priority: -10, policy: "accept" } }),
      addRule({ ...table, chain: "first" }, { expressions: [match("meta l4proto", "icmp"), setNftrace()] }),
      addRule({ ...table, chain: "in" }, { expressions: [match("meta iifname", "lo"), jump("sub")] }),
      addRule({ ...table, chain: "sub" }, { expressions: [counter()] }),
    ],
    "setting up",
  );
  using monitor = NftMonitor.open(namespace);
  expect(run(namespace, ["ping", "-c", "1", "-W", "1", "127.0.0.1"]).exitCode).not.toBe(0);
  const events = allEvents(monitor).filter((event): event is TraceEvent => event.kind === "trace");
  const seen = events.map(({ chain, type, verdict, policy }) => [chain, type, verdict?.verdict ?? policy]);
  expect(seen).toEqual([
    ["first", "rule", "continue"],
    ["first", "return", "continue"],
    ["first", "policy", "accept"],
    ["in", "rule", "jump"],
    ["sub", "rule", "continue"],
    ["sub", "return", "continue"],
    ["in", "return", "continue"],
    ["in", "policy", "drop"],
  ]);
  expect(new Set(events.map((event) => event.id)).size).toBe(1);
  expect(events.every((event) => event.table === "t" && event.family === "inet")).toBe(true);
  expect(events[0]!.iif).toBe(1);
  // An IPv4 header of a packet from 127.0.0.1 to 127.0.0.1, and an echo request.
  expect(events[0]!.networkHeader).toMatch(/^45.{22}7f0000017f000001/);
  expect(events[0]!.transportHeader).toMatch(/^0800/);
  const rules = nftables.chainRules({ ...table, chain: "in" })!;
  expect(events[3]!.ruleHandle).toBe(rules[0]!.handle);
  expect(events[3]!.verdict).toEqual({ verdict: "jump", chain: "sub" });
});

testWith(["root", "nft"])("somebody's change is told with who made it", () => {
  const namespace = freshNamespace();
  using monitor = NftMonitor.open(namespace, ["generation"]);
  using nftables = Nftables.open(namespace);
  expect(monitor.events(0)).toEqual([]);
  ask(namespace, ["nft", "add", "table", "ip", "x"]);
  const events = allEvents(monitor);
  expect(events).toMatchObject([{ kind: "generation", generation: nftables.generation(), process: "nft" }]);
});

testWith(["root", "ping"])("packets that nobody traces tell nothing", () => {
  const namespace = freshNamespace();
  using nftables = Nftables.open(namespace);
  const chain = { ...table, chain: "in" };
  nftables.transaction(
    [
      addTable(table),
      addChain(chain, { base: { ...at, priority: 0 } }),
      addRule(chain, { expressions: [match("ip saddr", "192.0.2.1"), drop()] }),
      addRule(chain, { expressions: [accept()] }),
    ],
    "setting up",
  );
  using monitor = NftMonitor.open(namespace);
  ask(namespace, ["ping", "-c", "1", "-W", "1", "127.0.0.1"]);
  expect(monitor.events(50)).toEqual([]);
});
