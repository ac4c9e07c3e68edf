/**
 * Situations from public reports that nobody here had tried before: ways out over bridges, proxies whose sockets are lost,
 * rules for other people's connections, flows that outlive a decision. Each with its healthy neighbour.
 */
import { describe, expect, test } from "bun:test";
import { diagnose } from "../../src/doctor/diagnose.ts";
import type { Finding } from "../../src/doctor/finding.ts";
import { findPod } from "../../src/pods/find.ts";
import { takeSnapshot } from "../../src/snapshot/collect.ts";
import { routeText } from "../../src/doctor/predict/fib.ts";
import type { Target } from "../../src/doctor/predict/path.ts";
import { parseResolvConf } from "../../src/linux/resolv-conf.ts";
import { productOf } from "../../src/naming/products.ts";
import { ask, run, testWith } from "../support/witness.ts";

import { deadEnd, look, nft, node, pod, testSituations, WEB, type Situation } from "./situation.ts";
import { askFrom, healthyWorld, PLAN, serveInternet, snapshotOf, type World } from "./world.ts";

const WEB6: Target = { ...WEB, address: PLAN.internet.httpIpv6 };
const { blue } = PLAN.pods;
const { uplink, bridge } = PLAN.node;
const FRAMES = "net.bridge.bridge-nf-call-iptables";

/** As OpenStack, libvirt and Proxmox have it: the uplink is a port, the addresses are the bridge's. */
function bridgedUplink(world: World): void {
  for (const line of [
    "ip link add br-ex type bridge",
    `ip addr flush dev ${uplink}`,
    `ip link set ${uplink} master br-ex`,
    "ip link set br-ex up",
    `ip addr add ${PLAN.node.uplinkIpv4}/24 dev br-ex`,
    `ip route add default via ${PLAN.internet.routerIpv4}`,
  ])
    node(world, line);
}

/** A chain of kube-proxy's, and the rule that leads to it. */
function kubeChain(world: World, chain: string, ...rules: string[]): void {
  node(world, `iptables -N ${chain}`);
  for (const rule of rules) node(world, `iptables -A ${chain} ${rule}`);
  node(world, `iptables -I FORWARD -j ${chain}`);
}

const toPrevious =
  (line: string): ((world: World) => void) =>
  (world) =>
    node(world, line);

