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
import { healthyWorld, snapshotOf, PLAN, type World } from "./world.ts";

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
  {
    name: "a second default route stands before the one whose link is translated",
    healthy(world) {
      node(world, "nft delete table inet wayout");
      nft(
        world,
        `table ip site { chain post { type nat hook postrouting priority 100; ip saddr ${PLAN.podNetworkIpv4} oifname "up0" masquerade; }; }`,
      );
      deadEnd(world, "wwan0", "192.0.2.77/24");
      node(world, "ip route change default via 203.0.113.1 dev up0");
      node(world, "ip route add default via 192.0.2.1 dev wwan0 metric 700");
    },
    fault(world) {
      node(world, "ip route del default via 203.0.113.1 dev up0");
      node(world, "ip route add default via 203.0.113.1 dev up0 metric 800");
    },
    code: "nat-mismatch",
    says: /condition “oifname "up0"” does not hold: it is wwan0/,
    evidence: /behind it: default via 203\.0\.113\.1 dev up0 metric 800/,
    fix: /wayout nat apply/,
    advice: /if the pods are to leave by up0: “default via 192\.0\.2\.1 dev wwan0 metric 700” stands before/,
  },
  {
    name: "a masquerade by a mark that another rule overwrites",
    needs: ["iptables"],
    healthy(world) {
      node(world, "nft delete table inet wayout");
      node(world, `iptables -t mangle -A PREROUTING -i ${bridge} -j MARK --set-xmark 0x2000/0x2000`);
      node(world, "iptables -t nat -A POSTROUTING -m mark --mark 0x2000/0x2000 -j MASQUERADE");
      node(world, `iptables -t mangle -A FORWARD -i ${bridge} -j MARK --set-xmark 0x10/0xff`);
    },
    fault: (world) => node(world, `iptables -t mangle -A FORWARD -i ${bridge} -j MARK --set-mark 0x10`),
    code: "nat-mismatch",
    says: /^“-m mark --mark 0x2000\/0x2000 -j MASQUERADE” would translate by the mark 0x2000 that ns-blue's packets get, but the rule “.*--set-xmark 0x10\/0xffffffff” in ip mangle FORWARD changes it to 0x10 before$/,
    fix: /wayout nat apply/,
    advice: /only the bits that are its own/,
    evidence: /mark 0x10: table ip mangle chain FORWARD/,
  },
  {
    name: "a Service without local endpoints, dropped by kube-proxy's mark",
    needs: ["iptables"],
    healthy: (world) => markDrop(world, `-A KUBE-XLB-Q -m comment --comment "shop/lb:http" -j RETURN\n`),
    fault: (world) =>
      markDrop(
        world,
        `-A KUBE-XLB-Q -m comment --comment "shop/lb:http has no local endpoints" -j KUBE-MARK-DROP\n`,
      ),
    code: "service-no-endpoints",
    says: /^Service shop\/lb:http has no ready endpoints on this node: kube-proxy's “shop\/lb:http has no local endpoints” in ip nat KUBE-XLB-Q drops what ns-blue sends to it$/,
    owner: /^kube-proxy, for the Service$/,
    fix: /iptables -I FORWARD -s 10\.0\.0\.1 -d 198\.51\.100\.80 -j ACCEPT$/,
    evidence: /KUBE-FIREWALL/,
    heals: true,
  },
  {
    name: "a Service that admits other sources only, dropped by kube-proxy's mark",
    needs: ["iptables"],
    healthy: (world) => markDrop(world, ""),
    fault: (world) =>
      markDrop(world, `-A KUBE-FW-Q -m comment --comment "shop/lb:http loadbalancer IP" -j KUBE-MARK-DROP\n`),
    code: "filter-rule-drops",
    says: /KUBE-FIREWALL drops what ns-blue sends$/,
    advice: /loadBalancerSourceRanges/,
    evidence: /led there by table ip nat chain KUBE-FW-Q handle \d+: .*shop\/lb:http loadbalancer IP/,
  },
  {
    name: "a port that a Service does not have",
    target: { address: "10.96.0.10", protocol: "tcp", port: 81 },
    fault: (world) =>
      nft(
        world,
        `table ip kube-proxy {
          set cluster-ips { type ipv4_addr; elements = { 10.96.0.10 }; };
          chain cluster-ips-check { ip daddr @cluster-ips reject; };
          chain filter-forward { type filter hook forward priority -110; ct state new jump cluster-ips-check; };
        }`,
      ),
    code: "filter-rule-drops",
    says: /kube-proxy's rule “ip daddr @cluster-ips reject” in ip kube-proxy cluster-ips-check rejects/,
    advice: /the Service has no tcp port 81/,
  },
  {
    name: "the pod's global address is deprecated, and nothing translates its unique local one",
    target: WEB6,
    healthy(world) {
      node(world, "nft delete table inet wayout");
      node(world, `ip -6 addr add 2001:db8:77::1/64 dev ${bridge} nodad`);
      pod(world, `ip -6 addr add 2001:db8:77::2/64 dev ${PLAN.podInterface} nodad`);
    },
    fault: (world) =>
      pod(world, `ip -6 addr change 2001:db8:77::2/64 dev ${PLAN.podInterface} preferred_lft 0`),
    code: "pod-address-unusable",
    says: /^2001:db8:77::2 in ns-blue is deprecated .*: new connections get the source fd00:10::1, a unique local address/,
    fix: /ip addr change 2001:db8:77::2\/64 dev net1 preferred_lft forever valid_lft forever$/,
    heals: true,
  },
  {
    name: "the other node has no route back to the pod",
    target: { address: "10.0.7.9", protocol: "tcp", port: 80 },
    fault(world) {
      deadEnd(world, "peer0", "192.0.2.200/24");
      node(world, "ip route add 10.0.7.0/24 via 192.0.2.201 dev peer0");
      nft(world, "insert rule inet wayout postrouting ip daddr 10.0.7.0/24 accept\n");
    },
    code: "pod-network-unrouted",
    says: /^“10\.0\.7\.0\/24 via 192\.0\.2\.201 dev peer0” leads to another node's part of the pod network: that node must have a route back to ns-blue \(10\.0\.0\.1\)/,
    advice: /on that node: ip route get 10\.0\.0\.1: does it lead back by 192\.0\.2\.200\?/,
    suspicion: true,
  },
  {
    name: "a rule of the pod leads into a tunnel of its own",
    healthy: (world) => pod(world, "ip rule add fwmark 7 lookup 51820"),
    fault(world) {
      pod(world, "ip link add wg0 type ifb");
      pod(world, "ip addr add 10.8.0.2/32 dev wg0");
      pod(world, "ip link set wg0 up");
      pod(world, "ip route add default dev wg0 table 51820");
      pod(world, "ip rule add not fwmark 51820 lookup 51820 pref 32000");
    },
    code: "pod-rule-captures",
    says: /^rule “32000: not from all fwmark 0xca6c lookup 51820” in ns-blue sends packets to 198\.51\.100\.80 to table 51820 and into wg0 \(ifb\) there/,
    fix: /ip netns exec ns-blue ip rule del priority 32000 not from all fwmark 0xca6c lookup 51820$/,
    suspicion: true,
  },
  {
    name: "a VPN's routes take the destination, and its other end answers nobody",
    healthy(world) {
      deadEnd(world, "tailscale0", "100.64.0.7/32");
      node(world, "ip rule add lookup 52 pref 5270");
    },
    fault: (world) => node(world, "ip route add 198.51.100.0/24 dev tailscale0 table 52"),
    code: "rule-captures",
    says: /^rule “5270: from all lookup 52” sends what ns-blue sends out by tailscale0/,
    owner: /Tailscale/,
    // The answers come back all the same.
    fix: /^\S+ netns exec node ip rule add priority 5269 from 10\.0\.0\.1 lookup main$/,
    suspicion: true,
  },
];

/** kube-proxy's rules for a load balancer's address before Kubernetes 1.26. @param rules of the Service's own chains */
function markDrop(world: World, rules: string): void {
  const tables = `*filter
:KUBE-FIREWALL - [0:0]
-F FORWARD
-A FORWARD -j KUBE-FIREWALL
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
COMMIT
*nat
:KUBE-MARK-DROP - [0:0]
:KUBE-XLB-Q - [0:0]
:KUBE-FW-Q - [0:0]
-F PREROUTING
-A PREROUTING -d ${WEB.address} -p tcp -j KUBE-FW-Q
-A KUBE-FW-Q -j KUBE-XLB-Q
-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000
${rules}COMMIT
`;
  ask(world.node, ["iptables-restore", "--noflush"], tables);
}

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
