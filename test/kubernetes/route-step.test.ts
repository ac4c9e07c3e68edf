/** Routes of a large cluster on a node of the test's own. */
import { expect } from "bun:test";
import { RouteWatch } from "../../src/kernel/route/watch.ts";
import { clusterNodeOf, type ClusterNode } from "../../src/kubernetes/cluster-node.ts";
import type { ClusterView } from "../../src/kubernetes/cluster.ts";
import { RouteStep, type RouteChanges } from "../../src/kubernetes/route-step.ts";
import { ask, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { nodeObject } from "./api-server.ts";

const test = testWith(["root"]);

function node(name: string, podCidrs: readonly string[], addresses: readonly string[]): ClusterNode {
  return clusterNodeOf(nodeObject(name, podCidrs, addresses))!.value;
}

const OWN = node("own", ["10.127.0.0/24"], ["172.20.0.1"]);
const PEERS = Array.from({ length: 1000 }, (_, number) => {
  const [high, low] = [Math.floor(number / 250), number % 250];
  return node(`n${number}`, [`10.${128 + high}.${low}.0/24`], [`172.20.${1 + high}.${low + 1}`]);
});

test("a thousand nodes are routed at once; then nothing is written, and most of them gone wait for a minute", () => {
  const namespace = freshNamespace("node");
  ask(namespace, [
    "sh",
    "-c",
    "ip link add up0 type veth peer name up1 && ip link set up0 up && ip link set up1 up && ip address add 172.20.0.1/16 dev up0",
  ]);
  let view: ClusterView = { own: OWN, peers: PEERS };
  let now = 0;
  const changes: RouteChanges[] = [];
  const withheld: number[] = [];
  using step = new RouteStep(
    namespace,
    () => view,
    {
      changed: (one) => changes.push(one),
      withheld: (count, of, waitMs) => withheld.push(count, of, waitMs),
      unreached: (problems) => expect(problems).toEqual([]),
    },
    () => now,
  );
  const count = (): number =>
    ask(namespace, ["ip", "route", "show", "proto", "119"]).trim().split("\n").length;
  expect(step.run()).toEqual([]);
  expect([count(), changes]).toEqual([1001, [{ set: 1001, deleted: 0 }]]);
  using watch = RouteWatch.open(namespace, ["routes"]);
  for (let again = 0; again < 5; again++) expect(step.run()).toEqual([]);
  expect([watch.next(0), changes.length]).toEqual([[], 1]);
  view = { own: OWN, peers: PEERS.slice(0, 400) };
  step.run();
  now = 59_999;
  step.run();
  expect([count(), withheld, step.led.destinations.size]).toEqual([1001, [600, 1000, 60_000], 1001]);
  now = 60_000;
  step.run();
  expect([count(), changes.slice(1)]).toEqual([401, [{ set: 0, deleted: 600 }]]);
});
