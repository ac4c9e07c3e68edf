/**
 * Situations of public threads about more than one route, about the pod's own rules, and about what conntrack allows; each
 * with its healthy neighbour.
 */
import { describe, expect } from "bun:test";
import { diagnoseAnywhere } from "../../src/doctor/families.ts";
import type { Diagnosis } from "../../src/doctor/diagnose.ts";
import type { FindingCode } from "../../src/causes/catalogue/all.ts";
import type { Target } from "../../src/doctor/predict/path.ts";
import { predictPath } from "../../src/doctor/predict/predict.ts";
import { InetSocket } from "../../src/kernel/inet-socket.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { deadEnd, look, nft, node, pod, testSituations, WEB, type Situation } from "./situation.ts";
import { healthyWorld, PLAN, serveInternet, snapshotOf, type World } from "./world.ts";

const { blue } = PLAN.pods;
const { uplink, bridge } = PLAN.node;
const WEB6: Target = { ...WEB, address: PLAN.internet.httpIpv6 };

/** A second way out to the same router. */
function secondUplink(world: World): void {
  node(world, "ip link add up1 type veth peer name up1-out");
  run(world.node, ["ip", "link", "set", "up1-out", "netns", PLAN.internet.namespace]);
  ask(world.internet, ["ip", "addr", "add", "192.0.2.1/24", "dev", "up1-out"]);
  ask(world.internet, ["ip", "link", "set", "up1-out", "up"]);
  node(world, "ip addr add 192.0.2.77/24 dev up1");
  node(world, "ip link set up1 up");
  node(world, `sysctl -qw net.ipv4.conf.up1.rp_filter=0`);
}

/** By nexthop objects, as FRR makes them. */
function byGroup(world: World): void {
  secondUplink(world);
  node(world, `ip nexthop add id 1 via ${PLAN.internet.routerIpv4} dev ${uplink}`);
  node(world, "ip nexthop add id 2 via 192.0.2.1 dev up1");
  node(world, "ip nexthop add id 10 group 1/2");
  node(world, "ip route del default");
  node(world, "ip route add default nhid 10");
}

/** In the route itself. */
function byRoute(world: World): void {
  secondUplink(world);
  node(
    world,
    `ip route replace default nexthop via ${PLAN.internet.routerIpv4} dev ${uplink} nexthop via 192.0.2.1 dev up1`,
  );
}

/** In the node, or where the line itself says. */
function at(world: World, line: string): void {
  if (line.startsWith("ip netns exec "))
    expect([line, run(undefined, line.split(" ")).exitCode]).toEqual([line, 0]);
  else node(world, line);
}

function inPod(world: World, text: string): void {
  ask(world.blue, ["nft", "-f", "-"], text);
}

/** Who comes first by the tables of one pod, whatever leg the one address takes. */
function anywhere(world: World): Diagnosis {
  const snapshot = snapshotOf(world, ["1.1.1.1", "2606:4700:4700::1111"]);
  return diagnoseAnywhere(snapshot, snapshot.pods[0]!);
}

