/** Situations from public reports, each with its healthy neighbour: what the doctor says first, and what it never says. */
import { describe, expect } from "bun:test";
import type { Diagnosis } from "../../src/doctor/diagnose.ts";
import type { FindingCode } from "../../src/causes/catalogue/all.ts";
import type { Target } from "../../src/doctor/predict/path.ts";
import { InetSocket } from "../../src/kernel/inet-socket.ts";
import { ask, testWith } from "../support/witness.ts";
import { deadEnd, look, macOf, nft, node, testSituations, WEB, type Situation } from "./situation.ts";
import { healthyWorld, serving, PLAN, type World } from "./world.ts";

const { blue } = PLAN.pods;
const { uplink, bridge } = PLAN.node;

function stopping({ findings }: Diagnosis): FindingCode[] {
  return findings.filter((one) => one.stopsTraffic).map((one) => one.code);
}

function ip(world: World, line: string): void {
  node(world, `ip ${line}`);
}

/** As Calico has it: an address without a network, a gateway that is nobody's, and a link that answers for it. */
function routedPod(world: World, address: string = blue.ipv4): void {
  ip(world, `link set ${blue.veth} nomaster`);
  node(world, `sysctl -qw net.ipv4.conf.${blue.veth}.proxy_arp=1`);
  ip(world, `route add ${address}/32 dev ${blue.veth}`);
  for (const line of [
    "addr flush dev net1",
    `addr add ${address}/32 dev net1`,
    "route add 169.254.1.1 dev net1",
    "route add default via 169.254.1.1 dev net1",
  ])
    ask(world.blue, ["ip", ...line.split(" ")]);
}

