/** Nodes that are built in uncommon ways and work: nothing is found, nothing is broken, and a real packet agrees. */
import { describe, expect } from "bun:test";
import { diagnose } from "../../src/doctor/diagnose.ts";
import { parseVirtualServices } from "../../src/kernel/procfs.ts";
import { ask, testWith } from "../support/witness.ts";
import { fetchFrom, healthyWorld, serveInternet, snapshotOf, PLAN, type World } from "./world.ts";

const { node: plan, internet, podNetworkIpv4: pods } = PLAN;

function node(world: World, line: string): void {
  ask(world.node, line.split(" "));
}

function nft(world: World, text: string): void {
  ask(world.node, ["nft", "-f", "-"], text);
}

/** A second uplink to the same internet. */
function secondUplink(world: World): void {
  node(world, `ip link add eth1 type veth peer name to-node-2 netns ${internet.namespace}`);
  node(world, "ip addr add 192.0.2.77/24 dev eth1");
  node(world, "ip link set eth1 up");
  ask(world.internet, ["ip", "addr", "add", "192.0.2.1/24", "dev", "to-node-2"]);
  ask(world.internet, ["ip", "link", "set", "to-node-2", "up"]);
}

const NODES: Readonly<Record<string, (world: World) => void>> = {
  "two uplinks and a multipath default route"(world) {
    secondUplink(world);
    const hops = `nexthop via ${internet.routerIpv4} dev up0 nexthop via 192.0.2.1 dev eth1`;
    node(world, `ip route replace default ${hops}`);
  },
  "policy routing by source to the other uplink"(world) {
    secondUplink(world);
    node(world, "ip route add default via 192.0.2.1 table 51");
    node(world, `ip route add ${pods} dev lan0 table 51`);
    node(world, `ip rule add from ${pods} lookup 51 pref 1000`);
  },
  "policy routing by a mark that a rule sets"(world) {
    secondUplink(world);
    node(world, "ip route add default via 192.0.2.1 table 52");
    node(world, "ip rule add fwmark 0x10/0x10 lookup 52 pref 1000");
    nft(
      world,
      `table ip marks { chain pre { type filter hook prerouting priority mangle; ip saddr ${pods} meta mark set 0x10; }; }`,
    );
  },
  "a tunnel's rules that suppress the default route"(world) {
    node(world, "ip rule add lookup main suppress_prefixlength 0 pref 900");
    node(world, `ip route add default via ${internet.routerIpv4} dev up0 table 51820`);
    node(world, `ip rule add not fwmark 0xca6c lookup 51820 pref 901`);
  },
  "a gateway outside of the uplink's own network"(world) {
    ask(world.internet, ["ip", "addr", "add", "192.0.2.254/32", "dev", internet.link]);
    node(world, "ip route replace default via 192.0.2.254 dev up0 onlink");
  },
  "an uplink with a /32"(world) {
    node(world, `ip addr del ${plan.uplinkIpv4}/24 dev up0`);
    node(world, `ip addr add ${plan.uplinkIpv4}/32 dev up0`);
    node(world, `ip route add ${internet.routerIpv4} dev up0 scope link`);
    node(world, `ip route replace default via ${internet.routerIpv4} dev up0`);
  },
  "a bridge as its uplink"(world) {
    node(world, "ip link add vmbr0 type bridge");
    node(world, "ip link set vmbr0 up");
    node(world, `ip addr flush dev up0`);
    node(world, "ip link set up0 master vmbr0");
    node(world, `ip addr add ${plan.uplinkIpv4}/24 dev vmbr0`);
    node(world, `ip route replace default via ${internet.routerIpv4} dev vmbr0`);
    ask(world.internet, ["ip", "neigh", "flush", "dev", internet.link]);
  },
  "its gateway's right address fixed"(world) {
    const mac = /link\/ether (\S+)/.exec(ask(world.internet, ["ip", "link", "show", internet.link]))![1]!;
    node(world, `ip neigh replace ${internet.routerIpv4} lladdr ${mac} dev up0 nud permanent`);
  },
  "addresses of Services on kube-ipvs0"(world) {
    node(world, "ip link add kube-ipvs0 type bridge");
    for (const address of ["10.96.0.1", "10.96.0.10", "198.51.100.200"]) {
      node(world, `ip addr add ${address}/32 dev kube-ipvs0`);
    }
  },
  "routes to other nodes' parts of the pod network"(world) {
    for (const part of [1, 2, 3]) node(world, `ip route add 10.0.${part}.0/24 via 203.0.113.1${part}`);
    node(world, "ip route add blackhole 10.0.4.0/24");
  },
  "kube-proxy's and portmap's rules for marked packets"(world) {
    nft(
      world,
      `table ip kube-proxy { chain nat-postrouting { type nat hook postrouting priority srcnat; meta mark & 0x4000 == 0 return; meta mark set meta mark ^ 0x4000; masquerade fully-random; }; }
       table ip cni_hostport { chain masquerading { type nat hook postrouting priority srcnat; meta mark & 0x2000 == 0x2000 masquerade; }; }`,
    );
  },
};