describe("one of several next hops", () => {
  const LEGS: Readonly<
    Record<string, { ways: (world: World) => void; fault: (world: World) => void; says: RegExp; fix: RegExp }>
  > = {
    "a next hop's gateway is gone": {
      ways: byRoute,
      fault: (world) => node(world, "ip neigh replace 192.0.2.1 dev up1 nud failed"),
      says: /the leg by up1 .* fails: 192\.0\.2\.1 does not answer on up1/,
      fix: /ip route replace default via 203\.0\.113\.1 dev up0$/,
    },
    "a member's link has lost its carrier": {
      ways: byRoute,
      fault: (world) => ask(world.internet, ["ip", "link", "set", "up1-out", "down"]),
      says: /the leg by up1 .* fails: up1 on the node has no carrier/,
      fix: /ip route replace default via 203\.0\.113\.1 dev up0$/,
    },
    "a group's member is not translated": {
      ways: byGroup,
      fault(world) {
        nft(world, "delete table inet wayout");
        nft(
          world,
          `table ip site { chain p { type nat hook postrouting priority 100; oifname ${uplink} masquerade; }; }`,
        );
      },
      says: /the leg by up1 .* is not translated \(10\.0\.0\.1 leaves as it is\)/,
      fix: /wayout nat apply -f -/,
    },
    "what goes by a member is dropped": {
      ways: byRoute,
      fault: (world) =>
        nft(
          world,
          `table ip wall { chain f { type filter hook forward priority 0; oifname up1 tcp dport 443 drop; }; }`,
        ),
      says: /the leg by up1 .* fails: /,
      fix: /nft delete rule ip wall f handle/,
    },
    "over IPv6 a gateway is gone": {
      ways(world) {
        secondUplink(world);
        node(world, "ip addr add 2001:db8:2::77/64 dev up1 nodad");
        node(world, "ip -6 route del default");
        node(
          world,
          `ip -6 route add default nexthop via ${PLAN.internet.routerIpv6} dev ${uplink} nexthop via 2001:db8:2::1 dev up1`,
        );
        node(world, "ip neigh replace 2001:db8:2::1 lladdr 02:00:00:00:00:01 dev up1");
      },
      fault: (world) => node(world, "ip neigh replace 2001:db8:2::1 dev up1 nud failed"),
      says: /the leg by up1 .* fails: 2001:db8:2::1 does not answer on up1/,
      fix: /ip -6 route replace default via 2001:db8:113::1 dev up0 metric 1024$/,
    },
  };
  for (const [name, { ways, fault, says, fix }] of Object.entries(LEGS))
    testWith(["root", "ip", "nft"])(name, () => {
      const world = healthyWorld();
      ways(world);
      expect(anywhere(world).findings.filter((one) => one.stopsTraffic)).toEqual([]);
      fault(world);
      const { findings, healthy } = anywhere(world);
      expect(healthy).toBe(false);
      const stopping = findings.filter((one) => one.stopsTraffic);
      expect(stopping.map((one): string => one.code)).toContain("leg-fails");
      const found = stopping.find((one) => one.code === "leg-fails")!;
      expect(found.text).toMatch(says);
      // What is wrong with the leg alone is no second finding.
      const codes = stopping.map((one): string => one.code);
      expect(codes).toEqual(codes.filter((code) => code === "leg-fails"));
      expect(found.fix).toHaveLength(1);
      const { command } = found.fix[0]!;
      expect(command).toMatch(fix);
      // What is ours to apply asks the node of this machine for its state, and has tests of its own.
      if (command.includes("wayout")) return;
      expect([command, run(undefined, ["sh", "-c", command]).exitCode]).toEqual([command, 0]);
      expect(anywhere(world).findings.filter((one) => one.stopsTraffic)).toEqual([]);
    });
  for (const [name, ways, fault] of [
    ["a nexthop object's", byGroup, undefined],
    ["where fib_multipath_use_neigh is 1, any", byRoute, "sysctl -qw net.ipv4.fib_multipath_use_neigh=1"],
  ] as const)
    testWith(["root", "ip", "nft"])(`${name}, that is known not to answer is passed over`, () => {
      const world = healthyWorld();
      ways(world);
      if (fault !== undefined) node(world, fault);
      node(world, "ip neigh replace 192.0.2.1 dev up1 nud failed");
      // The kernel itself: of 64 destinations none is sent there.
      const questions = Array.from({ length: 64 }, (_, at) => `route get 198.51.100.${at + 1}`).join("\n");
      expect(ask(world.node, ["ip", "-batch", "-"], questions)).not.toContain("up1");
      const { findings, healthy } = anywhere(world);
      expect([healthy, findings.map((one): string => one.code)]).toEqual([true, ["leg-passed-over"]]);
      expect(findings[0]!.text).toContain("192.0.2.1 does not answer on up1, and the kernel passes it over");
      node(world, "ip neigh del 192.0.2.1 dev up1");
      expect(ask(world.node, ["ip", "-batch", "-"], questions)).toContain("up1");
      expect(anywhere(world).findings).toEqual([]);
    });
});