const SITUATIONS: readonly Situation[] = [
  // ── the way out over a bridge ──
  {
    name: "frames of the node itself are dropped where the uplink is a bridge's port",
    healthy: bridgedUplink,
    fault: (world) =>
      nft(
        world,
        `table bridge wall { chain out { type filter hook output priority -200; policy drop; ether type arp accept; oifname "${blue.veth}" accept; }; }`,
      ),
    code: "bridge-filter-drops",
    says: /the policy in table bridge wall chain out drops ns-blue's frames/,
    fix: /nft insert rule bridge wall out oifname '?"?up0/,
    heals: true,
  },
  {
    name: "the uplink's port learns and does not forward",
    healthy: bridgedUplink,
    fault: (world) => node(world, `bridge link set dev ${uplink} state 1`),
    code: "bridge-port-blocked",
    says: new RegExp(`port ${uplink} of br-ex is listening, not forwarding`),
    heals: true,
  },
  {
    name: "answers are dropped where they come in by the bridge's port",
    healthy: bridgedUplink,
    fault: (world) =>
      nft(
        world,
        `table bridge wall { chain in { type filter hook input priority 0; iifname "${uplink}" ip saddr ${WEB.address} drop; }; }`,
      ),
    code: "bridge-filter-drops",
    says: /in table bridge wall chain in handle \d+ drops ns-blue's frames/,
    heals: true,
  },
  // ── what ends here ──
  {
    name: "a whole range is the node's own by a route of type local",
    fault: toPrevious("ip route add local 198.51.100.0/24 dev lo"),
    code: "ends-on-node",
    says: /route “local 198\.51\.100\.0\/24 dev lo table local”/,
  },
  {
    name: "a virtual address stayed here when its service moved",
    fault: toPrevious(`ip addr add ${WEB.address}/32 dev ${uplink}`),
    code: "ends-on-node",
    says: new RegExp(`${WEB.address.replaceAll(".", "\\.")} is an address of ${uplink}`),
  },
  {
    name: "a network of containers took the range of the destination",
    fault(world) {
      node(world, "ip link add br-0a1b2c3d4e5f type bridge");
      node(world, "ip addr add 198.51.100.1/24 dev br-0a1b2c3d4e5f");
      node(world, "ip link set br-0a1b2c3d4e5f up");
      // It is up with somebody on it.
      node(world, "ip link add other type veth peer name other-end");
      node(world, "ip link set other master br-0a1b2c3d4e5f up");
      node(world, "ip link set other-end up");
    },
    code: "destination-overlap",
    says: /lies in the range of br-0a1b2c3d4e5f/,
    fix: /ip route add 198\.51\.100\.80\/32 via 203\.0\.113\.1 dev up0/,
  },
  // ── with which address ──
  {
    name: "an earlier chain translates to an address that no router knows",
    fault(world) {
      node(world, "ip addr add 192.0.2.200/32 dev lo");
      nft(
        world,
        "table ip early { chain p { type nat hook postrouting priority 90; ip saddr 10.0.0.0/8 snat to 192.0.2.200; }; }",
      );
    },
    code: "other-links-address",
    says: /the rule “ip saddr 10\.0\.0\.0\/8 snat to 192\.0\.2\.200” in table ip early chain p handle \d+ gives what leaves by up0 the address 192\.0\.2\.200 of lo/,
    fix: /nft insert rule ip early p ip saddr 10\.0\.0\.1 ip daddr 198\.51\.100\.80 accept/,
    suspicion: true,
    heals: true,
  },
  {
    name: "the uplink's address has the scope of its link",
    fault(world) {
      node(world, `ip addr flush dev ${uplink}`);
      node(world, `ip addr add ${PLAN.node.uplinkIpv4}/24 dev ${uplink} scope link`);
      node(world, `ip route replace default via ${PLAN.internet.routerIpv4}`);
    },
    code: "other-links-address",
    says: /packets leave by up0 with 10\.0\.0\.\d+, the address of lan0/,
    evidence: /addresses of up0: 203\.0\.113\.5\/24 scope link/,
    advice: /with scope global/,
    suspicion: true,
  },
  {
    name: "the pod sends from an address that the node has no route to",
    fault(world) {
      pod(world, "ip addr add 10.99.0.2/32 dev net1");
      pod(world, `ip route replace default via ${PLAN.node.gatewayIpv4} src 10.99.0.2`);
    },
    code: "network-overlap",
    says: /the node has no route back to 10\.99\.0\.2, which ns-blue sends from, but “default via/,
    advice: /a route to it by lan0/,
  },
  {
    name: "the pod has a public prefix, which the routers outside must know",
    target: WEB6,
    fault(world) {
      pod(world, "ip -6 addr add 2001:db8:77::2/64 dev net1 nodad");
      node(world, `ip -6 addr add 2001:db8:77::1/64 dev ${bridge} nodad`);
    },
    code: "nat-missing",
    says: /no rule translates 2001:db8:77::2: it leaves up0 as it is/,
    suspicion: true,
  },
  // ── answers ──
  {
    name: "a balancer of uplinks marks connections, and its table lacks the pods",
    needs: ["iptables"],
    fault(world) {
      node(world, `ip route add default via ${PLAN.internet.routerIpv4} dev ${uplink} table 1`);
      node(world, "ip rule add fwmark 0x100/0x3f00 lookup 1 pref 2001");
      for (const rule of [
        "CONNMARK --restore-mark --nfmask 0x3f00 --ctmask 0x3f00",
        "MARK --set-xmark 0x100/0x3f00",
        "CONNMARK --save-mark --nfmask 0x3f00 --ctmask 0x3f00",
      ])
        node(world, `iptables -t mangle -A PREROUTING -j ${rule}`);
    },
    code: "rule-captures",
    says: /rule “2001: from all fwmark 0x100\/0x3f00 lookup 1” sends the answers to ns-blue out by up0/,
    fix: /ip route add 10\.0\.0\.1\/32 dev lan0 table 1/,
  },
  {
    name: "a rule by the uplink leads the answers into a tunnel",
    fault(world) {
      deadEnd(world, "wg7", "10.66.0.2/24");
      node(world, "ip route add default dev wg7 table 200");
      node(world, `ip rule add iif ${uplink} lookup 200 pref 150`);
    },
    code: "rule-captures",
    says: /rule “150: from all iif up0 lookup 200” sends the answers to ns-blue out by wg7/,
    heals: true,
  },
  // ── tracking ──
  {
    name: "a SYN proxy takes the pods' connections",
    needs: ["iptables"],
    // The same for what comes in from outside is none of the pods' business.
    healthy(world) {
      node(world, `iptables -t raw -A PREROUTING -i ${uplink} -p tcp --syn -j CT --notrack`);
      node(
        world,
        `iptables -A FORWARD -i ${uplink} -p tcp -m state --state UNTRACKED -j SYNPROXY --mss 1460`,
      );
    },
    fault(world) {
      node(world, `iptables -t raw -A PREROUTING -i ${bridge} -p tcp --syn -j CT --notrack`);
      node(
        world,
        `iptables -A FORWARD -i ${bridge} -p tcp -m state --state UNTRACKED -j SYNPROXY --mss 1460`,
      );
    },
    code: "filter-rule-drops",
    says: /SYNPROXY.*answers what ns-blue sends in the destination's name \(a SYN proxy\)/,
    evidence: /sysctl net\.netfilter\.nf_conntrack_tcp_loose: 1/,
    fix: /iptables -t raw -I PREROUTING -s 10\.0\.0\.1 -d 198\.51\.100\.80 -j ACCEPT/,
    heals: true,
  },
  {
    name: "the same, by nft",
    fault: (world) =>
      nft(
        world,
        `table ip sp {
          chain pre { type filter hook prerouting priority -300; iifname "${bridge}" tcp flags syn notrack; };
          chain fw { type filter hook forward priority 0; ct state invalid,untracked synproxy mss 1460 wscale 7; ct state invalid drop; };
        }`,
      ),
    code: "filter-rule-drops",
    says: /synproxy mss 1460 wscale 7” in ip sp fw answers what ns-blue sends/,
    heals: true,
  },
  {
    name: "questions and answers of one port are kept out of tracking",
    target: { address: PLAN.internet.dnsIpv4, protocol: "udp", port: 53 },
    fault: (world) =>
      nft(
        world,
        "table inet raw { chain pre { type filter hook prerouting priority raw; udp dport 53 notrack; udp sport 53 notrack; }; }",
      ),
    code: "flow-untracked",
    says: /“udp dport 53 notrack” in inet raw pre/,
    // Neither helps alone.
    fix: /ip saddr 10\.0\.0\.1 .* accept && .*ip saddr \S+ ip daddr 203\.0\.113\.5 accept/,
    heals: true,
  },
  // ── two causes ──
  {
    name: "a rule leads to a dead tunnel, and the bridge does not forward",
    fault(world) {
      deadEnd(world, "wg1", "10.66.0.2/24");
      node(world, "ip route add blackhole default table 300");
      node(world, `ip rule add from ${PLAN.podNetworkIpv4} lookup 300 pref 1000`);
      node(world, `sysctl -qw net.ipv4.conf.${bridge}.forwarding=0`);
    },
    code: "forwarding-off-on-interface",
    says: /the node forwards nothing that arrives on lan0/,
    heals: true,
  },
  // ── neighbours ──
  {
    name: "another pod took the gateway's address, and the pod believes it",
    fault(world) {
      ask(world.green, ["ip", "addr", "add", `${PLAN.node.gatewayIpv4}/24`, "dev", "net1"]);
      const mac = /link\/ether (\S+)/.exec(ask(world.green, ["ip", "link", "show", "net1"]))![1]!;
      pod(world, `ip neigh replace ${PLAN.node.gatewayIpv4} lladdr ${mac} dev net1 nud reachable`);
    },
    code: "duplicate-address",
    says: /ns-blue's gateway on lan0, is an address of ns-green as well, and ns-blue sends its packets there/,
    fix: /ip neigh del \S+ dev net1/,
  },
  {
    name: "the node may not ask for its router's address over IPv6",
    needs: ["ip6tables"],
    target: WEB6,
    fault(world) {
      node(world, "ip6tables -P OUTPUT DROP");
      node(world, "ip6tables -A OUTPUT -p tcp -j ACCEPT");
      node(world, `ip -6 neigh flush dev ${uplink}`);
    },
    code: "filter-policy-drops",
    says: /drops neighbour discovery/,
    // What else the policy keeps in stays in.
    fix: /ip6tables -I OUTPUT -p icmpv6 -j ACCEPT$/,
  },
  // ── Kubernetes ──
  {
    name: "a Service admits only some sources",
    needs: ["iptables"],
    fault: (world) =>
      kubeChain(
        world,
        "KUBE-PROXY-FIREWALL",
        `-d ${WEB.address} -p tcp --dport 80 -m comment --comment shop/web:not-accepted-by-KUBE-FW-A -j DROP`,
      ),
    code: "filter-rule-drops",
    says: /kube-proxy's rule .*KUBE-PROXY-FIREWALL drops/,
    advice: /loadBalancerSourceRanges/,
  },
  {
    name: "a mark set in one table is dropped in another",
    needs: ["iptables"],
    fault(world) {
      node(world, "iptables -t nat -N KUBE-MARK-DROP");
      node(world, "iptables -t nat -A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000");
      node(world, `iptables -t nat -A PREROUTING -d ${WEB.address} -j KUBE-MARK-DROP`);
      kubeChain(world, "KUBE-FIREWALL", "-m mark --mark 0x8000/0x8000 -j DROP");
    },
    code: "filter-rule-drops",
    says: /kubelet's rule .*--mark 0x8000\/0x8000 -j DROP/,
    evidence:
      /the mark is set by table ip nat chain KUBE-MARK-DROP handle \d+: .*MARK --set-xmark 0x8000\/0x8000/,
  },
  // ── whose ──
  {
    name: "a policy in a table that a product made for itself",
    fault: (world) =>
      nft(
        world,
        "table inet cloudflare-warp { chain forward { type filter hook forward priority 0; policy drop; }; }",
      ),
    code: "filter-policy-drops",
    says: /the policy of inet cloudflare-warp forward \(Cloudflare WARP\) drops what ns-blue sends/,
    heals: true,
  },
  {
    name: "a gateway of the other family that is not there",
    fault(world) {
      node(world, "ip route del default");
      node(world, `ip -4 route add default via inet6 fe80::dead dev ${uplink}`);
      node(world, `ip -6 neigh add fe80::dead dev ${uplink} nud failed`);
    },
    code: "uplink-gateway-unresolved",
    says: /the node's gateway fe80::dead does not answer on up0/,
  },
];

