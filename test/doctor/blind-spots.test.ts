/** What stands beside netfilter cannot be predicted: it is named, and where it could translate nothing is claimed. */
import { expect } from "bun:test";
import { diagnose } from "../../src/doctor/diagnose.ts";
import { faultNamed } from "../../src/lab/faults.ts";
import { PLAN } from "../../src/lab/plan.ts";
import { ask, testWith } from "../support/witness.ts";
import { healthyWorld, snapshotOf } from "./world.ts";

testWith(["root", "tc"])("a filter on the way out is named, and a missing rule is not blamed", () => {
  const world = healthyWorld();
  faultNamed("no-masquerade")!.apply(world);
  ask(world.node, ["tc", "qdisc", "add", "dev", "eth0", "clsact"]);
  ask(world.node, ["tc", "filter", "add", "dev", "eth0", "egress", "bpf", "bytecode", "1,6 0 0 0,"]);
  const snapshot = snapshotOf(world);
  expect(snapshot.node.programs).toEqual([{ link: "eth0", hook: "tc egress" }]);
  const target = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 } as const;
  const diagnosis = diagnose(snapshot, snapshot.pods[0]!, target);
  expect(diagnosis.path.blindSpots).toEqual(["program without a name at tc egress of eth0"]);
  expect(diagnosis.certain).toBe(false);
  expect(diagnosis.answer).toContain("cannot be told");
  expect(diagnosis.findings.map((one) => one.code)).not.toContain("nat-missing");
});
