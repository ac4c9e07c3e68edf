/**
 * More situations from public reports, each with its healthy neighbour: frames that rules drop or a bridge gives elsewhere,
 * routes and rules that look at more than addresses, resolvers that are none.
 */
import { describe, expect } from "bun:test";
import { diagnose } from "../../src/doctor/diagnose.ts";
import type { FindingCode } from "../../src/causes/catalogue/all.ts";
import type { Target } from "../../src/doctor/predict/path.ts";
import { parseResolvConf } from "../../src/linux/resolv-conf.ts";
import { ask, testWith } from "../support/witness.ts";
import {
  deadEnd,
  forgetNeighbours,
  look,
  macOf,
  nft,
  node,
  pod,
  testSituations,
  WEB,
  type Situation,
} from "./situation.ts";
import { healthyWorld, snapshotOf, PLAN } from "./world.ts";

const WEB6: Target = { address: PLAN.internet.httpIpv6, protocol: "tcp", port: 80 };
const { blue, green } = PLAN.pods;
const { uplink, bridge } = PLAN.node;

const arpFilter = (rules: string): string =>
  `table arp wall { chain input { type filter hook input priority 0; policy drop; iifname "${bridge}" accept; ${rules} }; }\n`;
const bridgeFilter = (rule: string): string =>
  `table bridge spoof { chain pre { type filter hook prerouting priority 0; iifname "${blue.veth}" ether type arp ${rule} drop; }; }\n`;