describe("a report", () => testSituations(SITUATIONS));

describe("two causes at once", () => {
  testWith(["root", "ip"])("each is named, and what each alone would not mend", () => {
    const world = healthyWorld();
    node(world, "ip route add blackhole default table 300");
    node(world, `ip rule add from ${PLAN.podNetworkIpv4} lookup 300 pref 1000`);
    node(world, `sysctl -qw net.ipv4.conf.${bridge}.forwarding=0`);
    const stopping = look(world, WEB).findings.filter(({ stopsTraffic }) => stopsTraffic);
    expect(stopping.map(({ code }) => code)).toEqual(["forwarding-off-on-interface", "rule-captures"]);
    expect(stopping[1]!.consequence).toContain("only what else is named here");
  });
});

describe("a proxy on the node", () => {
  const listen = (world: World, address: string, transparent: boolean): Disposable => {
    const program = `import socket,time
s=socket.socket();${transparent ? "s.setsockopt(0,19,1);" : ""}s.bind(("${address}",15006));s.listen(9);print("ready",flush=True);time.sleep(600)`;
    const child = world.node.run(() => Bun.spawn(["python3", "-c", program], { stdout: "pipe" }));
    return { [Symbol.dispose]: () => child.kill(9), ready: child.stdout.getReader().read() } as Disposable;
  };
  const ready = (one: Disposable): Promise<unknown> => (one as unknown as { ready: Promise<unknown> }).ready;
  const divert = (world: World): void => {
    node(world, "iptables -t mangle -A PREROUTING -i lan0 -p tcp -j TPROXY --on-port 15006 --tproxy-mark 1");
    node(world, "ip rule add fwmark 1 lookup 100");
    node(world, "ip route add local default dev lo table 100");
  };

  testWith(["root", "iptables", "python3"])("iptables' rule meets the frame too early", async () => {
    const world = healthyWorld();
    using proxy = listen(world, "0.0.0.0", true);
    await ready(proxy);
    divert(world);
    const hasFrames = run(world.node, ["sysctl", "-qw", `${FRAMES}=0`]).exitCode === 0;
    expect(look(world, WEB).findings).toEqual([]);
    // Without br_netfilter in this kernel there is no such fault.
    if (!hasFrames) return;
    node(world, `sysctl -qw ${FRAMES}=1`);
    const [found] = look(world, WEB).findings;
    expect([found?.code, found?.stopsTraffic]).toEqual(["ends-on-node", true]);
    expect(found!.text).toContain(`while the frame is still at the bridge lan0 (${FRAMES} is 1)`);
    expect(found!.fix[0]!.command).toEndWith(`sysctl -w ${FRAMES}=0`);
    // Others rely on it: then it is no advice to paste.
    node(world, "iptables -t nat -N KUBE-SERVICES");
    expect(look(world, WEB).findings[0]!.fix).toEqual([]);
  });

  testWith(["root", "iptables", "python3"])("its socket may not take what is for others", async () => {
    const world = healthyWorld();
    using proxy = listen(world, "0.0.0.0", false);
    await ready(proxy);
    divert(world);
    const [found] = look(world, WEB).findings;
    expect(found?.code).toBe("filter-rule-drops");
    expect(found!.text).toContain(
      "the program that listens at 0.0.0.0:15006 may not take what is for others",
    );
    expect(found!.advice!.join()).toContain("IP_TRANSPARENT");
  });

  testWith(["root", "iptables", "python3"])("it listens on the loopback only", async () => {
    const world = healthyWorld();
    using proxy = listen(world, "127.0.0.1", false);
    await ready(proxy);
    node(world, "iptables -t nat -A PREROUTING -i lan0 -p tcp --dport 80 -j REDIRECT --to-ports 15006");
    const [found] = look(world, WEB).findings;
    expect(found?.code).toBe("ends-on-node");
    expect(found!.text).toMatch(
      /the rule “.*REDIRECT.*no program listens at \S+:15006 there, only at 127\.0\.0\.1:15006/,
    );
  });
});