const OWN_RULES: readonly Situation[] = [
  {
    name: "a side car's translation to its tunnel's address stayed when the tunnel went",
    healthy: (world) =>
      inPod(
        world,
        "table ip car { chain p { type nat hook postrouting priority 100; oifname tun0 snat to 10.8.0.2; }; }",
      ),
    fault: (world) =>
      inPod(
        world,
        `table ip car { chain q { type nat hook postrouting priority 99; oifname ${PLAN.podInterface} snat to 10.8.0.2; }; }`,
      ),
    code: "pod-nat-foreign-address",
    says: /the rule “oifname "net1" snat to 10\.8\.0\.2” in ns-blue gives what it sends the address 10\.8\.0\.2, which is no address of the pod/,
    fix: /ns-blue nft insert rule ip car q ip saddr 10\.0\.0\.1 ip daddr 198\.51\.100\.80 accept$/,
    heals: true,
  },
  {
    name: "a side car's kill switch lets only its tunnel pass",
    healthy: (world) =>
      inPod(
        world,
        `table ip kill { chain o { type filter hook output priority 0; policy drop; oifname { lo, tun0 } accept; oifname ${PLAN.podInterface} accept; }; }`,
      ),
    fault: (world) => ask(world.blue, ["nft", "flush", "chain", "ip", "kill", "o"]),
    code: "filter-policy-drops",
    says: /the policy of ip kill o \(the administrator\) drops what ns-blue sends/,
    fix: /ns-blue nft insert rule ip kill o ip saddr 10\.0\.0\.1 ip daddr 198\.51\.100\.80 accept$/,
    heals: true,
  },
  {
    name: "a mesh's redirection in the pod, and no proxy",
    healthy: (world) =>
      inPod(
        world,
        "table ip mesh { chain o { type nat hook output priority -100; meta skuid 0 accept; tcp dport 443 redirect to :15001; }; }",
      ),
    fault: (world) =>
      inPod(
        world,
        "table ip mesh { chain o2 { type nat hook output priority -101; tcp dport 80 redirect to :15001; }; }",
      ),
    code: "ends-in-pod",
    says: /redirect to :15001” redirects it to 127\.0\.0\.1:15001; no program listens/,
    advice: /start the proxy that is to listen at 127\.0\.0\.1:15001 on ns-blue/,
  },
];

describe("the pod's own rules", () => {
  testSituations(OWN_RULES);

  const WHO: Readonly<Record<string, { rule: string; user: number }>> = {
    "one user may not go out": { rule: "meta skuid 1000 drop", user: 1000 },
    "only root and the proxy may go out": { rule: "meta skuid != { 0, 1337 } drop", user: 1 },
    "a range of users may not go out": { rule: "meta skuid 1000-1999 reject", user: 1000 },
  };
  for (const [name, { rule, user }] of Object.entries(WHO))
    testWith(["root", "nft"])(`${name}: root's packet passes, and that is not all that is said`, () => {
      const world = healthyWorld();
      const table = (text: string): string =>
        `table ip who { chain o { type filter hook output priority 0; ${text}; }; }`;
      inPod(world, table("meta skuid 1000 counter accept"));
      expect(look(world, WEB).findings).toEqual([]);
      inPod(world, `delete table ip who; ${table(rule)}`);
      const { findings, healthy } = look(world, WEB);
      expect([healthy, findings.map((one): string => one.code)]).toEqual([true, ["other-senders-fail"]]);
      expect(findings[0]!.text).toContain(`a process of user ${user} sends`);
    });
});

