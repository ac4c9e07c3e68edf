/** Figures of pods' traffic: of the node's ends of their links, bounded in number, and only growing. */
import { expect } from "bun:test";
import { AgentMetrics, type CountedLink } from "../../src/agent/metrics.ts";
import type { Look } from "../../src/agent/look/look.ts";
import { socketPath } from "../../src/agent/socket.ts";
import { freshName, seenFrom, UPLINK, wayout, world } from "../attachment/world.ts";
import { until } from "../support/until.ts";
import { testWith } from "../support/witness.ts";
import { RunningAgent } from "./running-agent.ts";

testWith(["root", "nft"])("what a pod sends is counted under its name", async () => {
  const { node } = world();
  const blue = freshName();
  await wayout(node, "attach", blue, "--create");
  const agent = await RunningAgent.on(node, "--look");
  await agent.says("listening");
  const bytes = async (): Promise<number> => {
    const text = await (await fetch("http://agent/metrics", { unix: socketPath(node) })).text();
    return Number(
      new RegExp(`^wayout_pod_egress_bytes_total\\{pod="${blue}"\\} (\\d+)$`, "m").exec(text)?.[1],
    );
  };
  await until(async () => !Number.isNaN(await bytes()), "it looks");
  const before = await bytes();
  expect(await seenFrom(blue)).toBe(UPLINK.v4);
  expect((await bytes()) - before).toBeGreaterThan(200);
});

testWith([])("fifty pods have a name; the rest are one, also when others send more by then", async () => {
  const PODS = 60;
  let sent = (link: number): number => link;
  const links = (): CountedLink[] =>
    Array.from({ length: PODS }, (_, link) => ({
      index: link,
      statistics: { rxBytes: sent(link), rxPackets: 1 },
    }));
  const metrics = new AgentMetrics(
    async () => undefined,
    () => true,
    links,
  );
  const ends = Array.from({ length: PODS }, (_, link) => ({ pod: `pod-${link}`, link }));
  metrics.looked({ verdicts: [], ends } as unknown as Look, 0);
  const lines = async (): Promise<string[]> =>
    [...(await metrics.text()).text.matchAll(/^wayout_pod_egress_bytes_total\{.*$/gm)].map(([line]) => line);
  const first = await lines();
  expect(first.length).toBe(51);
  expect(first).toContain('wayout_pod_egress_bytes_total{pod="other"} 545');
  sent = (link) => link * 1000;
  const second = await lines();
  expect(second.map((line) => line.split(" ")[0])).toEqual(first.map((line) => line.split(" ")[0]));
  expect(second).toContain('wayout_pod_egress_bytes_total{pod="other"} 545000');
});

testWith([])(
  "ports that are left are told of each destination that is named, and of the others together",
  async () => {
    const use = { protocol: "tcp", outgoing: "203.0.113.5", destination: "198.51.100.9", port: 443 };
    const metrics = new AgentMetrics(
      async () => ({
        table: { entries: 9, maximum: 100 },
        counters: [],
        flows: 9,
        kinds: [],
        sources: [],
        destinations: [],
        portUse: [{ ...use, used: 5, of: 100 }],
        portUseOfOthers: { groups: 3, used: 4, of: 300 },
      }),
      () => true,
    );
    const { text } = await metrics.text();
    expect([...text.matchAll(/^wayout_source_ports_free\{.*$/gm)].map(([line]) => line)).toEqual([
      'wayout_source_ports_free{protocol="tcp",outgoing="203.0.113.5",destination="198.51.100.9:443"} 95',
      'wayout_source_ports_free{protocol="other",outgoing="other",destination="other"} 296',
    ]);
  },
);