/** As virtual machines and flat networks have it: the pod is on the uplink's own bridge, and its gateway the router. */
function onUplinksBridge(world: World): void {
  bridgedUplink(world);
  node(world, `ip link set ${blue.veth} master br-ex`);
  pod(world, `ip addr flush dev ${PLAN.podInterface}`);
  pod(world, `ip addr add 203.0.113.88/24 dev ${PLAN.podInterface}`);
  pod(world, `ip route add default via ${PLAN.internet.routerIpv4}`);
}

testWith(["root", "ip", "nft", "bridge"])("a pod on the uplink's own bridge, and the port there", () => {
  const world = healthyWorld();
  onUplinksBridge(world);
  const findings = (): readonly Finding[] => {
    const snapshot = takeSnapshot({
      node: world.node,
      // The router is behind another port of the bridge, in a namespace of this machine.
      pods: [findPod(blue.namespace), findPod(PLAN.internet.namespace)],
      destinations: [WEB.address],
      deferred: true,
    });
    return diagnose(snapshot, snapshot.pods[0]!, WEB).findings;
  };
  const router = /link\/ether (\S+)/.exec(
    ask(world.internet, ["ip", "link", "show", PLAN.internet.link]),
  )![1]!;
  pod(
    world,
    `ip neigh replace ${PLAN.internet.routerIpv4} lladdr ${router} dev ${PLAN.podInterface} nud reachable`,
  );
  const rows = [
    [
      `bridge link set dev ${uplink} state 0`,
      "bridge-port-blocked",
      /^port up0 of br-ex is disabled, not forwarding$/,
    ],
    [
      `bridge link set dev ${uplink} locked on learning off`,
      "bridge-port-locked",
      /^port up0 of br-ex, by which 203\.0\.113\.1 is reached, is locked, and its MAC address \S+ is not authorized there$/,
    ],
    [
      `bridge link set dev ${blue.veth} learning off flood off bcast_flood off`,
      "bridge-port-deaf",
      /^br-ex gives frames for ns-blue \(\S+\) to no port/,
    ],
  ] as const;
  for (const [fault, code, says] of rows) {
    expect(findings()).toEqual([]);
    node(world, fault);
    if (code !== "bridge-port-blocked")
      run(world.node, ["ip", "link", "set", "br-ex", "type", "bridge", "fdb_flush"]);
    const [found, ...others] = findings();
    expect([found?.code, others]).toEqual([code, []]);
    expect(found!.text).toMatch(says);
    const { command } = found!.fix[0]!;
    expect([command, run(undefined, ["sh", "-c", command]).exitCode]).toEqual([command, 0]);
    expect(findings()).toEqual([]);
  }
  // By the node as well: the router does not send back what comes from there, and is no dead end.
  pod(world, `ip route replace default via ${PLAN.node.uplinkIpv4}`);
  expect(findings()).toEqual([]);
});