/** Connections that stay open until the test ends. */
async function openConnections(from: NetworkNamespace, world: World, count: number): Promise<void> {
  const server = await serveInternet(world);
  const sockets = Array.from({ length: count }, () => {
    const socket = InetSocket.open(from, "tcp", 4);
    socket.connect({ address: WEB.address, port: WEB.port });
    return socket;
  });
  afterThisTest(async () => {
    for (const socket of sockets) socket[Symbol.dispose]();
    await server[Symbol.asyncDispose]();
  });
}

describe("what connection tracking allows", () => {
  const LIMITS: Readonly<Record<string, { rule: string; says: RegExp; fix: RegExp }>> = {
    "so many connections of all pods": {
      rule: "ip saddr 10.0.0.0/24 ct state new ct count over 2 drop",
      says: /ct count over 2 drop” in ip site f drops what ns-blue sends: its limit of connections is reached/,
      fix: /nft 'replace rule ip site f handle \d+ .*ct count over 20 drop'$/,
    },
  };
  for (const [name, { rule, says, fix }] of Object.entries(LIMITS))
    testWith(["root", "nft", "curl"])(name, async () => {
      const world = healthyWorld();
      nft(world, `table ip site { chain f { type filter hook forward priority 0; ${rule}; }; }`);
      // How far it is used up is told, and is no fault.
      expect(look(world, WEB)).toMatchObject({ healthy: true, certain: true });
      await openConnections(world.green, world, 3);
      const [found] = look(world, WEB).findings;
      expect([found?.code, found?.stopsTraffic]).toEqual(["filter-rule-drops", true]);
      expect(found!.text).toMatch(says);
      const commands = found!.fix.map((one): string => one.command);
      expect(commands.join()).toMatch(fix);
      expect(run(undefined, ["sh", "-c", commands[0]!]).exitCode).toBe(0);
      expect(look(world, WEB).findings.filter((one) => one.stopsTraffic)).toEqual([]);
    });

  const SHORT: Readonly<
    Record<string, { target: Target; setting: string; usual: number; short: number; says: RegExp }>
  > = {
    "TCP is forgotten after a minute": {
      target: WEB,
      setting: "net.netfilter.nf_conntrack_tcp_timeout_established",
      usual: 432_000,
      short: 60,
      says: /forgets a translated TCP flow after 60 s of silence, applications rest for up to 7200 s/,
    },
    "UDP is forgotten after three seconds": {
      target: { address: PLAN.internet.dnsIpv4, protocol: "udp", port: 53 },
      setting: "net.netfilter.nf_conntrack_udp_timeout_stream",
      usual: 120,
      short: 3,
      says: /forgets a translated UDP flow after 3 s of silence/,
    },
  };
  for (const [name, { target, setting, usual, short, says }] of Object.entries(SHORT))
    testWith(["root", "nft"])(name, () => {
      const world = healthyWorld();
      node(world, `sysctl -qw ${setting}=${usual}`);
      expect(look(world, target).findings).toEqual([]);
      node(world, `sysctl -qw ${setting}=${short}`);
      const { findings, healthy } = look(world, target);
      expect([healthy, findings.map((one): string => one.code)]).toEqual([true, ["conntrack-timeout-short"]]);
      expect(findings[0]!.text).toMatch(says);
      expect(run(undefined, ["sh", "-c", findings[0]!.fix[0]!.command]).exitCode).toBe(0);
      expect(look(world, target).findings).toEqual([]);
    });
});

