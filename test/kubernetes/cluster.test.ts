/** Agents of a cluster on nodes of the test's own: real routes, real pods, made by the plugin as a runtime makes them. */
import { expect } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { socketPath } from "../../src/agent/service.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { NODES } from "./api-server.ts";
import {
  ClusterWorld,
  reaches,
  routesOf,
  seenAs,
  SERVER,
  until,
  type ClusterNodeOfTest,
} from "./cluster-world.ts";

const test = testWith(["root", "nft", "openssl", "curl", "ping"]);
const TIMEOUT_MS = 120_000;

async function readyz(node: ClusterNodeOfTest): Promise<{ ready: boolean; troubles: { message: string }[] }> {
  const answer = await fetch("http://agent/readyz", { unix: socketPath(node.namespace) });
  return (await answer.json()) as { ready: boolean; troubles: { message: string }[] };
}

async function metric(node: ClusterNodeOfTest, name: string): Promise<number> {
  const answer = await fetch("http://agent/metrics", { unix: socketPath(node.namespace) });
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(await answer.text())?.[1]);
}

/** Two nodes of both families with their agents, ready. */
async function twoNodes(...podCidrs: readonly (readonly string[])[]) {
  const world = await ClusterWorld.make("node-a", "node-b");
  const [a, b] = world.nodes as [ClusterNodeOfTest, ClusterNodeOfTest];
  const [ofA = ["10.244.1.0/24", "fd00:10:244:1::/64"], ofB = ["10.244.2.0/24", "fd00:10:244:2::/64"]] =
    podCidrs;
  world.post(a, ofA);
  world.post(b, ofB);
  const agents = [await world.agent(a), await world.agent(b)] as const;
  await until(() => [a, b].every((node) => world.conflist(node) !== undefined), "both are configured");
  return { world, a, b, agents };
}

test(
  "pods of two nodes reach each other as themselves, and the outside as their node, in both families",
  async () => {
    const { world, a, b, agents } = await twoNodes();
    expect(routesOf(a)).toEqual([
      "blackhole 10.244.1.0/24 metric 2147483647",
      "10.244.2.0/24 via 203.0.113.12 dev up0",
      "blackhole fd00:10:244:1::/64 dev lo metric 2147483647",
      "fd00:10:244:2::/64 via 2001:db8:113::12 dev up0 metric 1024",
    ]);
    const [left, right] = [world.pod(a), world.pod(b)];
    expect(left.addresses.map((one) => one.split(/[.:]/).slice(0, 3).join())).toEqual([
      "10,244,1",
      "fd00,10,244",
    ]);
    for (const family of [0, 1]) {
      expect(await seenAs(left.namespace, right.namespace, right.addresses[family]!)).toBe(
        left.addresses[family]!,
      );
      expect(await seenAs(right.namespace, left.namespace, left.addresses[family]!)).toBe(
        right.addresses[family]!,
      );
    }
    expect(await seenAs(left.namespace, world.outside, SERVER[4])).toBe(a.v4);
    expect(await seenAs(left.namespace, world.outside, SERVER[6])).toBe(a.v6);
    // Nodes as well see the pod.
    expect(await seenAs(left.namespace, b.namespace, b.v4)).toBe(left.addresses[0]!);
    expect(await readyz(a)).toEqual({ ready: true, troubles: [] });
    // A packet to a pod that is not there ends on its node.
    expect(run(right.namespace, ["ping", "-c1", "-W1", "10.244.1.77"]).exitCode).not.toBe(0);
    for (const agent of agents) expect(await agent.stop()).toBe(0);
    // Everything stays for the pods: an upgrade is no outage.
    expect(await seenAs(left.namespace, right.namespace, right.addresses[0]!)).toBe(left.addresses[0]!);
    expect(await seenAs(left.namespace, world.outside, SERVER[4])).toBe(a.v4);
    expect(world.conflist(a)).toBeDefined();
  },
  TIMEOUT_MS,
);