testWith(["root", "nft"])("a UDP flow goes on to a backend that is gone", async () => {
  const world = healthyWorld();
  await using _ = await serveInternet(world);
  const target: Target = { address: "10.96.0.10", protocol: "udp", port: 53 };
  const sendTo = (backend: string): void =>
    nft(
      world,
      `add table ip kp; delete table ip kp; table ip kp { chain pre { type nat hook prerouting priority -100; ip daddr 10.96.0.10 udp dport 53 dnat to ${backend}; }; }`,
    );
  const ask53 = (): void => {
    const program = `import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(("",40501));s.sendto(b"x",("10.96.0.10",53))`;
    ask(world.blue, ["python3", "-c", program]);
  };
  node(world, `ip neigh add 203.0.113.99 lladdr 02:00:00:00:00:01 dev ${uplink}`);
  sendTo("203.0.113.99:53");
  ask53();
  // While the rule is as it was the flow is as a new one would be.
  expect(look(world, target).findings).toEqual([]);
  sendTo(`${PLAN.internet.dnsIpv4}:53`);
  const [found] = look(world, target).findings;
  expect([found?.code, found?.stopsTraffic]).toEqual(["flow-outdated", true]);
  expect(found!.text).toContain("still leads to 203.0.113.99:53, which does not answer");
  // Asked about something else it is worth a word.
  const [beside] = look(world, WEB).findings;
  expect([beside?.code, beside?.stopsTraffic]).toEqual(["flow-outdated", false]);
  expect(askFrom(world)).toBe(true);
});