describe("no false alarm on a node with", () => {
  for (const [name, build] of Object.entries(NODES)) {
    testWith(["root", "ip", "nft", "curl"])(name, async () => {
      const world = healthyWorld();
      await using _ = await serveInternet(world);
      build(world);
      expect(fetchFrom(world)).toBeString();
      const target = { address: internet.httpIpv4, protocol: "tcp", port: 80 } as const;
      const snapshot = snapshotOf(world, [target.address]);
      const diagnosis = diagnose(snapshot, snapshot.pods[0]!, target);
      expect(diagnosis.findings.map((one) => `${one.code}: ${one.text}`)).toEqual([]);
      expect([diagnosis.healthy, diagnosis.certain, diagnosis.gaps]).toEqual([true, true, []]);
    });
  }

  testWith(["root", "ip", "curl"])("a pod by macvlan", async () => {
    const world = healthyWorld();
    await using _ = await serveInternet(world);
    ask(world.blue, ["ip", "link", "del", "net1"]);
    node(world, "ip link add link up0 name mv0 type macvlan mode bridge");
    node(world, `ip link set mv0 netns ${PLAN.pods.blue.namespace}`);
    for (const line of [
      "ip link set mv0 name net1",
      "ip addr add 203.0.113.60/24 dev net1",
      "ip link set net1 up",
      `ip route add default via ${internet.routerIpv4}`,
    ]) {
      ask(world.blue, line.split(" "));
    }
    expect(fetchFrom(world)).toBe("203.0.113.60");
    const look = (address: string, port: number) => {
      const snapshot = snapshotOf(world, [address]);
      return diagnose(snapshot, snapshot.pods[0]!, { address, protocol: "tcp", port });
    };
    expect(look(internet.httpIpv4, 80).findings).toEqual([]);
    // Its own host is what such a pod cannot reach.
    expect(look(plan.uplinkIpv4, 80).findings.map((one) => one.code)).toEqual(["macvlan-own-host"]);
  });
});

testWith([])("/proc/net/ip_vs", () => {
  const text = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:01BB rr
  -> C0A80001:192B      Masq    1      3          0
  -> C0A80002:192B      Masq    0      0          0
UDP  [2001:0db8:0000:0000:0000:0000:0000:0035]:0035 rr persistent 10800
`;
  expect(parseVirtualServices(text)).toEqual([
    {
      protocol: "tcp",
      address: "10.96.0.1",
      port: 443,
      destinations: 1,
      servers: [
        { address: "192.168.0.1", port: 6443, weight: 1, forward: "masq" },
        { address: "192.168.0.2", port: 6443, weight: 0, forward: "masq" },
      ],
    },
    { protocol: "udp", address: "2001:db8::35", port: 53, destinations: 0, servers: [] },
  ]);
});