const SITUATIONS: readonly Situation[] = [
  // ── rules that drop whatever was not accepted before ──
  {
    name: "a cloud's image rejects at the end of FORWARD",
    needs: ["iptables"],
    fault: (world) => node(world, "iptables -A FORWARD -j REJECT --reject-with icmp-host-prohibited"),
    code: "filter-rule-drops",
    says: /in ip filter FORWARD rejects what ns-blue sends/,
    fix: /iptables -I FORWARD -i lan0 -j ACCEPT && .*iptables -I FORWARD -o lan0 -j ACCEPT$/,
    lines: 1,
  },
  {
    name: "OpenWrt's firewall does not know the bridge",
    fault: (world) =>
      nft(
        world,
        `table inet fw4 {
          chain handle_reject { meta l4proto tcp reject with tcp reset; reject; };
          chain forward { type filter hook forward priority 0; policy drop; ct state vmap { established : accept, related : accept }; iifname "br-lan" accept; jump handle_reject; };
        }`,
      ),
    code: "filter-rule-drops",
    says: /OpenWrt's rule “meta l4proto tcp reject with tcp reset” in inet fw4 handle_reject/,
    owner: /OpenWrt/,
    fix: /nft insert rule inet fw4 forward ip saddr 10\.0\.0\.1 ip daddr \S+ accept$/,
  },
  {
    name: "Azure's network policies drop by a mark of their own",
    needs: ["iptables"],
    fault(world) {
      for (const rule of [
        "-N AZURE-NPM",
        "-I FORWARD -m conntrack --ctstate NEW -j AZURE-NPM",
        `-A AZURE-NPM -s ${blue.ipv4} -j MARK --set-mark 0x5000`,
        "-A AZURE-NPM -m mark --mark 0x5000 -j DROP",
      ])
        node(world, `iptables ${rule}`);
    },
    code: "filter-rule-drops",
    says: /in ip filter AZURE-NPM drops what ns-blue sends/,
    owner: /Azure NPM/,
  },
  {
    name: "a load balancer's address is the node's own by a route",
    fault: (world) => ip(world, `route add local ${WEB.address} dev ${uplink} proto 66 table local`),
    code: "ends-on-node",
    says: /ends on this node: route “local 198\.51\.100\.80/,
    owner: /Google's guest agent/,
  },
  // ── rules that capture ──
  {
    name: "a rule of an uninstalled product leads into a dead tunnel",
    fault(world) {
      ip(world, `link add dead0 type vxlan id 7 dstport 4790 remote 203.0.113.200 dev ${uplink}`);
      ip(world, "link set dead0 up");
      ip(world, `route add ${WEB.address} dev dead0 table 77`);
      ip(world, `rule add from ${PLAN.podNetworkIpv4} lookup 77 pref 99`);
      // Where a rule names its interface, what leaves by another one is not translated.
      nft(world, "delete table inet wayout");
      nft(
        world,
        `table ip site { chain post { type nat hook postrouting priority 100; oifname ${uplink} masquerade; }; }`,
      );
    },
    code: "rule-captures",
    says: /rule “99: from 10\.0\.0\.0\/24 lookup 77”.*dead0/,
    owner: /kube-router/,
    fix: /ip rule del priority 99 from 10\.0\.0\.0\/24 lookup 77/,
  },
  {
    name: "a VPN's kill switch refuses what does not go into the tunnel",
    fault(world) {
      ip(world, "route add blackhole default table 51820");
      ip(world, `rule add from ${PLAN.podNetworkIpv4} lookup 51820 pref 32764`);
    },
    code: "rule-captures",
    says: /blackhole default table 51820/,
    owner: /wg-quick/,
    fix: /rule del priority 32764/,
  },
  {
    name: "a rule by destination leads to a link without an address",
    fault(world) {
      deadEnd(world, "ppp9", "192.0.2.200/24");
      ip(world, "route add default dev ppp9 table 300");
      ip(world, `rule add to 198.51.100.0/24 lookup 300 pref 700`);
      nft(world, "delete table inet wayout");
      nft(
        world,
        `table ip site { chain post { type nat hook postrouting priority 100; oifname ${uplink} masquerade; }; }`,
      );
    },
    code: "rule-captures",
    says: /rule “700: from all to 198\.51\.100\.0\/24 lookup 300”/,
    fix: /rule del priority 700/,
  },
  {
    name: "a cloud's rule by the node's own address leads answers past the pods",
    target: { address: PLAN.node.uplinkIpv4, protocol: "icmp", port: 0 },
    fault(world) {
      ip(world, `route add default via ${PLAN.internet.routerIpv4} dev ${uplink} table 30400`);
      ip(world, `rule add from ${PLAN.node.uplinkIpv4} lookup 30400 pref 30400`);
    },
    code: "rule-captures",
    says: /rule “30400: from 203\.0\.113\.5\/32 lookup 30400” sends the answers to ns-blue out by up0/,
    owner: /nm-cloud-setup/,
    fix: /ip route add 10\.0\.0\.1\/32 dev lan0 table 30400/,
  },
  {
    name: "a VPN that is here makes its rule again",
    fault(world) {
      deadEnd(world, "tailscale0", "100.64.0.7/32");
      ip(world, `route add blackhole 198.51.100.0/24 table 52`);
      ip(world, "rule add lookup 52 pref 5270");
    },
    code: "rule-captures",
    says: /rule “5270: from all lookup 52”.*blackhole/,
    owner: /Tailscale/,
    fix: /^(?!.*rule del).*ip rule add priority 5269 from 10\.0\.0\.1 lookup main$/,
  },
  {
    name: "two rules lead to one dead table: without the first the packet meets the second",
    fault(world) {
      ip(world, "route add blackhole default table 61");
      ip(world, `rule add from ${PLAN.podNetworkIpv4} lookup 61 pref 701`);
      ip(world, `rule add iif ${bridge} lookup 61 pref 702`);
    },
    code: "rule-captures",
    says: /rules “701: .*” and “702: .*” send .*blackhole default table 61/,
    fix: /rule del priority 701 .* && .*rule del priority 702 /,
  },
  {
    name: "two rules of the pod lead to a second network without a gateway",
    fault(world) {
      ip(world, "link add iot0 type bridge");
      ip(world, "link set iot0 up");
      ip(world, "link add iot-blue type veth peer name net2 netns ns-blue");
      ip(world, "link set iot-blue master iot0 up");
      for (const line of [
        "addr add 192.168.50.2/24 dev net2",
        "link set net2 up",
        "route add default via 192.168.50.1 dev net2 table 50",
        `rule add from ${blue.ipv4} lookup 50 pref 100`,
        "rule add from all lookup 50 pref 110",
      ])
        ask(world.blue, ["ip", ...line.split(" ")]);
    },
    code: "pod-rule-captures",
    says: /rules “110: .*” and “100: .*” in ns-blue send .* table 50/,
    fix: /rule del priority 110 .* && .*rule del priority 100 /,
  },
  // ── whose address, and whose network ──
  {
    name: "a link of the node was given the pod's address",
    fault: (world) => deadEnd(world, "wan1", `${blue.ipv4}/32`),
    code: "source-is-local",
    says: /wan1 on the node has 10\.0\.0\.1 as an address of its own.*come in by lan0/,
  },
  {
    name: "the uplink does not answer for the node's own address",
    fault: (world) => node(world, `sysctl -qw net.ipv4.conf.${uplink}.arp_ignore=8`),
    code: "source-unanswered",
    says: /up0 does not answer for 203\.0\.113\.5.*arp_ignore is 8/,
    fix: /sysctl -w net\.ipv4\.conf\.up0\.arp_ignore=0$/,
    suspicion: true,
  },
  {
    name: "a pod out of a second uplink's network lost its rule of policy routing, and others have theirs",
    healthy(world) {
      nft(world, "delete table inet wayout");
      deadEnd(world, "eni1", "192.0.2.50/24");
      routedPod(world, "192.0.2.69");
      ip(world, "route add default via 192.0.2.1 dev eni1 table 3");
      ip(world, "neigh add 192.0.2.1 dev eni1 lladdr 02:00:00:00:00:51 nud stale");
      node(world, "sysctl -qw net.ipv4.conf.eni1.proxy_arp=1");
      for (const pod of ["192.0.2.69", "192.0.2.70"]) ip(world, `rule add from ${pod} lookup 3 pref 1536`);
    },
    fault: (world) => ip(world, "rule del from 192.0.2.69 lookup 3 pref 1536"),
    code: "other-links-address",
    says: /leave by up0 with 192\.0\.2\.69, .* network of eni1; other addresses have a rule like “1536: from 192\.0\.2\.70/,
    owner: /AWS VPC CNI/,
    fix: /ip rule add priority 1536 from 192\.0\.2\.69 lookup 3$/,
    suspicion: true,
  },
  {
    name: "a link-local network on the pod's link takes its placeholder of a gateway for a neighbour",
    healthy: (world) => routedPod(world),
    fault: (world) => ip(world, `addr add 169.254.77.77/16 dev ${blue.veth}`),
    code: "pod-gateway-unowned",
    says: /answers \(proxy_arp\) only for what the node has a route to by another link/,
  },
  // ── routes that stand before the one that works ──
  {
    name: "a second uplink's default route has the better metric and a dead gateway",
    healthy(world) {
      ip(world, "route del default");
      ip(world, `route add default via ${PLAN.internet.routerIpv4} metric 200`);
    },
    fault(world) {
      deadEnd(world, "wan1", "192.0.2.77/24");
      ip(world, "route add default via 192.0.2.1 dev wan1 metric 100");
      ip(world, "neigh add 192.0.2.1 dev wan1 nud failed");
    },
    code: "route-captures",
    says: /route “default via 192\.0\.2\.1 dev wan1 metric 100” .*does not answer on wan1; “default via 203\.0\.113\.1/,
    fix: /ip route add default via 203\.0\.113\.1 dev up0 metric 99$/,
  },
  {
    name: "a VPN left a route for one destination behind",
    fault(world) {
      deadEnd(world, "ppp9", "192.0.2.200/32");
      ip(world, `route add ${WEB.address} dev ppp9`);
      ip(world, `neigh add ${WEB.address} dev ppp9 nud failed`);
    },
    code: "route-captures",
    says: /route “198\.51\.100\.80\/32 dev ppp9” .*“default via/,
    fix: /ip route del 198\.51\.100\.80\/32 dev ppp9$/,
  },
  {
    name: "ARP is off on the uplink",
    fault: (world) => ip(world, `link set ${uplink} arp off`),
    code: "link-noarp",
    says: /ARP is off on up0 of the node/,
    fix: /ip link set dev up0 arp on$/,
  },
  {
    name: "ARP is off on the pods' bridge",
    fault: (world) => ip(world, `link set ${bridge} arp off`),
    code: "link-noarp",
    says: /ARP is off on lan0 of the node.*10\.0\.0\.254/,
    fix: /ip link set dev lan0 arp on$/,
  },
  {
    name: "ARP is off in the pod",
    fault: (world) => ask(world.blue, ["ip", "link", "set", "net1", "arp", "off"]),
    code: "link-noarp",
    says: /ARP is off on net1 in ns-blue/,
    fix: /ns-blue ip link set dev net1 arp on$/,
  },
  {
    name: "the node's default route leads to a pod of the same bridge",
    fault(world) {
      ip(world, "route del default");
      ip(world, `route add default via ${PLAN.pods.green.ipv4} dev ${bridge}`);
    },
    code: "node-route-inward",
    says: /“default via 10\.0\.0\.2 dev lan0” of the node sends what comes from lan0 back into it, to 10\.0\.0\.2 \(ns-green\)/,
    evidence: /links of ns-green: none but those to this node/,
  },
  {
    name: "the route to another node's part of the pod network is missing",
    target: { address: "10.0.7.9", protocol: "tcp", port: 80 },
    healthy: (world) => ip(world, `route add 10.0.5.0/24 via ${PLAN.internet.routerIpv4}`),
    fault: () => {},
    code: "pod-network-unrouted",
    says: /no route to 10\.0\.7\.0\/24, another node's part/,
    suspicion: true,
  },
  {
    name: "of two nodes' parts the only other one has no route",
    target: { address: "10.0.7.9", protocol: "tcp", port: 80 },
    fault: () => {},
    code: "pod-network-unrouted",
    says: /no route to 10\.0\.7\.0\/24, which looks like another node's part/,
    suspicion: true,
  },
  {
    name: "the route to another node's part of the pod network is missing over IPv6",
    target: { address: "fd00:10:0:7::9", protocol: "tcp", port: 80 },
    healthy: (world) =>
      ip(world, `-6 route add fd00:10:0:5::/64 via ${PLAN.internet.routerIpv6} dev ${uplink}`),
    fault: () => {},
    code: "pod-network-unrouted",
    says: /no route to fd00:10:0:7::\/64, another node's part/,
    suspicion: true,
  },
  // ── ends on this node ──
  {
    name: "the destination is an external address of a Service, on kube-ipvs0",
    fault: (world) => deadEnd(world, "kube-ipvs0", `${WEB.address}/32`),
    code: "ends-on-node",
    says: /198\.51\.100\.80 is an address of kube-ipvs0; no program listens/,
    owner: /kube-proxy/,
  },
  {
    name: "a leftover link has the destination's address",
    fault: (world) => deadEnd(world, "lb-test", `${WEB.address}/32`),
    code: "ends-on-node",
    says: /address of lb-test/,
  },
  {
    name: "a REDIRECT for a proxy that does not run",
    needs: ["iptables"],
    fault: (world) =>
      node(world, "iptables -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 20559"),
    code: "ends-on-node",
    says: /REDIRECT.*20559.*no program listens/,
  },
  {
    name: "a DNAT to a proxy on the node's loopback range that does not run",
    fault: (world) =>
      nft(
        world,
        `table ip proxy { chain pre { type nat hook prerouting priority -100; tcp dport 80 dnat to ${PLAN.node.gatewayIpv4}:3128; }; }`,
      ),
    code: "ends-on-node",
    says: /dnat to 10\.0\.0\.254:3128.*no program listens/,
  },
  {
    name: "a mark and a local route for a transparent proxy that does not run",
    fault(world) {
      nft(
        world,
        "table ip divert { chain pre { type filter hook prerouting priority -150; tcp dport 80 meta mark set 0x1; }; }",
      );
      ip(world, "rule add fwmark 0x1 lookup 100 pref 500");
      ip(world, "route add local default dev lo table 100");
    },
    code: "ends-on-node",
    says: /local default dev lo table 100.*fwmark 0x1.*mark set/,
  },
  // ── answers that cannot come ──
  {
    name: "the pod has an address of the uplink's own network",
    healthy(world) {
      ask(world.blue, ["ip", "addr", "add", "203.0.113.90/32", "dev", "net1"]);
      ask(world.blue, [
        "ip",
        "route",
        "replace",
        "default",
        "via",
        PLAN.node.gatewayIpv4,
        "src",
        "203.0.113.90",
      ]);
      ip(world, `route add 203.0.113.90/32 dev ${bridge}`);
      ip(world, `neigh add proxy 203.0.113.90 dev ${uplink}`);
      nft(world, "delete table inet wayout");
    },
    fault: (world) => ip(world, `neigh del proxy 203.0.113.90 dev ${uplink}`),
    code: "source-unanswered",
    says: /203\.0\.113\.90, out of up0's own network 203\.0\.113\.0\/24.*proxy_arp/,
    fix: /ip neigh add proxy 203\.0\.113\.90 dev up0/,
  },
  {
    name: "the uplink was put into a bridge, its address was not",
    fault(world) {
      ip(world, "link add vmbr0 type bridge");
      ip(world, "link set vmbr0 up");
      ip(world, `link set ${uplink} master vmbr0`);
    },
    code: "uplink-enslaved",
    says: /up0, the node's way out, is a port of bridge vmbr0/,
    fix: /ip link set dev up0 nomaster/,
  },
  {
    name: "the port is locked, and the pod's address not authorized",
    needs: ["bridge"],
    healthy(world) {
      node(world, `bridge link set dev ${blue.veth} locked on learning off`);
      node(world, `bridge fdb replace ${macOf(world)} dev ${blue.veth} master static`);
    },
    fault: (world) => node(world, `bridge fdb del ${macOf(world)} dev ${blue.veth} master`),
    code: "bridge-port-locked",
    says: /port veth-blue of lan0 is locked/,
  },
  {
    name: "the node's gateway is pinned to an old MAC address",
    fault: (world) =>
      ip(
        world,
        `neigh replace ${PLAN.internet.routerIpv4} lladdr 02:00:00:00:00:99 dev ${uplink} nud permanent`,
      ),
    code: "uplink-gateway-pinned",
    says: /02:00:00:00:00:99 \(PERMANENT\)/,
    fix: /ip neigh del 203\.0\.113\.1 dev up0/,
    suspicion: true,
  },
  {
    name: "the route to another node's part of the pod network is missing",
    target: { address: "10.0.7.9", protocol: "tcp", port: 80 },
    healthy(world) {
      ip(world, "route add 10.0.1.0/24 via 203.0.113.11 proto bird");
      ip(world, "route add 10.0.7.0/24 via 203.0.113.17 proto bird");
    },
    fault: (world) => ip(world, "route del 10.0.7.0/24 via 203.0.113.17"),
    code: "pod-network-unrouted",
    says: /no route to 10\.0\.7\.0\/24/,
    owner: /bird/,
    suspicion: true,
  },
  {
    name: "a translation to the address of another uplink",
    healthy(world) {
      deadEnd(world, "wan1", "192.0.2.77/24");
    },
    fault(world) {
      nft(world, "delete table inet wayout");
      nft(
        world,
        `table ip site { chain post { type nat hook postrouting priority 100; ip saddr ${PLAN.podNetworkIpv4} snat to 192.0.2.77; }; }`,
      );
    },
    code: "other-links-address",
    says: /leave by up0 with 192\.0\.2\.77, the address of wan1/,
    fix: /nft insert rule ip site post ip saddr 10\.0\.0\.1 oifname '?"up0"'? masquerade$/,
    evidence: /snat to 192\.0\.2\.77/,
    heals: true,
    suspicion: true,
  },
  // ── Kubernetes' own rules ──
  {
    name: "nobody masquerades beside kube-proxy and portmap",
    needs: ["iptables"],
    healthy: (world) => restore(world, KUBE_NAT),
    fault: (world) => nft(world, "delete table inet wayout"),
    code: "nat-missing",
    says: /no rule translates 10\.0\.0\.1/,
    fix: /wayout nat apply/,
  },
  {
    name: "nobody masquerades beside netavark's rule for marked packets",
    healthy: (world) =>
      nft(
        world,
        "table inet netavark { chain POSTROUTING { type nat hook postrouting priority 100; meta mark & 0x2000 == 0x2000 masquerade; }; }",
      ),
    fault: (world) => nft(world, "delete table inet wayout"),
    code: "nat-missing",
    says: /no rule translates 10\.0\.0\.1/,
    fix: /wayout nat apply/,
  },
  {
    name: "an external address of a Service without local endpoints",
    needs: ["iptables"],
    fault: (world) => restore(world, serviceReject("default/nginx:http has no local endpoints")),
    code: "service-no-endpoints",
    says: /Service default\/nginx:http has no ready endpoints on this node/,
    owner: /kube-proxy/,
    fix: /iptables -I FORWARD -s 10\.0\.0\.1 -d 198\.51\.100\.80 -j ACCEPT/,
  },
  {
    name: "a Service without endpoints, iptables",
    needs: ["iptables"],
    fault: (world) => restore(world, serviceReject("shop/cart:http has no endpoints")),
    code: "service-no-endpoints",
    says: /Service shop\/cart:http has no ready endpoints/,
    owner: /kube-proxy/,
  },
  {
    name: "a Service without endpoints, nftables",
    fault: (world) =>
      nft(
        world,
        `table ip kube-proxy {
          map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; elements = { ${WEB.address} . tcp . 80 comment "shop/cart:http" : goto reject-chain }; };
          chain reject-chain { reject; };
          chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; };
          chain filter-forward { type filter hook forward priority -110; ct state new jump service-endpoints-check; };
        }`,
      ),
    code: "service-no-endpoints",
    says: /Service shop\/cart:http has no ready endpoints/,
    owner: /kube-proxy/,
  },
  {
    name: "an agent's exclusion covers the destination",
    needs: ["iptables"],
    fault(world) {
      nft(world, "delete table inet wayout");
      restore(
        world,
        `*nat\n:IP-MASQ-AGENT - [0:0]\n-A POSTROUTING -j IP-MASQ-AGENT\n-A IP-MASQ-AGENT -d 198.51.100.0/24 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN\n-A IP-MASQ-AGENT -j MASQUERADE\nCOMMIT\n`,
      );
    },
    code: "nat-excluded",
    says: /198\.51\.100\.0\/24.*decides before/,
    owner: /ip-masq-agent/,
    fix: /wayout nat apply/,
  },
  // ── names ──
  {
    name: "a blocklist that contains the pods' own range",
    needs: ["iptables", "ipset"],
    healthy: (world) => node(world, "ipset create firehol_level1 hash:net"),
    fault(world) {
      node(world, "ipset add firehol_level1 10.0.0.0/8");
      node(world, "iptables -I FORWARD -m set --match-set firehol_level1 src -j DROP");
    },
    code: "filter-rule-drops",
    says: /firehol_level1/,
    owner: /FireHOL/,
    fix: /iptables -I FORWARD -s 10\.0\.0\.1 -d 198\.51\.100\.80 -j ACCEPT/,
  },
  {
    name: "a NetworkPolicy of kube-router",
    needs: ["iptables"],
    fault: (world) =>
      restore(
        world,
        `*filter\n:KUBE-POD-FW-VT4J2LHIJ337GGVJ - [0:0]\n-I FORWARD -s ${blue.ipv4} -j KUBE-POD-FW-VT4J2LHIJ337GGVJ\n-A KUBE-POD-FW-VT4J2LHIJ337GGVJ -m mark ! --mark 0x10000/0x10000 -j REJECT\nCOMMIT\n`,
      ),
    code: "filter-rule-drops",
    says: /kube-router/,
    owner: /kube-router \(a NetworkPolicy\)/,
  },
  {
    name: "fail2ban's ban of the destination",
    fault: (world) =>
      nft(
        world,
        `table inet f2b-table { set addr-set-sshd { type ipv4_addr; elements = { ${WEB.address} }; }; chain f2b-chain { type filter hook forward priority -1; ip daddr @addr-set-sshd drop; }; }`,
      ),
    code: "filter-rule-drops",
    says: /fail2ban/,
    owner: /fail2ban/,
    fix: /nft insert rule inet f2b-table f2b-chain ip saddr 10\.0\.0\.1 ip daddr 198\.51\.100\.80 accept/,
  },
  // ── the gateway, and settings of links ──
  {
    name: "the gateway's address is the loopback's, and arp_ignore is 1 on the bridge",
    healthy(world) {
      ip(world, `addr del ${PLAN.node.gatewayIpv4}/24 dev ${bridge}`);
      ip(world, `addr add ${PLAN.node.gatewayIpv4}/32 dev lo`);
      ip(world, `route add ${PLAN.podNetworkIpv4} dev ${bridge}`);
    },
    fault: (world) => node(world, `sysctl -qw net.ipv4.conf.${bridge}.arp_ignore=1`),
    code: "pod-gateway-silent",
    says: /lan0 does not answer for ns-blue's gateway 10\.0\.0\.254, an address of lo: arp_ignore is 1/,
    fix: /sysctl -w net\.ipv4\.conf\.lan0\.arp_ignore=0/,
  },
  {
    name: "no ARP at all, for the whole node",
    healthy: (world) => node(world, "sysctl -qw net.ipv4.conf.all.arp_ignore=2"),
    fault: (world) => node(world, "sysctl -qw net.ipv4.conf.all.arp_ignore=8"),
    code: "pod-gateway-silent",
    says: /arp_ignore is 8/,
    fix: /sysctl -w net\.ipv4\.conf\.all\.arp_ignore=0/,
  },
  {
    name: "a pod without a bridge, whose link no longer answers for its placeholder gateway",
    healthy: routedPod,
    fault: (world) => node(world, `sysctl -qw net.ipv4.conf.${blue.veth}.proxy_arp=0`),
    code: "pod-gateway-unowned",
    says: /ns-blue's gateway 169\.254\.1\.1 gets no answer on .*proxy_arp is 0/,
    fix: /sysctl -w net\.ipv4\.conf\.\S+\.proxy_arp=1/,
  },
  {
    name: "IPv6 is switched off on the bridge",
    target: { address: PLAN.internet.httpIpv6, protocol: "tcp", port: 80 },
    fault: (world) => node(world, `sysctl -qw net.ipv6.conf.${bridge}.disable_ipv6=1`),
    code: "bridge-address-missing",
    says: /IPv6 is switched off on lan0 \(disable_ipv6 is 1\)/,
  },
  {
    name: "IPv6 is switched off in the pod",
    target: { address: PLAN.internet.httpIpv6, protocol: "tcp", port: 80 },
    fault: (world) => void ask(world.blue, ["sysctl", "-qw", "net.ipv6.conf.net1.disable_ipv6=1"]),
    code: "pod-no-address",
    says: /no IPv6 address: IPv6 is switched off there/,
  },
  {
    name: "the uplink is down and took the default route along",
    fault: (world) => ip(world, `link set ${uplink} down`),
    code: "node-no-route",
    says: /no route to 198\.51\.100\.80; up0 is down/,
  },
  {
    name: "the pod's mtu is too small for IPv6",
    target: { address: PLAN.internet.httpIpv6, protocol: "tcp", port: 80 },
    healthy: (world) => void ask(world.blue, ["ip", "link", "set", "net1", "mtu", "1280"]),
    fault: (world) => void ask(world.blue, ["ip", "link", "set", "net1", "mtu", "1220"]),
    code: "pod-no-address",
    says: /no IPv6 address: its mtu is 1220, and IPv6 needs 1280/,
  },
  {
    name: "a rule in the pod leads into a table that refuses",
    healthy: (world) =>
      void ask(world.blue, ["ip", "rule", "add", "to", "198.51.100.0/24", "lookup", "60", "pref", "91"]),
    fault: (world) => void ask(world.blue, ["ip", "route", "add", "blackhole", "default", "table", "60"]),
    code: "pod-rule-captures",
    says: /rule “91: from all to 198\.51\.100\.0\/24 lookup 60” in ns-blue/,
    fix: /ip rule del priority 91 from all to 198\.51\.100\.0\/24 lookup 60/,
  },
  {
    name: "a rule for one port and protocol, printed as a whole",
    fault(world) {
      ip(world, "route add unreachable default table 90");
      ip(world, "rule add ipproto tcp dport 80 lookup 90 pref 70");
    },
    code: "rule-captures",
    says: /rule “70: from all ipproto 6 dport 80 lookup 90”/,
    fix: /ip rule del priority 70 from all ipproto 6 dport 80 lookup 90/,
  },
  {
    name: "the pod's own address is a blackhole on the node",
    fault: (world) => ip(world, `route add blackhole ${blue.ipv4}/32`),
    code: "network-overlap",
    says: /no route back to 10\.0\.0\.1: “blackhole 10\.0\.0\.1\/32”/,
    fix: /ip route del blackhole 10\.0\.0\.1\/32/,
  },
  // ── rules for the answers, and rules that choose another gateway ──
  {
    name: "a rule by the interface refuses the answers",
    fault(world) {
      ip(world, `route add unreachable ${PLAN.podNetworkIpv4} table 201`);
      ip(world, `rule add iif ${uplink} lookup 201 pref 400`);
    },
    code: "rule-captures",
    says: /rule “400: from all iif up0 lookup 201” sends the answers to ns-blue to “unreachable/,
    fix: /ip rule del priority 400 from all iif up0 lookup 201/,
  },
  {
    name: "a rule chooses a router that is not there, by the same link",
    fault(world) {
      ip(world, `route add default via 203.0.113.250 dev ${uplink} table 300`);
      ip(world, `rule add from ${PLAN.podNetworkIpv4} lookup 300 pref 700`);
      ip(world, `neigh replace 203.0.113.250 dev ${uplink} nud failed`);
    },
    code: "rule-captures",
    says: /rule “700: from 10\.0\.0\.0\/24 lookup 300” sends what ns-blue sends out by up0 to 203\.0\.113\.250/,
    fix: /ip rule del priority 700/,
  },
  {
    name: "a DNAT to the node's loopback, which takes nothing from outside",
    fault: (world) =>
      nft(
        world,
        "table ip proxy { chain pre { type nat hook prerouting priority -100; tcp dport 80 dnat to 127.0.0.1:3128; }; }",
      ),
    code: "loopback-destination",
    says: /dnat to 127\.0\.0\.1:3128.*route_localnet is 0 on lan0/,
  },
  {
    name: "fail2ban's ban of the destination, seen in its answers",
    fault: (world) =>
      nft(
        world,
        `table inet f2b-table { set addr-set-sshd { type ipv4_addr; elements = { ${WEB.address} }; }; chain f2b-chain { type filter hook prerouting priority -1; ip saddr @addr-set-sshd drop; }; }`,
      ),
    code: "filter-rule-drops",
    says: /fail2ban.*drops the answers to ns-blue/,
    owner: /^fail2ban$/,
    fix: /f2b-chain ip saddr 198\.51\.100\.80 ip daddr 10\.0\.0\.1 accept/,
  },
  {
    name: "a rule marks the pods' packets, and the mark leads to a table that refuses them",
    needs: ["iptables"],
    healthy(world) {
      node(world, "iptables -t mangle -A PREROUTING -p tcp --dport 80 -j MARK --set-mark 0x200");
    },
    fault(world) {
      ip(world, "rule add fwmark 0x200 lookup 210 pref 900");
      ip(world, "route add unreachable default table 210");
    },
    code: "rule-captures",
    says: /rule “900: from all fwmark 0x200 lookup 210”.*unreachable default table 210/,
    fix: /ip rule del priority 900 from all fwmark 0x200 lookup 210$/,
  },
  // ── conntrack ──
  {
    name: "a rule keeps the pods out of connection tracking",
    fault: (world) =>
      nft(
        world,
        `table ip rawtable { chain pre { type filter hook prerouting priority -300; ip saddr ${PLAN.podNetworkIpv4} tcp dport 80 notrack; }; }`,
      ),
    code: "flow-untracked",
    says: /notrack.*nothing can translate 10\.0\.0\.1/,
    fix: /^ip netns exec \S+ nft insert rule ip rawtable pre ip saddr 10\.0\.0\.1 ip daddr \S+ accept$/,
  },
  {
    name: "a rule keeps the answers out of connection tracking",
    fault: (world) =>
      nft(
        world,
        `table ip rawtable { chain pre { type filter hook prerouting priority -300; iifname ${uplink} tcp sport 80 notrack; }; }`,
      ),
    code: "answer-unrecognized",
    says: /^“iifname \S+ tcp sport 80 notrack” in ip rawtable pre keeps the answer .*untracked/,
    // The answer is looked at before it is translated back.
    fix: /nft insert rule ip rawtable pre ip saddr 198\.51\.100\.80 ip daddr 203\.0\.113\.\d+ accept$/,
  },
  {
    name: "a rule records the pods' flows in a zone of their own",
    needs: ["iptables"],
    fault: (world) => node(world, `iptables -t raw -A PREROUTING -i ${bridge} -j CT --zone 5`),
    code: "answer-unrecognized",
    says: /recorded in zone 5 by “.*--zone 5.*” in ip raw PREROUTING/,
    fix: /iptables -t raw -I PREROUTING -s 10\.0\.0\.1 -d 198\.51\.100\.80 -j ACCEPT$/,
  },
  {
    name: "a rule gives the pods' packets one hop to live",
    needs: ["iptables"],
    fault: (world) => node(world, `iptables -t mangle -A PREROUTING -i ${bridge} -j TTL --ttl-set 1`),
    code: "ttl-exceeded",
    says: /TTL --ttl-set 1/,
    fix: /iptables -t mangle -I PREROUTING -s 10\.0\.0\.1 -d 198\.51\.100\.80 -j ACCEPT$/,
  },
  // ── filters ──
  {
    name: "Docker's policy: neither direction alone heals, so the cure is one line",
    needs: ["iptables"],
    fault(world) {
      for (const line of ["-P FORWARD DROP", "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER"])
        node(world, `iptables ${line}`);
    },
    code: "filter-policy-drops",
    says: /policy of ip filter FORWARD \(Docker/,
    fix: /-I FORWARD -i \S+ -j ACCEPT && ip netns exec \S+ iptables -I FORWARD -o \S+ -j ACCEPT$/,
    lines: 1,
  },
  {
    name: "a policy where answers are let through: only what is missing is printed",
    needs: ["iptables"],
    fault(world) {
      for (const line of [
        "-P FORWARD DROP",
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
      ])
        node(world, `iptables ${line}`);
    },
    code: "filter-policy-drops",
    says: /policy of ip filter FORWARD/,
    fix: /^ip netns exec \S+ iptables -I FORWARD -i \S+ -j ACCEPT$/,
    lines: 1,
  },
  {
    name: "firewalld's last word in a chain of the kernel's, which nothing marks as its own",
    needs: ["iptables"],
    fault(world) {
      for (const line of [
        "-N FORWARD_IN_ZONES",
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -j FORWARD_IN_ZONES",
        "-A FORWARD -j REJECT --reject-with icmp-host-prohibited",
      ])
        node(world, `iptables ${line}`);
    },
    code: "filter-rule-drops",
    says: /^firewalld, likely: the rule “.*icmp-host-prohibited/,
    owner: /^firewalld, likely$/,
    fix: /iptables -I FORWARD -s 10\.0\.0\.1 -d \S+ -j ACCEPT$/,
  },
  {
    name: "the bridge plugin's check of MAC addresses",
    fault: (world) =>
      nft(
        world,
        `table bridge nat {
          chain PREROUTING { type filter hook prerouting priority dstnat; jump cni-br-iface-x-net1; };
          chain cni-br-iface-x-net1 { jump cni-br-iface-x-net1-mac; };
          chain cni-br-iface-x-net1-mac {
            ether saddr 02:aa:bb:cc:dd:ee return comment "macspoofchk-x-net1"
            drop comment "macspoofchk-x-net1"
          };
        }`.replace(/^table/, "add table bridge nat; delete table bridge nat; table"),
      ),
    code: "bridge-filter-drops",
    says: /CNI bridge.*MAC address/,
    owner: /^CNI bridge/,
    fix: /ip link set dev net1 address 02:aa:bb:cc:dd:ee$/,
  },
  // ── translation ──
  {
    name: "SNAT to an address that nothing routes to the node",
    fault(world) {
      nft(world, "delete table inet wayout");
      nft(
        world,
        "table ip site { chain post { type nat hook postrouting priority 100; ip saddr 10.0.0.0/24 snat to 192.0.2.44; }; }",
      );
    },
    code: "nat-foreign-address",
    says: /translated to 192\.0\.2\.44/,
    fix: /nft insert rule ip site post ip saddr 10\.0\.0\.1 oifname .* masquerade$/,
  },
];

const KUBE_NAT = `*nat
:KUBE-POSTROUTING - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A POSTROUTING -j CNI-HOSTPORT-MASQ
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
COMMIT
`;

function serviceReject(comment: string): string {
  return `*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A KUBE-EXTERNAL-SERVICES -d ${WEB.address}/32 -p tcp -m comment --comment "${comment}" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
COMMIT
`;
}

function restore(world: World, rules: string): void {
  ask(world.node, ["iptables-restore", "--noflush"], rules);
}

describe("a report", () => testSituations(SITUATIONS));

testWith(["root", "iptables"])("one of a Service's endpoints is gone", () => {
  const world = healthyWorld();
  const service = (second: string): string => `*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-A - [0:0]
-F PREROUTING
-A PREROUTING -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.50/32 -p tcp --dport 80 -j KUBE-SVC-A
-A KUBE-SVC-A -p tcp -m comment --comment "shop/cart:http -> ${WEB.address}:80" -m statistic --mode random --probability 0.5 -j DNAT --to-destination ${WEB.address}:80
-A KUBE-SVC-A -p tcp -m comment --comment "shop/cart:http -> ${second}:80" -j DNAT --to-destination ${second}:80
COMMIT
`;
  const cluster: Target = { address: "10.96.0.50", protocol: "tcp", port: 80 };
  restore(world, service(WEB.address));
  expect(look(world, cluster).findings).toEqual([]);
  restore(world, service("192.0.2.66"));
  ip(world, "route add blackhole 192.0.2.66");
  const { findings, healthy } = look(world, cluster);
  expect([healthy, findings.map((one) => one.code)]).toEqual([false, ["branch-fails"]]);
  expect(findings[0]!.text).toStartWith("1 of 2 endpoints of Service shop/cart:http fails: 192.0.2.66:80 (");
});

testWith(["root", "iptables"])(
  "a Service's endpoint on the pod's own bridge needs no answer by proxy",
  () => {
    const world = healthyWorld();
    const to = (endpoint: string): string => `*nat
-F PREROUTING
-A PREROUTING -d 10.96.0.50/32 -p tcp --dport 80 -j DNAT --to-destination ${endpoint}:80
COMMIT
`;
    const cluster: Target = { address: "10.96.0.50", protocol: "tcp", port: 80 };
    restore(world, to("10.0.0.99"));
    const { findings, path } = look(world, cluster);
    expect(findings).toEqual([]);
    expect(path.elsewhere).toMatchObject({ to: "10.0.0.99:80", chain: "PREROUTING" });
    restore(world, to("192.0.2.66"));
    ip(world, "route add blackhole 192.0.2.66");
    const [found] = look(world, cluster).findings;
    expect(found?.code).toBe("node-route-refused");
    expect(found?.evidence.at(-1)?.source).toMatch(
      /^sent to 192\.0\.2\.66:80 by table ip nat chain PREROUTING/,
    );
  },
);

testWith(["root", "iptables"])("a rule that drops one packet of a hundred is no reason, and is told", () => {
  const world = healthyWorld();
  const drop = `iptables -A FORWARD -i ${bridge} -m statistic --mode random --probability`;
  node(world, `${drop} 0.01 -j DROP`);
  const { findings, healthy } = look(world, WEB);
  expect([healthy, findings.map((one) => one.code)]).toEqual([true, ["branch-fails"]]);
  node(world, "iptables -F FORWARD");
  node(world, `${drop} 0.9 -j DROP`);
  expect(stopping(look(world, WEB))).toEqual(["filter-rule-drops"]);
});

testWith(["root", "iptables"])("a rule for a proxy that nobody runs is not taken away", () => {
  const world = healthyWorld();
  node(world, "iptables -t mangle -A PREROUTING -p tcp --dport 80 -j TPROXY --on-port 15006 --tproxy-mark 1");
  const [found] = look(world, WEB).findings;
  expect(found).toMatchObject({ code: "filter-rule-drops", fix: [] });
  expect(found!.text).toContain("no program listens there");
  expect((found!.advice ?? []).join()).toContain("start the proxy");
});

describe("one of a Service's endpoints is gone, whichever comes first", () => {
  const cluster: Target = { address: "10.96.0.50", protocol: "tcp", port: 80 };
  const GONE = "192.0.2.66";
  const nftables = (endpoints: readonly string[]): string => `table ip kube-proxy {
    chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.50 tcp dport 80 numgen random mod ${endpoints.length} vmap { ${endpoints.map((_, at) => `${at} : goto e${at}`).join(", ")} }; };
    ${endpoints.map((address, at) => `chain e${at} { meta l4proto tcp dnat to ${address}:80; };`).join("\n")}
  }`;
  const iptables = (endpoints: readonly string[]): string =>
    [
      "*nat",
      ...endpoints.map((address, at) => {
        const left = endpoints.length - at;
        const chance = left === 1 ? "" : ` -m statistic --mode random --probability ${1 / left}`;
        return `-A PREROUTING -d 10.96.0.50/32 -p tcp --dport 80${chance} -j DNAT --to-destination ${address}:80`;
      }),
      "COMMIT\n",
    ].join("\n");
  for (const mode of ["nftables", "iptables"] as const)
    for (const count of [2, 3])
      for (let gone = 0; gone < count; gone++)
        testWith(["root", "nft", "iptables"])(`${mode}: number ${gone + 1} of ${count}`, () => {
          const world = healthyWorld();
          ip(world, `route add blackhole ${GONE}`);
          const endpoints = Array.from({ length: count }, (_, at) => (at === gone ? GONE : WEB.address));
          if (mode === "nftables") nft(world, nftables(endpoints));
          else restore(world, iptables(endpoints));
          const { findings, healthy } = look(world, cluster);
          expect([healthy, findings.map((one) => one.code)]).toEqual([false, ["branch-fails"]]);
          expect(findings[0]!.text).toContain(`1 of 2 endpoints`);
          expect(findings[0]!.text).toContain(GONE);
          expect(findings[0]!.consequence).toContain(`(${Math.round(100 / count)} %)`);
        });
});

describe("a limit of connections, with those that are open now", () => {
  const NFT =
    "add rule ip limits f ip saddr 10.0.0.0/24 ct state new add @c { ip saddr ct count over 2 } reject";
  for (const kind of ["iptables", "nft"] as const)
    testWith(["root", "nft", "iptables"])(kind, async () => {
      const world = healthyWorld();
      await using _ = await serving(world.internet, 8089, "");
      nft(
        world,
        "table ip limits { set c { type ipv4_addr; flags dynamic; }; chain f { type filter hook forward priority 0; }; }",
      );
      if (kind === "nft") nft(world, NFT);
      else
        node(
          world,
          "iptables -A FORWARD -s 10.0.0.1 -p tcp --syn -m connlimit --connlimit-above 2 -j REJECT",
        );
      expect(stopping(look(world, WEB))).toEqual([]);
      using first = InetSocket.open(world.blue, "tcp", 4);
      using second = InetSocket.open(world.blue, "tcp", 4);
      for (const socket of [first, second]) socket.connect({ address: WEB.address, port: 8089 });
      const { findings } = look(world, WEB);
      expect(findings[0]).toMatchObject({ code: "filter-rule-drops", stopsTraffic: true });
      expect(JSON.stringify(findings)).toMatch(/a limit of 2 connections.*now 2 open/);
    });
});

describe("what ends here and is answered", () => {
  testWith(["root", "iptables"])("a REDIRECT to a proxy that runs", async () => {
    const world = healthyWorld();
    await using _ = await serving(world.node, 20559, "");
    node(world, "iptables -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 20559");
    const diagnosis = look(world, WEB);
    expect(diagnosis.findings).toEqual([]);
    expect(diagnosis.answer).toMatch(/is redirected: .*20559.*a program listens/);
    expect(diagnosis.answer).not.toContain("which is on this node");
  });

  testWith(["root", "ip"])("the node's own address", async () => {
    const world = healthyWorld();
    await using _ = await serving(world.node, 8080, "");
    const diagnosis = look(world, { address: PLAN.node.uplinkIpv4, protocol: "tcp", port: 8080 });
    expect(diagnosis.findings).toEqual([]);
    expect(diagnosis.answer).toContain("which is on this node (an address of up0)");
  });
});
