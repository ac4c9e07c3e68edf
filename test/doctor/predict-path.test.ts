import { expect } from "bun:test";
import { predictPath } from "../../src/doctor/predict/predict.ts";
import { PLAN } from "../../src/lab/plan.ts";
import { testWith } from "../support/witness.ts";
import { healthyWorld, snapshotOf } from "./world.ts";

testWith(["root"])("a pod with a way out: the whole path, there and back", () => {
  const world = healthyWorld();
  const snapshot = snapshotOf(world);
  const { path, certain } = predictPath(snapshot, snapshot.pods[0]!, {
    address: PLAN.internet.httpIpv4,
    protocol: "tcp",
    port: 80,
  });
  expect(path.stops).toEqual([]);
  expect(certain).toBe(true);
  expect(path.sent?.source).toBe(PLAN.pods.blue.ipv4);
  expect(path.left?.source).toBe(PLAN.node.uplinkIpv4);
  expect(path.steps.map(({ place, direction, at }) => `${place} ${direction} ${at}`)).toEqual([
    "pod out route",
    "node out wire",
    "node out route",
    "node out postrouting",
    "node out postrouting",
    "node back route",
    "pod back input",
  ]);
});