const ROUTES: readonly Situation[] = [
  {
    name: "a second network's default route has the better metric and no gateway: one cause, one finding",
    healthy(world) {
      node(world, "ip link add iot type bridge");
      node(world, "ip link set iot up");
      node(world, "ip link add iot-blue type veth peer name net2");
      node(world, "ip link set iot-blue master iot up");
      run(world.node, ["ip", "link", "set", "net2", "netns", blue.namespace]);
      for (const line of [
        "ip addr add 192.168.50.2/24 dev net2",
        "ip link set net2 up",
        `ip -4 route del default`,
        `ip route add default via ${PLAN.node.gatewayIpv4} dev ${PLAN.podInterface} metric 200`,
      ])
        pod(world, line);
    },
    fault: (world) => pod(world, "ip route add default via 192.168.50.1 dev net2 metric 100"),
    code: "pod-route-captures",
    says: /default route leads by net2 to 192\.168\.50\.1, which no interface has; its network by net1 has a gateway, 10\.0\.0\.254/,
    fix: /ns-blue ip route replace default via 10\.0\.0\.254 dev net1$/,
    lines: 1,
    heals: true,
  },
  {
    name: "a balancer of uplinks takes the uplink for dead and refuses by its mark, answers included",
    needs: ["iptables"],
    healthy(world) {
      node(world, "iptables -t mangle -N mwan3_hook");
      node(world, "iptables -t mangle -A PREROUTING -j mwan3_hook");
      node(world, "ip rule add fwmark 0x3e00/0x3f00 unreachable pref 2062");
    },
    fault: (world) =>
      node(
        world,
        "iptables -t mangle -A mwan3_hook -m mark --mark 0/0x3f00 ! -d 10.0.0.0/8 -j MARK --set-xmark 0x3e00/0x3f00",
      ),
    code: "node-route-refused",
    says: /rule “2062: from all fwmark 0x3e00\/0x3f00 unreachable” of the node refuses 198\.51\.100\.80/,
    owner: /mwan3/,
    evidence: /the mark is set by table ip mangle chain mwan3_hook/,
    fix: /ip rule add priority 2061 from 10\.0\.0\.1 lookup main && .*ip rule add priority 2061 to 10\.0\.0\.1 lookup main$/,
    heals: true,
  },
  {
    name: "a redirected packet is dropped where it comes in, and is let through by the address that it has there",
    healthy: (world) =>
      nft(
        world,
        `table ip proxy { chain i { type filter hook input priority 0; policy drop; iifname lo accept; ip protocol icmp accept; }; }`,
      ),
    fault: (world) =>
      nft(
        world,
        `table ip proxy { chain p { type nat hook prerouting priority -100; iifname ${bridge} tcp dport 80 redirect to :3128; }; }`,
      ),
    code: "filter-policy-drops",
    says: /the policy of ip proxy i \(the administrator\) drops what ns-blue sends/,
    fix: /nft insert rule ip proxy i ip saddr 10\.0\.0\.1 ip daddr 10\.0\.0\.254 accept$/,
  },
  {
    name: "another node of the cluster does not answer in its tunnel: nobody's route is to be deleted",
    target: { address: "10.0.7.9", protocol: "tcp", port: 80 },
    healthy(world) {
      deadEnd(world, "peer0", "192.0.2.200/24");
      node(world, "ip route add 10.0.7.0/24 via 192.0.2.201 dev peer0");
      node(world, "ip neigh replace 192.0.2.201 dev peer0 lladdr 02:00:00:00:00:07 nud permanent");
      node(world, `ip link add flannel.1 type vxlan id 1 dstport 8472 local ${PLAN.node.uplinkIpv4}`);
      node(world, "ip link set flannel.1 up");
    },
    fault(world) {
      node(world, "ip route replace 10.0.7.0/24 via 10.0.7.0 dev flannel.1 onlink");
      node(world, "ip neigh replace 10.0.7.0 dev flannel.1 nud failed");
    },
    code: "uplink-gateway-unresolved",
    says: /10\.0\.7\.0, the next hop of route “10\.0\.7\.0\/24 via 10\.0\.7\.0 dev flannel\.1 onlink”, does not answer on flannel\.1/,
    owner: /flannel/,
    advice: /does it run here/,
  },
];

