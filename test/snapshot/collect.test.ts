/** What is asked of a crowded node: other pods' addresses only where one of them may matter. */
import { expect } from "bun:test";
import { PLAN } from "../../src/lab/plan.ts";
import { findPod } from "../../src/pods/find.ts";
import { takeSnapshot } from "../../src/snapshot/collect.ts";
import { healthyWorld } from "../doctor/world.ts";
import { testWith } from "../support/witness.ts";

testWith(["root"])("of many other pods only those are read that a check may ask for", () => {
  const world = healthyWorld();
  const green = findPod(PLAN.pods.green.namespace);
  const crowd = Array.from({ length: 40 }, () => green);
  const names = (destination: string, others = crowd): string[] =>
    takeSnapshot({
      node: world.node,
      pods: [findPod(PLAN.pods.blue.namespace)],
      others,
      destinations: [destination],
    }).pods.map((pod) => pod.name);
  const { blue } = PLAN.pods;
  expect(names(PLAN.internet.httpIpv4)).toEqual([blue.namespace]);
  // The destination lies in the range of a bridge: somebody there may have it.
  expect(names(PLAN.pods.green.ipv4)).toHaveLength(41);
  expect(names(PLAN.pods.green.ipv6)).toHaveLength(41);
  expect(names(PLAN.internet.httpIpv4, [green])).toEqual([blue.namespace, green.name]);
});