describe("the pod's name server", () => {
  const asked = (world: World, text: string) => {
    const snapshot = snapshotOf(world);
    const judged = { ...snapshot.pods[0]!, resolvConf: parseResolvConf(text), dnsListeners: [] };
    return diagnose({ ...snapshot, pods: [judged] }, judged, WEB).findings;
  };
  const CLUSTER =
    "search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";

  testWith(["root", "nft"])("is a Service's address, and nobody on the node knows it", () => {
    const world = healthyWorld();
    const [found] = asked(world, CLUSTER);
    expect([found?.code, found?.stopsTraffic]).toEqual(["resolver-unreachable", true]);
    expect(found!.text).toContain("a Service's address of its cluster (search svc.cluster.local)");
    // A resolver of an office, behind the default route, is as good as any.
    expect(asked(world, CLUSTER.replace(/search.*\n/, "search office.example\n"))).toEqual([]);
    nft(
      world,
      `table ip kp { chain pre { type nat hook prerouting priority -100; ip daddr 10.96.0.10 udp dport 53 dnat to ${PLAN.internet.dnsIpv4}; }; }`,
    );
    expect(asked(world, CLUSTER)).toEqual([]);
  });

  testWith(["root", "nft"])("is Docker's own, which does not run", () => {
    const [found] = asked(healthyWorld(), "nameserver 127.0.0.11\n");
    expect([found?.code, found?.owner]).toEqual([
      "resolver-loopback",
      "Docker, whose own name server has this address inside containers",
    ]);
    expect(found!.advice!.join()).not.toContain("kubelet");
  });

  testWith(["root", "iptables"])("is the node, whose INPUT has a policy: the rest of it stays", () => {
    const world = healthyWorld();
    node(world, "iptables -P INPUT DROP");
    const [found] = asked(world, `nameserver ${PLAN.node.gatewayIpv4}\n`);
    expect(found?.code).toBe("resolver-unreachable");
    expect(found!.fix[0]!.command).toMatch(/iptables -I INPUT -s 10\.0\.0\.1 -d \S+ -j ACCEPT$/);
  });
});

