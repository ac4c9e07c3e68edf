/** What stands beside netfilter cannot be predicted: it is named, and where it could translate nothing is claimed. */
import { expect } from "bun:test";
import { diagnose } from "../../src/doctor/diagnose.ts";
import { faultNamed } from "../../src/lab/faults/all.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { attachProgram } from "../support/bpf.ts";
import { ask, testWith } from "../support/witness.ts";
import { healthyWorld, snapshotOf, PLAN } from "./world.ts";

const target = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 } as const;

function linkIndex(namespace: NetworkNamespace, name: string): number {
  using route = Rtnetlink.open(namespace);
  return route.link(name)!.index;
}

testWith(["root", "tc"])("a filter on the way out is named, and a missing rule is not blamed", () => {
  const world = healthyWorld();
  faultNamed("no-masquerade")!.apply(world);
  ask(world.node, ["tc", "qdisc", "add", "dev", "up0", "clsact"]);
  ask(world.node, ["tc", "filter", "add", "dev", "up0", "egress", "bpf", "bytecode", "1,6 0 0 0,"]);
  const snapshot = snapshotOf(world);
  expect(snapshot.node.programs).toEqual([{ link: "up0", hook: "tc egress" }]);
  const diagnosis = diagnose(snapshot, snapshot.pods[0]!, target);
  expect(diagnosis.path.blindSpots).toEqual(["program without a name at tc egress of up0"]);
  expect(diagnosis.certain).toBe(false);
  expect(diagnosis.answer).toContain("cannot be told");
  expect(diagnosis.findings.map((one) => one.code)).not.toContain("nat-missing");
});

testWith(["real-root"])("programs are called by their names, and Cilium's are Cilium's", () => {
  const world = healthyWorld();
  const uplink = linkIndex(world.node, "up0");
  using _a = attachProgram(world.node, uplink, "tcx egress", "cil_to_netdev");
  using _b = attachProgram(world.node, uplink, "xdp", "load_balancer");
  using _c = attachProgram(
    world.node,
    linkIndex(world.node, "veth-blue"),
    "tcx ingress",
    "cil_from_container",
  );
  const snapshot = snapshotOf(world);
  expect(snapshot.node.programs.map(({ link, hook, name }) => `${link} ${hook} ${name}`)).toEqual([
    "up0 xdp load_balancer",
    "up0 tcx egress cil_to_netdev",
    "veth-blue tcx ingress cil_from_contai",
  ]);
  const diagnosis = diagnose(snapshot, snapshot.pods[0]!, target);
  expect(diagnosis.healthy).toBe(true);
  expect(diagnosis.path.blindSpots).toEqual([
    "program cil_from_contai (Cilium) at tcx ingress of veth-blue",
    "program cil_to_netdev (Cilium) at tcx egress of up0",
    "program load_balancer at xdp of up0",
  ]);
});

testWith(["real-root", "ip"])(
  "a program that translates on another link is the reason, not a missing rule",
  () => {
    const world = healthyWorld();
    faultNamed("no-masquerade")!.apply(world);
    ask(world.node, ["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1-peer"]);
    using _ = attachProgram(world.node, linkIndex(world.node, "eth1"), "tcx egress", "cil_to_netdev");
    const snapshot = snapshotOf(world);
    const { findings } = diagnose(snapshot, snapshot.pods[0]!, target);
    expect(findings.map((one) => one.code)).toEqual(["nat-program-elsewhere"]);
    expect(findings[0]!.text).toBe("Cilium translates what leaves by eth1, and the packet leaves by up0");
    expect(findings[0]!.owner).toBe("Cilium");
  },
);