const SITUATIONS: readonly Situation[] = [
  {
    name: "an ARP filter forgot the uplink",
    healthy: (world) => nft(world, arpFilter(`iifname "${uplink}" accept;`)),
    fault(world) {
      nft(world, `delete table arp wall\n${arpFilter("")}`);
      forgetNeighbours(world);
    },
    code: "filter-policy-drops",
    says: new RegExp(`the policy of arp wall input .* drops ARP at ${uplink}`),
    fix: new RegExp(`nft insert rule arp wall input iifname '"${uplink}"' accept$`),
  },
  {
    name: "arptables drops what comes in",
    needs: ["arptables"],
    fault(world) {
      node(world, "arptables -A INPUT -j DROP");
      forgetNeighbours(world);
    },
    code: "filter-rule-drops",
    says: /in arp filter INPUT drops ARP for ns-blue/,
    fix: new RegExp(
      `nft insert rule arp filter INPUT iifname '"${bridge}"' accept && .*iifname '"${uplink}"' accept$`,
    ),
  },
  {
    name: "a check of senders drops the pod's ARP",
    healthy: (world) => nft(world, bridgeFilter(`arp saddr ip != ${blue.ipv4}`)),
    fault(world) {
      nft(world, `delete table bridge spoof\n${bridgeFilter("")}`);
      forgetNeighbours(world);
    },
    code: "bridge-filter-drops",
    says: /rule “.*ether type arp drop” in table bridge spoof chain pre handle \d+ drops ARP for ns-blue/,
    fix: /nft delete rule bridge spoof pre handle \d+$/,
  },
  {
    name: "a route for marked traffic alone, and a rule that marks all of it",
    needs: ["iptables"],
    healthy(world) {
      deadEnd(world, "slow", "172.31.9.1/24");
      node(world, "ip neigh replace 198.51.100.80 dev slow nud failed");
      node(world, `ip route add 198.51.100.0/24 tos 0x10 dev slow`);
      node(world, "iptables -t mangle -A PREROUTING -p udp -j TOS --set-tos 0x10");
    },
    fault: (world) => node(world, "iptables -t mangle -A PREROUTING -p tcp -j TOS --set-tos 0x10"),
    code: "route-captures",
    says: /route “198\.51\.100\.0\/24 tos 0x10 dev slow” takes what ns-blue sends to where it stops/,
    fix: /ip route del 198\.51\.100\.0\/24 tos 0x10 dev slow$/,
  },
  {
    name: "a rule by TOS",
    needs: ["iptables"],
    healthy(world) {
      node(world, "ip rule add tos 0x10 lookup 66 pref 500");
      node(world, "ip route add blackhole default table 66");
    },
    fault: (world) => node(world, "iptables -t mangle -A PREROUTING -p tcp -j TOS --set-tos 0x10"),
    code: "rule-captures",
    says: /rule “500: from all tos 0x10 lookup 66” sends what ns-blue sends/,
    fix: /ip rule del priority 500 from all tos 0x10 lookup 66$/,
  },
  {
    name: "a rule jumps over table main",
    healthy(world) {
      node(world, "ip rule add from all lookup 253 pref 40000");
      node(world, "ip rule add iif lo goto 40000 pref 100");
    },
    fault: (world) => node(world, `ip rule add iif ${bridge} goto 40000 pref 90`),
    code: "rule-captures",
    says: /rule “90: from all iif lan0 goto 40000” makes what ns-blue sends pass by the table/,
    fix: /ip rule del priority 90 from all iif lan0 goto 40000$/,
  },
  {
    name: "a rule of the pod forbids its user to send",
    healthy: (world) => pod(world, "ip rule add ipproto udp prohibit pref 100"),
    fault: (world) => pod(world, "ip rule add uidrange 0-0 prohibit pref 90"),
    code: "pod-route-refused",
    says: /the rule “90: from all uidrange 0-0 prohibit” in ns-blue refuses/,
    fix: /ip netns exec ns-blue ip rule del priority 90 from all uidrange 0-0 prohibit$/,
  },
  {
    name: "a rule of the pod by its own address leads into a black hole",
    fault(world) {
      pod(world, `ip rule add from ${blue.ipv4} lookup 100 pref 100`);
      pod(world, "ip route add blackhole default table 100");
    },
    code: "pod-rule-captures",
    says: /sends packets to 198\.51\.100\.80 to table 100, where they stop/,
    fix: /ip netns exec ns-blue ip rule del priority 100 from 10\.0\.0\.1\/32 lookup 100$/,
  },
  {
    name: "a VPN's two halves of the world in the pod, whose tunnel is gone",
    healthy: (world) => pod(world, "ip tuntap add tun0 mode tun"),
    fault(world) {
      pod(world, "ip addr add 10.8.0.2/24 dev tun0");
      pod(world, "ip link set tun0 up");
      for (const half of ["0.0.0.0/1", "128.0.0.0/1"])
        pod(world, `ip route add ${half} via 10.8.0.1 dev tun0`);
    },
    code: "pod-route-captures",
    says: /^route “128\.0\.0\.0\/1 via 10\.8\.0\.1 dev tun0” in ns-blue takes what ns-blue sends to where it stops: tun0 in the pod has no carrier; “default via 10\.0\.0\.254 dev net1” would carry it$/,
    fix: /ip netns exec ns-blue ip route del 128\.0\.0\.0\/1 via 10\.8\.0\.1 dev tun0$/,
  },
  {
    name: "a rule against tethering takes the answers' hops",
    needs: ["iptables"],
    healthy: (world) =>
      node(world, `iptables -t mangle -A PREROUTING -i ${uplink} -p udp -j TTL --ttl-set 1`),
    fault: (world) => node(world, `iptables -t mangle -A PREROUTING -i ${uplink} -p tcp -j TTL --ttl-set 1`),
    code: "ttl-exceeded",
    says: /^the TTL of the answers to ns-blue is 1 at lan0, set by “.*--ttl-set 1.*”: this node may not forward them$/,
    fix: /iptables -t mangle -I PREROUTING -s 198\.51\.100\.80 -d 203\.0\.113\.5 -j ACCEPT$/,
  },
  {
    name: "libvirt's chains refuse both directions, and what lets one out mends nothing",
    needs: ["iptables"],
    healthy(world) {
      for (const chain of ["LIBVIRT_FWO", "LIBVIRT_FWI"]) {
        node(world, `iptables -N ${chain}`);
        node(world, `iptables -I FORWARD -j ${chain}`);
      }
    },
    fault(world) {
      node(world, `iptables -A LIBVIRT_FWO -i ${bridge} -j REJECT`);
      node(world, `iptables -A LIBVIRT_FWI -o ${bridge} -j REJECT`);
    },
    code: "filter-rule-drops",
    says: /^libvirt's rule “.*” in ip filter LIBVIRT_FWO rejects what ns-blue sends$/,
    fix: /iptables -I FORWARD -s 10\.0\.0\.1 -d 198\.51\.100\.80 -j ACCEPT && .*iptables -I FORWARD -s 198\.51\.100\.80 -d 10\.0\.0\.1 -j ACCEPT$/,
  },
  {
    name: "a VPN's kill switch drops all that does not go into its tunnel",
    healthy: (world) => nft(world, "table inet mullvad { chain onward { ct mark 0xf41 accept; }; }\n"),
    fault: (world) =>
      nft(
        world,
        `delete table inet mullvad\ntable inet mullvad { chain onward { type filter hook forward priority 0; policy drop; oifname "wg0-mullvad" accept; reject; }; }\n`,
      ),
    code: "filter-rule-drops",
    says: /“reject” in inet mullvad onward rejects what ns-blue sends$/,
    fix: /nft insert rule inet mullvad onward ip saddr \S+ ip daddr \S+ accept && .*nft insert rule inet mullvad onward ip saddr \S+ ip daddr \S+ accept$/,
  },
  {
    name: "a VPN's exit node that is gone takes packets and answers",
    healthy(world) {
      node(world, "ip tuntap add tailscale0 mode tun");
      node(world, "ip link set tailscale0 up");
      node(world, "ip rule add lookup 52 pref 5270");
    },
    fault: (world) => node(world, "ip route add default dev tailscale0 table 52"),
    code: "rule-captures",
    says: /^rule “5270: from all lookup 52” sends what ns-blue sends out by tailscale0/,
    fix: /ip rule add priority 5269 from 10\.0\.0\.1 lookup main && .*ip rule add priority 5269 to 10\.0\.0\.1 lookup main$/,
  },
  {
    name: "a bridge port that learns nothing and is not flooded",
    healthy(world) {
      node(world, `bridge link set dev ${blue.veth} learning off flood off`);
      node(world, `bridge fdb replace ${macOf(world)} dev ${blue.veth} master static`);
    },
    fault(world) {
      node(world, `bridge fdb del ${macOf(world)} dev ${blue.veth} master`);
    },
    code: "bridge-port-deaf",
    says: /to no port: veth-blue learns no addresses and is not flooded/,
    fix: /bridge link set dev veth-blue learning on$/,
  },
  {
    name: "a fixed entry gives the pod's frames to another port",
    healthy: (world) => node(world, `bridge link set dev ${green.veth} learning off flood off`),
    fault(world) {
      node(world, `bridge fdb replace ${macOf(world)} dev ${green.veth} master static sticky`);
    },
    code: "bridge-port-deaf",
    says: /to port veth-green, and the pod is behind veth-blue/,
    fix: /bridge fdb del \S+ dev veth-green master$/,
  },
  {
    name: "another node's route to the pod's very address",
    healthy: (world) => node(world, "ip route add 10.0.0.99/32 via 203.0.113.1"),
    fault: (world) => node(world, `ip route add ${blue.ipv4}/32 via 203.0.113.1`),
    code: "network-overlap",
    says: /the way back to ns-blue \(10\.0\.0\.1\) leads to up0/,
    fix: /ip route del 10\.0\.0\.1\/32 via 203\.0\.113\.1 dev up0$/,
  },
  {
    name: "routes of a link without carrier do not count",
    healthy: (world) => node(world, "sysctl -qw net.ipv4.conf.all.ignore_routes_with_linkdown=1"),
    fault(world) {
      ask(world.internet, ["ip", "link", "set", PLAN.internet.link, "down"]);
      // The kernel marks the routes a moment later (linkwatch).
      const isMarked = (): boolean => ask(world.node, ["ip", "route"]).includes("linkdown");
      for (let tries = 0; tries < 100 && !isMarked(); tries++) Bun.sleepSync(50);
    },
    code: "node-no-route",
    says: /the node has no route to 198\.51\.100\.80; up0 has no carrier, and its routes do not count/,
    advice: /look at the other end of up0/,
  },
  {
    name: "the pod's hop limit is one",
    target: WEB6,
    fault: (world) => pod(world, "sysctl -qw net.ipv6.conf.net1.hop_limit=1"),
    code: "ttl-exceeded",
    says: /the hop limit of what ns-blue sends is 1/,
    fix: /sysctl -w net\.ipv6\.conf\.net1\.hop_limit=64$/,
  },
];