testWith(["root", "ip"])("a route's own limit of sizes is told as the route's", () => {
  const world = healthyWorld();
  node(world, `ip route replace default via ${PLAN.internet.routerIpv4} mtu lock 1280`);
  const found = look(world, WEB).findings.find(({ code }) => code === "mtu-too-large");
  expect(found!.text).toContain("the node's route by up0 takes 1280");
  expect(found!.evidence.map(({ value }) => value).join("\n")).toContain(
    "default via 203.0.113.1 dev up0 mtu 1280",
  );
});

test("a printed route says what the command needs", () => {
  const link = { index: 3, name: "eth0" } as never;
  const route = {
    family: 4,
    type: "unicast",
    destination: "0.0.0.0/0",
    table: 254,
    interface: 3,
    gateway: "fe80::1",
    flags: ["onlink"],
    metrics: { mtu: 1400 },
  } as never;
  expect(routeText(route, [link])).toBe("default via inet6 fe80::1 dev eth0 onlink mtu 1400");
});

describe("whose a rule is", () => {
  const cases: readonly [product: string, traits: { table?: string; chain?: string; comment?: string }][] = [
    ["NordVPN", { chain: "FORWARD", comment: "nordvpn" }],
    ["Proxmox VE", { chain: "PVEFW-FWBR-OUT" }],
    ["VyOS", { table: "vyos_filter", chain: "NAME_LAN-WAN" }],
    ["CSF (ConfigServer)", { chain: "DENYOUT" }],
    ["Nomad", { chain: "NOMAD-ADMIN" }],
    ["Oracle Cloud's image", { chain: "InstanceServices" }],
    ["OVN-Kubernetes", { chain: "OVN-KUBE-EGRESS-IP-MULTI-NIC" }],
    ["Kube-OVN", { chain: "OVN-POSTROUTING" }],
    ["sshuttle", { chain: "sshuttle-12300" }],
    ["UniFi", { chain: "UBIOS_FORWARD_USER" }],
    ["Windscribe", { chain: "windscribe_output" }],
  ];
  for (const [product, { table = "filter", chain = "FORWARD", comment }] of cases) {
    test(product, () => {
      const traits = { family: "ip", table, chain, text: "", ...(comment === undefined ? {} : { comment }) };
      expect(productOf(traits)?.product).toBe(product);
    });
  }

  test("nobody's: chains that people name like that", () => {
    for (const chain of ["FORWARD", "DENY", "INPUT", "net", "OUTPUT", "LOCAL"])
      expect(productOf({ family: "ip", table: "filter", chain, text: "-j DROP" })).toBeUndefined();
  });
});
