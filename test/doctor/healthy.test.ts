/** Nodes that are well must be told so, whoever else has rules on them. */
import { describe, expect } from "bun:test";
import { diagnose, type Diagnosis } from "../../src/doctor/diagnose.ts";
import { takeSnapshot } from "../../src/snapshot/collect.ts";
import { Conntrack } from "../../src/kernel/conntrack/conntrack.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { findPod } from "../../src/pods/find.ts";
import { listPods } from "../../src/pods/inventory.ts";
import { freshNamespace } from "../support/world.ts";
import { until } from "../support/until.ts";
import { ask, testWith } from "../support/witness.ts";
import { PRODUCT_RULESETS } from "./product-rulesets.ts";
import {
  askFrom,
  fetchFrom,
  healthyWorld,
  serveInternet,
  servePod,
  snapshotOf,
  PLAN,
  type World,
} from "./world.ts";

function look(world: World, family: 4 | 6 = 4): Diagnosis {
  const address = family === 4 ? PLAN.internet.httpIpv4 : PLAN.internet.httpIpv6;
  const snapshot = snapshotOf(world, [address]);
  return diagnose(snapshot, snapshot.pods[0]!, { address, protocol: "tcp", port: 80 });
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
      "up0",
      "table",
      "100",
    ]);
    ask(world.node, ["ip", "route", "add", PLAN.podNetworkIpv4, "dev", "lan0", "table", "100"]);
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
      ask(namespace, [
        "sh",
        "-c",
        "for l in lan0 up0 net1; do ip -4 addr flush dev $l 2>/dev/null; done; true",
      ]);
    }
    expect(fetchFrom(world, 6)).toBeString();
    expectHealthy(look(world, 6));
  });

  testWith(["root", "ip", "ping", "curl"])(
    "with flows of every kind, to the outside and to a neighbour",
    async () => {
      const world = healthyWorld();
      await using _ = await serveInternet(world);
      await using _green = await servePod(world.green, 8080);
      expect(askFrom(world)).toBe(true);
      expect(fetchFrom(world)).toBeString();
      expect(fetchFrom(world, 4, 5, `${PLAN.pods.green.ipv4}:8080`)).toBeString();
      for (const address of [PLAN.internet.dnsIpv4, PLAN.internet.dnsIpv6, PLAN.pods.green.ipv4]) {
        ask(world.blue, ["ping", "-c", "1", "-W", "5", address]);
      }
      for (const [address, protocol] of [
        [PLAN.internet.dnsIpv4, "udp"],
        [PLAN.internet.dnsIpv4, "icmp"],
        [PLAN.internet.dnsIpv6, "icmpv6"],
        [PLAN.internet.httpIpv4, "tcp"],
      ] as const) {
        const snapshot = snapshotOf(world, [address]);
        expect(snapshot.node.conntrack!.flows!.length).toBeGreaterThan(2);
        const port = { udp: 53, tcp: 80, icmp: 0, icmpv6: 0 }[protocol];
        expectHealthy(diagnose(snapshot, snapshot.pods[0]!, { address, protocol, port }));
      }
    },
  );

  testWith(["root", "ip", "curl"])("with several outgoing addresses, and flows by each", async () => {
    const world = healthyWorld();
    await using _ = await serveInternet(world);
    ask(world.node, ["ip", "addr", "add", "203.0.113.6/24", "dev", "up0"]);
    ask(world.node, ["nft", "delete", "table", "inet", "wayout"]);
    ask(world.node, [
      "nft",
      "table ip pool { chain postrouting { type nat hook postrouting priority 100; ip saddr 10.0.0.0/24 oifname up0 snat to 203.0.113.5-203.0.113.6; }; }",
    ]);
    for (let flow = 0; flow < 8; flow++) expect(askFrom(world)).toBe(true);
    expect(fetchFrom(world)).toBeString();
    const address = PLAN.internet.dnsIpv4;
    const snapshot = snapshotOf(world, [address]);
    expectHealthy(diagnose(snapshot, snapshot.pods[0]!, { address, protocol: "udp", port: 53 }));
  });

  testWith(["root", "ip"])(
    "with an outgoing address for one destination that the router routes to the node",
    async () => {
      const world = healthyWorld();
      await using _ = await serveInternet(world);
      ask(world.internet, ["ip", "route", "add", "192.0.2.99", "via", PLAN.node.uplinkIpv4]);
      ask(world.node, [
        "nft",
        `table ip egress { chain postrouting { type nat hook postrouting priority 90; ip daddr ${PLAN.internet.dnsIpv4} snat to 192.0.2.99; }; }`,
      ]);
      expect(askFrom(world)).toBe(true);
      // About the web: the flows to the name server are as their rule wants them.
      const { flows } = snapshotOf(world).node.conntrack!;
      expect(flows!.map((flow) => flow.translatedTo)).toContain("192.0.2.99");
      expectHealthy(look(world));
    },
  );

  testWith(["root", "ip", "curl"])("after the node's address has changed under a masquerade", async () => {
    const world = healthyWorld();
    await using _ = await serveInternet(world);
    expect(askFrom(world, 5300)).toBe(true);
    for (const [change, address] of [
      ["del", PLAN.node.uplinkIpv4],
      ["add", PLAN.otherUplinkIpv4],
    ] as const) {
      ask(world.node, ["ip", "addr", change, `${address}/24`, "dev", "up0"]);
    }
    ask(world.node, ["ip", "route", "replace", "default", "via", PLAN.internet.routerIpv4]);
    // The kernel forgets the flows of a lost address in the background (nf_nat_masquerade.c).
    using table = Conntrack.open(world.node);
    const lost = { reply: { destination: PLAN.node.uplinkIpv4 } };
    await until(() => table.entries(lost).length === 0, "the flows of the lost address are forgotten");
    expect(table.entries(lost)).toEqual([]);
    expect(askFrom(world, 5300)).toBe(true);
    const address = PLAN.internet.dnsIpv4;
    const snapshot = snapshotOf(world, [address]);
    expectHealthy(diagnose(snapshot, snapshot.pods[0]!, { address, protocol: "udp", port: 53 }));
  });

  testWith(["root", "ip"])(
    "beside another node's pod with the same address, and the same numbers of links",
    () => {
      const world = healthyWorld();
      const elsewhere = freshNamespace("elsewhere");
      const twin = freshNamespace("twin");
      // The kernel numbers links in each namespace anew: a peer's number alone says nothing.
      const { blue } = PLAN.pods;
      const number = (namespace: NetworkNamespace, name: string): string =>
        /^(\d+):/.exec(ask(namespace, ["ip", "-o", "link", "show", name]))![1]!;
      const host = number(world.node, blue.veth);
      const pair = ["ip", "link", "add", "name", "net1", "index", number(world.blue, "net1"), "type", "veth"];
      ask(twin, [
        ...pair,
        "peer",
        "name",
        "veth-twin",
        "index",
        host,
        "netns",
        elsewhere.path.split("/").at(-1)!,
      ]);
      ask(twin, ["ip", "link", "set", "net1", "up"]);
      ask(twin, ["ip", "addr", "add", `${blue.ipv4}/24`, "dev", "net1"]);
      const address = PLAN.internet.httpIpv4;
      const snapshot = takeSnapshot({
        node: world.node,
        pods: [findPod(blue.namespace)],
        others: [findPod(twin.path)],
        destinations: [address],
      });
      const diagnosis = diagnose(snapshot, snapshot.pods[0]!, { address, protocol: "tcp", port: 80 });
      expectHealthy(diagnosis);
    },
  );

  testWith(["root", "ip"])(
    "a pair of its own makes no namespace a pod of ours, whatever its indexes are",
    () => {
      const [own, other] = [freshNamespace("own"), freshNamespace("other")];
      for (const one of [own, other])
        ask(one, "ip link add here index 40 type veth peer name there index 41".split(" "));
      const snapshot = takeSnapshot({
        node: own,
        pods: listPods(),
        onlyOfNode: true,
        destinations: ["198.51.100.80"],
      });
      expect(snapshot.pods).toEqual([]);
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