describe("routes and rules", () => {
  testSituations(ROUTES);

  testWith(["root", "ip", "nft"])("what only the way to one destination needs, in one world", () => {
    const world = healthyWorld();
    const far: Target = { ...WEB, address: "203.9.9.9" };
    const inside: Target = { ...WEB, address: "10.77.0.9" };
    deadEnd(world, "ppp9", "192.0.2.200/32");
    // The fault, how it is told and mended, and what takes both away.
    const rows: readonly (readonly [Target, string[], FindingCode, RegExp, RegExp, string[]])[] = [
      [
        far,
        ["ip addr add 203.9.0.1/8 dev up0", "ip neigh replace 203.9.9.9 dev up0 nud failed"],
        "uplink-gateway-unresolved",
        /^203\.9\.9\.9 does not answer on up0, where the node's route “203\.0\.0\.0\/8 dev up0 src 203\.9\.0\.1” takes it for a neighbour, by the prefix length of 203\.9\.0\.1\/8$/,
        /ip route add 203\.9\.9\.9\/32 via 203\.0\.113\.1 dev up0$/,
        ["ip route del 203.9.9.9/32", "ip addr del 203.9.0.1/8 dev up0"],
      ],
      [
        inside,
        ["ip netns exec ns-blue ip addr add 10.0.0.1/8 dev net1"],
        "pod-gateway-unowned",
        /route “10\.0\.0\.0\/8 dev net1 src 10\.0\.0\.1” in ns-blue takes 10\.77\.0\.9 for a neighbour on net1/,
        /ip netns exec ns-blue ip route add 10\.77\.0\.9\/32 via 10\.0\.0\.254 dev net1$/,
        [
          "ip netns exec ns-blue ip route del 10.77.0.9/32",
          "ip netns exec ns-blue ip addr del 10.0.0.1/8 dev net1",
        ],
      ],
      [
        WEB,
        [
          "ip route del default",
          "ip route add default via 203.0.113.1 dev up0 metric 100",
          "ip route add default dev ppp9 scope link",
          `ip neigh replace ${WEB.address} dev ppp9 nud failed`,
        ],
        "route-captures",
        /^route “default dev ppp9” takes .* “default via 203\.0\.113\.1 dev up0 metric 100” would carry it$/,
        /ip route add 198\.51\.100\.80\/32 via 203\.0\.113\.1 dev up0$/,
        [`ip route del ${WEB.address}/32`, "ip route del default dev ppp9"],
      ],
      [
        WEB,
        ["ip nexthop add id 5 blackhole", "ip route add 198.51.100.0/24 nhid 5"],
        "node-route-refused",
        /^route “blackhole 198\.51\.100\.0\/24 nhid 5 dev lo” of the node refuses/,
        /ip route del 198\.51\.100\.0\/24 nhid 5$/,
        ["ip nexthop del id 5"],
      ],
      [
        WEB,
        ["ip netns exec ns-blue ip route replace default dev net1"],
        "pod-gateway-unowned",
        /^route “default dev net1” in ns-blue takes 198\.51\.100\.80 for a neighbour on net1/,
        /ip netns exec ns-blue ip route replace default via 10\.0\.0\.254 dev net1$/,
        [],
      ],
    ];
    for (const [target, fault, code, says, fix, undo] of rows) {
      expect(look(world, target).findings).toEqual([]);
      for (const line of fault) at(world, line);
      const { findings } = look(world, target);
      expect(findings.map((one): string => one.code)).toEqual([code]);
      expect(findings[0]!.text).toMatch(says);
      expect(findings[0]!.fix.map(({ command }) => command)).toHaveLength(1);
      const { command } = findings[0]!.fix[0]!;
      expect(command).toMatch(fix);
      expect([command, run(undefined, ["sh", "-c", command]).exitCode]).toEqual([command, 0]);
      expect(look(world, target).findings).toEqual([]);
      for (const line of undo) at(world, line);
    }
    node(world, `ip neigh replace ${PLAN.internet.routerIpv4} lladdr 02:00:00:00:00:99 dev up0 nud noarp`);
    const { healthy, suspicions } = look(world, WEB);
    expect([healthy, suspicions.map((one): string => one.code)]).toEqual([true, ["uplink-gateway-pinned"]]);
    expect(suspicions[0]!.text).toContain("02:00:00:00:00:99 (NOARP)");
    expect(look(world, WEB6).findings).toEqual([]);
    node(world, `ip -6 route add anycast ${WEB6.address} dev up0`);
    const [found] = look(world, WEB6).findings;
    expect([found?.code, found?.text]).toEqual([
      "ends-on-node",
      expect.stringContaining("route “anycast 2001:db8:198::80/128 dev up0"),
    ]);
  });
});