describe("a report", () => testSituations(SITUATIONS));

testWith(["root", "iptables", "ipset"])("the condition that a rule misses by names its set", () => {
  const world = healthyWorld();
  node(world, "nft delete table inet wayout");
  node(world, "ipset create pools hash:net");
  node(world, `ipset add pools ${PLAN.podNetworkIpv4}`);
  node(world, "iptables -t nat -A POSTROUTING -m set --match-set pools src -j MASQUERADE");
  expect(look(world, WEB).findings).toEqual([]);
  node(world, "ipset flush pools");
  const [found] = look(world, WEB).findings;
  expect(found?.code).toBe("nat-mismatch");
  expect(found!.text).toContain("-m set --match-set pools src");
});

testWith(["root", "nft"])("a rule gives the pods' connections a timeout of their own", () => {
  const world = healthyWorld();
  const object = (state: string, chain: string): string => `add table ip brief; delete table ip brief
    table ip brief {
      ct timeout rest { protocol tcp; l3proto ip; policy = { ${state} : 900 }; }
      chain pre { ${chain}; tcp dport 80 ct timeout set "rest"; }
    }`;
  const filter = "type filter hook prerouting priority filter";
  // Before conntrack has looked the rule does nothing, and another state is not the one in which a flow rests.
  for (const [state, chain] of [
    ["established", "type filter hook prerouting priority raw"],
    ["close", filter],
  ] as const) {
    nft(world, object(state, chain));
    expect(look(world, WEB).findings).toEqual([]);
  }
  nft(world, object("established", filter));
  const [found] = look(world, WEB).findings;
  expect(found?.code).toBe("conntrack-timeout-short");
  expect(found!.text).toContain("after 900 s of silence (ct timeout rest)");
});

