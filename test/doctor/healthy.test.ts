/** Nodes that are well must be told so, whoever else has rules on them. */
import { describe, expect } from "bun:test";
import { diagnose, type Diagnosis } from "../../src/doctor/diagnose.ts";
import { PLAN } from "../../src/lab/plan.ts";
import type { World } from "../../src/lab/world.ts";
import { takeSnapshot } from "../../src/snapshot/collect.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { findPod } from "../../src/pods/find.ts";
import { listPods } from "../../src/pods/inventory.ts";
import { freshNamespace } from "../support/world.ts";
import { ask, testWith } from "../support/witness.ts";
import { PRODUCT_RULESETS } from "./product-rulesets.ts";
import { fetchFrom, healthyWorld, serveInternet, snapshotOf } from "./world.ts";

function look(world: World, family: 4 | 6 = 4): Diagnosis {
  const address = family === 4 ? PLAN.internet.httpIpv4 : PLAN.internet.httpIpv6;
  const snapshot = snapshotOf(world, [address]);
  return diagnose(snapshot, snapshot.pods[0]!, { address, protocol: "tcp", port: 80 });
}

/** The numbers of both ends of blue's cable. */
function cableOf(world: World): { readonly podLink: number; readonly hostLink: number } {
  using route = Rtnetlink.open(world.blue);
  const { index, link } = route.link(PLAN.podInterface)!;
  return { podLink: index, hostLink: link! };
}

function expectHealthy(diagnosis: Diagnosis): void {
  expect(diagnosis.findings.map((one) => `${one.code}: ${one.text}`)).toEqual([]);
  expect(diagnosis.healthy).toBe(true);
  expect(diagnosis.certain).toBe(true);
  expect(diagnosis.gaps).toEqual([]);
}

describe("no false alarm", () => {
  for (const { product, nft, iptables, ipset } of PRODUCT_RULESETS) {
    const needs = [
      "root",
      "nft",
      "curl",
      ...(iptables === undefined ? [] : ["iptables"]),
      ...(ipset === undefined ? [] : ["ipset"]),
    ];
    testWith(needs)(`beside the rules of ${product}`, async () => {
      const world = healthyWorld();
      await using _ = await serveInternet(world);
      if (ipset !== undefined) ask(world.node, ["ipset", "restore"], ipset);
      if (nft !== undefined) ask(world.node, ["nft", "-f", "-"], nft);
      if (iptables !== undefined) ask(world.node, ["iptables-nft-restore", "--noflush"], iptables);
      expect(fetchFrom(world)).toBe(PLAN.node.uplinkIpv4);
      expectHealthy(look(world));
    });
  }

  testWith(["root", "ip", "curl"])("with policy routing by source", async () => {
    const world = healthyWorld();
    await using _ = await serveInternet(world);
    ask(world.node, [
      "ip",
      "route",
      "add",
      "default",
      "via",
      PLAN.internet.routerIpv4,
      "dev",
      "eth0",
      "table",
      "100",
    ]);
    ask(world.node, ["ip", "route", "add", PLAN.podNetworkIpv4, "dev", "br0", "table", "100"]);
    ask(world.node, ["ip", "rule", "add", "from", PLAN.podNetworkIpv4, "lookup", "100", "priority", "1000"]);
    ask(world.node, ["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1"]);
    expect(fetchFrom(world)).toBeString();
    expectHealthy(look(world));
  });

  testWith(["root", "ip", "curl"])("with two uplinks", async () => {
    const world = healthyWorld();
    await using _ = await serveInternet(world);
    ask(world.node, [
      "ip",
      "link",
      "add",
      "eth1",
      "type",
      "veth",
      "peer",
      "name",
      "to-node-2",
      "netns",
      PLAN.internet.namespace,
    ]);
    ask(world.node, ["ip", "link", "set", "eth1", "up"]);
    ask(world.internet, ["ip", "link", "set", "to-node-2", "up"]);
    ask(world.node, ["ip", "addr", "add", "192.0.2.5/24", "dev", "eth1"]);
    ask(world.internet, ["ip", "addr", "add", "192.0.2.1/24", "dev", "to-node-2"]);
    ask(world.node, ["ip", "route", "add", "default", "via", "192.0.2.1", "dev", "eth1", "metric", "500"]);
    expect(fetchFrom(world)).toBe(PLAN.node.uplinkIpv4);
    expectHealthy(look(world));
  });

  testWith(["root", "ip", "curl"])("with IPv6 only", async () => {
    const world = healthyWorld();
    await using _ = await serveInternet(world);
    for (const namespace of [world.blue, world.node]) {
      ask(namespace, ["sh", "-c", "for l in br0 eth0; do ip -4 addr flush dev $l 2>/dev/null; done; true"]);
    }
    expect(fetchFrom(world, 6)).toBeString();
    expectHealthy(look(world, 6));
  });

  testWith(["root", "ip"])(
    "beside a node within the node, whose pod has the same address and numbers",
    () => {
      const world = healthyWorld();
      const { podLink, hostLink } = cableOf(world);
      const [otherNode, otherPod] = [freshNamespace("other-node"), freshNamespace("other-pod")];
      const cable = `link add v0 index ${hostLink} type veth peer name ${PLAN.podInterface} index ${podLink} netns ${otherPod.name}`;
      ask(otherNode, ["ip", ...cable.split(" ")]);
      ask(otherPod, ["ip", "addr", "add", `${PLAN.pods.blue.ipv4}/24`, "dev", PLAN.podInterface]);
      const address = PLAN.internet.httpIpv4;
      const snapshot = takeSnapshot({
        node: world.node,
        pods: [findPod(PLAN.pods.blue.namespace)],
        others: [findPod(otherPod.name!)],
        destinations: [address],
      });
      expect(snapshot.pods[1]!.state!.addresses.map((one) => one.address)).toContain(PLAN.pods.blue.ipv4);
      expectHealthy(diagnose(snapshot, snapshot.pods[0]!, { address, protocol: "tcp", port: 80 }));
    },
  );

  testWith(["root"])("in a machine with nothing but one namespace", () => {
    const alone = freshNamespace("alone");
    const snapshot = takeSnapshot({
      node: alone,
      pods: listPods(),
      onlyOfNode: true,
      destinations: ["198.51.100.80"],
    });
    expect(snapshot.pods).toEqual([]);
    expect(snapshot.missing).toEqual([]);
  });
});