testWith(["root", "nft"])(
  "where a limit decides only which rule masquerades, the ports of both count",
  () => {
    const world = healthyWorld();
    nft(world, "delete table inet wayout");
    nft(
      world,
      `table ip site { chain p { type nat hook postrouting priority 100; limit rate 1/hour masquerade; meta l4proto tcp masquerade to :1024-2047; }; }`,
    );
    const snapshot = snapshotOf(world);
    const { path, certain } = predictPath(snapshot, snapshot.pods[0]!, WEB);
    expect([certain, path.stops, path.left?.source]).toEqual([true, [], PLAN.node.uplinkIpv4]);
    const { first, last } = path.translatedPorts!;
    expect(first).toBe(1024);
    expect(last).toBeGreaterThanOrEqual(path.sent!.sourcePort);
  },
);

testWith(["root", "ip", "ping"])("what a router has told the pod of a very small link is told", () => {
  const world = healthyWorld();
  const narrow = (mtu: number): void => {
    ask(world.internet, ["ip", "link", "set", "lo", "mtu", "65536"]);
    ask(world.node, [
      "ip",
      "route",
      "replace",
      `${WEB.address}/32`,
      "via",
      PLAN.internet.routerIpv4,
      "mtu",
      String(mtu),
    ]);
  };
  expect(look(world, WEB).findings).toEqual([]);
  narrow(600);
  run(world.blue, ["ping", "-c1", "-W1", "-Mdo", "-s1200", WEB.address]);
  node(world, `ip route del ${WEB.address}/32`);
  const { findings, healthy, checklist } = look(world, WEB);
  expect([healthy, findings.map((one): string => one.code)]).toEqual([true, ["mtu-learned-small"]]);
  expect(findings[0]!.text).toMatch(/sends packets of at most 600 bytes to 198\.51\.100\.80/);
  expect(checklist.find((line) => line.step === "mtu")?.status).toBe("warned");
  expect(run(undefined, ["sh", "-c", findings[0]!.fix[0]!.command]).exitCode).toBe(0);
  expect(look(world, WEB).findings).toEqual([]);
});

testWith(["root", "ip", "nft"])("IPv6 is switched off on the way out, and nobody named a destination", () => {
  const world = healthyWorld();
  expect(anywhere(world).findings).toEqual([]);
  node(world, `sysctl -qw net.ipv6.conf.${uplink}.disable_ipv6=1`);
  const { findings, healthy, answer } = anywhere(world);
  expect([healthy, findings[0]?.code]).toEqual([false, "node-no-route"]);
  expect(answer).toMatch(/reaches the outside over IPv4 and not over IPv6: .*IPv6 is switched off on up0/);
  expect(look(world, WEB6).healthy).toBe(false);
});

testWith(["root", "ip", "nft"])(
  "a node without any IPv6 of its own is healthy where its pods have none to go out",
  () => {
    const world = healthyWorld();
    pod(world, "ip -6 route del default");
    node(world, `sysctl -qw net.ipv6.conf.${uplink}.disable_ipv6=1`);
    expect(anywhere(world).healthy).toBe(true);
  },
);