testWith(["root", "nft"])("a rule by what a connection has carried is no word about its first packet", () => {
  const world = healthyWorld();
  nft(world, "table inet fair { chain f { type filter hook forward priority 0; ct bytes > 150 drop; }; }");
  const { findings, healthy } = look(world, WEB);
  expect([healthy, findings.map((one) => one.code)]).toEqual([true, ["filter-by-content"]]);
  expect(findings[0]!.evidence.map(({ value }) => value).join()).toContain("has carried (ct bytes) > 150");
});

describe("the pod's resolv.conf", () => {
  const cases: readonly [name: string, text: string, listeners: readonly string[], code?: FindingCode][] = [
    ["a name where an address belongs", "nameserver dns.example.com\n", [], "resolver-missing"],
    ["the same, and a resolver at 127.0.0.1", "nameserver dns.example.com\n", ["127.0.0.1"]],
    ["tabs, comments and a working server", "# x\n; y\nnameserver\t198.51.100.80\t# ok\n", []],
    [
      "a fourth server, which the C library never asks",
      `${"nameserver 127.0.0.53\n".repeat(3)}nameserver 198.51.100.80\n`,
      [],
      "resolver-loopback",
    ],
  ];
  for (const [name, text, dnsListeners, code] of cases)
    testWith(["root", "nft"])(name, () => {
      const snapshot = snapshotOf(healthyWorld());
      const asked = { ...snapshot.pods[0]!, resolvConf: parseResolvConf(text), dnsListeners };
      const { findings } = diagnose({ ...snapshot, pods: [asked] }, asked, WEB);
      expect(findings.filter((one) => one.stopsTraffic).map((one) => one.code)).toEqual(
        code === undefined ? [] : [code],
      );
    });

  testWith(["root", "iptables"])("questions are redirected to a resolver that does not run", () => {
    const world = healthyWorld();
    node(world, "iptables -t nat -A PREROUTING -p udp --dport 53 -j REDIRECT --to-ports 5300");
    const snapshot = snapshotOf(world);
    const asked = { ...snapshot.pods[0]!, resolvConf: parseResolvConf("nameserver 198.51.100.80\n") };
    const [found] = diagnose({ ...snapshot, pods: [asked] }, asked, WEB).findings;
    expect(found?.code).toBe("resolver-unreachable");
    expect(found!.text).toMatch(/REDIRECT.*no program listens/);
  });
});
