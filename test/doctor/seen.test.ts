/** Where the tables find nothing and the packet stops all the same: the finding says what was seen. Healthy neighbours. */
import { afterEach, expect } from "bun:test";
import { join } from "node:path";
import type { Diagnosis } from "../../src/doctor/diagnose.ts";
import { InetSocket } from "../../src/kernel/inet-socket.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { attachProgram } from "../support/bpf.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { makeWorld, type PodWorld } from "../trace/world.ts";

const MAIN = join(import.meta.dir, "..", "..", "src", "main.ts");

let world: PodWorld | undefined;

afterEach(async () => {
  await world?.[Symbol.asyncDispose]();
  world = undefined;
});

function doctor(at: PodWorld, to: string, ...options: string[]): { exitCode: number; diagnosis: Diagnosis } {
  const command = [process.execPath, MAIN, "doctor", at.pod.name!, "--to", to, "--json", ...options];
  const { exitCode, stdout } = run(undefined, command);
  return { exitCode, diagnosis: JSON.parse(stdout) as Diagnosis };
}

/** Cannot reach it, for this cause; the texts of the finding. */
function stops(at: PodWorld, code: string, to = "198.51.100.80:443", ...options: string[]): string {
  const { exitCode, diagnosis } = doctor(at, to, ...options);
  const [first] = diagnosis.findings;
  expect([exitCode, diagnosis.healthy, first?.code]).toEqual([1, false, code as never]);
  const text = JSON.stringify(first);
  expect(text).not.toContain("wayout trace");
  expect(diagnosis.answer).toContain(first!.text);
  return text;
}

function passes(at: PodWorld, to = "198.51.100.80:443", ...options: string[]): Diagnosis {
  const { exitCode, diagnosis } = doctor(at, to, ...options);
  expect([exitCode, diagnosis.findings.filter((one) => one.stopsTraffic)]).toEqual([0, []]);
  return diagnosis;
}

function wall(at: PodWorld, rule: string, hook = "input"): void {
  ask(
    at.internet,
    ["nft", "-f", "-"],
    `table inet wall { chain one { type filter hook ${hook} priority filter; ${rule}; }; }`,
  );
}

testWith(["root", "nft"])("the pod's local ports are used up toward one destination", async () => {
  world = await makeWorld();
  world.in("pod", "sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40003");
  const open: InetSocket[] = [];
  try {
    for (let count = 0; count < 4; count++) {
      const socket = InetSocket.open(world.pod, "tcp", 4);
      open.push(socket);
      socket.connect({ address: "198.51.100.80", port: 443 });
    }
    const text = stops(world, "pod-ports-exhausted");
    expect(text).toContain("has 4 ports, and 4 of them are in use");
    expect(text).toContain("net.ipv4.ip_local_port_range = 40000 40003");
    // To another port each of them may be used once more.
    passes(world, "198.51.100.80:80");
  } finally {
    for (const socket of open) socket.close();
  }
});

testWith(["root", "nft"])("the pod's local UDP ports are used up", async () => {
  world = await makeWorld();
  world.in("pod", "sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40001");
  using _one = bound(world);
  passes(world, "198.51.100.80:9999", "--proto", "udp");
  using _other = bound(world);
  expect(stops(world, "pod-ports-exhausted", "198.51.100.80:9999", "--proto", "udp")).toContain(
    "2 local ports of that range in use",
  );
});

testWith(["root", "nft"])("all of the pod's local ports are withheld", async () => {
  world = await makeWorld();
  world.in("pod", "sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40009");
  world.in("pod", "sysctl", "-qw", "net.ipv4.ip_local_reserved_ports=8080,40000-40003");
  passes(world);
  world.in("pod", "sysctl", "-qw", "net.ipv4.ip_local_reserved_ports=8080,39000-41000");
  expect(stops(world, "pod-ports-exhausted")).toContain(
    "has 10 ports, net.ipv4.ip_local_reserved_ports withholds 10 of them",
  );
});

function bound({ pod }: PodWorld): InetSocket {
  const socket = InetSocket.open(pod, "udp", 4);
  socket.bindAnyPort();
  return socket;
}

testWith(["root", "nft"])("a firewall outside refuses: it is told who", async () => {
  world = await makeWorld();
  wall(world, "tcp dport 443 reject with icmp admin-prohibited");
  const text = stops(world, "refused-outside");
  expect(text).toContain("198.51.100.80, the destination itself, refuses it");
  expect(text).toContain("communication administratively prohibited (ICMP type 3 code 13)");
  // A host without a listener answers, and the way is open.
  expect(passes(world, "198.51.100.80:9998", "--proto", "udp").answer).toContain("connection refused");
});

testWith(["root", "nft"])("a router on the way refuses, even as a host would", async () => {
  world = await makeWorld();
  world.in("internet", "ip", "route", "add", "192.0.2.0/24", "dev", "lo");
  world.in("internet", "ip", "route", "add", "unreachable", "192.0.2.7");
  world.in("internet", "sysctl", "-qw", "net.ipv4.ip_forward=1");
  expect(stops(world, "refused-outside", "192.0.2.7:443")).toContain(
    "203.0.113.1 on the way refuses it: host unreachable",
  );
});

testWith(["root", "nft"])("two routers send the packet to each other", async () => {
  world = await makeWorld({ nat: false });
  world.in("internet", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.up0.send_redirects=0");
  world.in("internet", "ip", "route", "add", "10.0.0.0/8", "via", "203.0.113.2");
  expect(stops(world, "ttl-exceeded", "10.99.0.9:443")).toContain(
    "203.0.113.1 on the way refuses it: time to live exceeded in transit",
  );
});

testWith(["root", "nft"])("the router asks for the pod's own address on the uplink's network", async () => {
  world = await makeWorld({ nat: false });
  // A pod with an address out of the uplink's network, as a routed public one.
  world.in("pod", "ip", "addr", "flush", "dev", "net1");
  world.in("pod", "ip", "addr", "add", "203.0.113.130/25", "dev", "net1");
  world.in("node", "ip", "addr", "add", "203.0.113.129/25", "dev", "lan0");
  world.in("pod", "ip", "route", "add", "default", "via", "203.0.113.129");
  const text = stops(world, "source-unanswered");
  expect(text).toContain(
    "its neighbours ask for that address (ARP), and this node does not answer (proxy_arp)",
  );
  expect(text).toContain("sysctl -w net.ipv4.conf.ens4.proxy_arp=1");
  world.in("node", "sysctl", "-qw", "net.ipv4.conf.ens4.proxy_arp=1");
  world.in("internet", "ip", "neigh", "flush", "dev", "up0");
  passes(world);
});

testWith(["real-root", "nft", "tc"])("a bandwidth limit with a burst smaller than a packet", async () => {
  world = await makeWorld();
  const limit = (burst: string): string =>
    world!.in(
      "node",
      "tc",
      "qdisc",
      "replace",
      "dev",
      "ens4",
      "root",
      "tbf",
      "rate",
      "8mbit",
      "burst",
      burst,
      "latency",
      "25ms",
    );
  limit("64kb");
  passes(world);
  limit("40");
  const text = stops(world, "qdisc-drops");
  expect(text).toContain("at ens4 on the node: its queueing discipline tbf dropped it");
  expect(text).toContain("tc -s qdisc show dev ens4");
});

testWith(["root", "nft"])("a transparent proxy with a listener: redirected, and said so", async () => {
  world = await makeWorld();
  world.nft(
    "table ip proxy { chain pre { type nat hook prerouting priority dstnat; tcp dport 443 redirect to :20559; }; }",
  );
  const server = world.node.run(() =>
    Bun.listen({ hostname: "0.0.0.0", port: 20_559, socket: { data() {} } }),
  );
  try {
    expect(passes(world).answer).toMatch(
      /gets an answer for 198\.51\.100\.80:443: it is redirected to 10\.20\.0\.1:20559 by “.*redirect to :20559.*” in ip proxy pre/,
    );
  } finally {
    server.stop(true);
  }
});

const ONE_WAY = [
  {
    way: "out",
    rule: 'iifname "lan0" meta length > 1400 drop',
    says: "are lost on the node before ens4",
    seen: "left: none",
  },
  {
    way: "back",
    rule: 'iifname "ens4" meta length > 1400 drop',
    says: "are lost on the node behind ens4, on the answer's way",
    seen: "their answers came back: 1420, 1440, 1460, 1480, 1492, 1500",
  },
];

for (const { way, rule, says, seen } of ONE_WAY) {
  testWith(["root", "nft"])(`large packets die one way: ${way}`, async () => {
    world = await makeWorld();
    world.nft(`table inet narrow { chain fw { type filter hook forward priority 0; ${rule}; }; }`);
    const text = stops(world, "mtu-black-hole", "198.51.100.80:443");
    expect(text).toContain(says);
    expect(text).toContain(seen);
  });
}

testWith(["root", "nft"])(
  "a way out that is too narrow for IPv6: the fix leaves the pod its IPv6",
  async () => {
    world = await makeWorld();
    world.in("node", "ip", "link", "set", "ens4", "mtu", "1220");
    world.in("internet", "ip", "link", "set", "up0", "mtu", "1220");
    const { diagnosis } = doctor(world, "198.51.100.80:9999", "--proto", "udp");
    const [found] = diagnosis.findings;
    expect([found?.code, found?.fix.map(({ command }): string => command)]).toEqual([
      "mtu-too-large",
      [`ip netns exec ${world.pod.name} ip route change default via 10.20.0.1 dev net1 mtu 1220`],
    ]);
    ask(world.node, ["sh", "-c", found!.fix[0]!.command]);
    expect(world.in("pod", "ip", "-6", "addr", "show", "dev", "net1")).toContain("fd20::2/64");
    expect(passes(world, "198.51.100.80:9999", "--proto", "udp").findings).toEqual([]);
  },
);

testWith(["root", "nft"])("a way out that IPv6 can live with: the pod's link takes its size", async () => {
  world = await makeWorld();
  world.in("node", "ip", "link", "set", "ens4", "mtu", "1300");
  world.in("internet", "ip", "link", "set", "up0", "mtu", "1300");
  const { diagnosis } = doctor(world, "198.51.100.80:443");
  expect<string | undefined>(diagnosis.findings[0]?.fix[0]?.command).toBe(
    `ip netns exec ${world.pod.name} ip link set dev net1 mtu 1300`,
  );
});

testWith(["root", "nft"])("silence over UDP proves nothing, but a nameserver's does", async () => {
  world = await makeWorld();
  wall(world, "meta l4proto udp drop");
  const { answer, findings } = passes(world, "198.51.100.80:9999", "--proto", "udp");
  expect(answer).toContain("was not answered, which over UDP proves nothing");
  expect(findings.map((one) => [one.code, one.severity])).toEqual([["no-answer", "warning"]]);
  stops(world, "no-answer", "198.51.100.80:53", "--proto", "udp");
});

testWith(["root", "nft"])("the socket's own error is a finding", async () => {
  world = await makeWorld();
  const text = stops(world, "pod-cannot-send", "255.255.255.255:80", "--proto", "udp");
  expect(text).toContain("permission denied (EACCES)");
  expect(text).toContain("it is a broadcast address");
});

testWith(["root", "nft"])("a router without a way on: not a filter", async () => {
  world = await makeWorld();
  world.in("internet", "sysctl", "-qw", "net.ipv4.ip_forward=1");
  const text = stops(world, "refused-outside", "192.0.2.9:443");
  expect(text).toContain("203.0.113.1 has no route to the destination");
  expect(text).not.toContain("forbids");
});

testWith(["root", "nft"])(
  "a gateway's fixed MAC address, a foreign source, a rule: before the outside is blamed",
  async () => {
    world = await makeWorld();
    world.in(
      "node",
      "ip",
      "neigh",
      "replace",
      "203.0.113.1",
      "lladdr",
      "02:00:00:00:00:99",
      "dev",
      "ens4",
      "nud",
      "permanent",
    );
    expect(stops(world, "uplink-gateway-pinned")).toContain("02:00:00:00:00:99 (PERMANENT)");
    world.in("node", "ip", "neigh", "del", "203.0.113.1", "dev", "ens4");
    passes(world);
  },
);

testWith(["root", "iptables"])("a rule sends the packet to somebody who is not there", async () => {
  world = await makeWorld();
  const rule = (to: string): void => {
    for (const line of [
      "-F PREROUTING",
      `-A PREROUTING -d 198.51.100.80 -p tcp --dport 3128 -j DNAT --to-destination ${to}`,
    ])
      world!.in("node", "iptables", "-t", "nat", ...line.split(" "));
  };
  rule("198.51.100.80:443");
  passes(world, "198.51.100.80:3128");
  rule("203.0.113.55:3128");
  const text = stops(world, "uplink-gateway-unresolved", "198.51.100.80:3128");
  expect(text).toContain("sends it to 203.0.113.55:3128, and ");
  expect(text).toMatch(/sent to 203\.0\.113\.55:3128 by table ip nat chain PREROUTING/);
  expect(text).not.toContain("right gateway");
});

testWith(["root", "iptables"])("a rule that looks at what a request carries", async () => {
  world = await makeWorld();
  const rule = (text: string): void => {
    world!.in("node", "iptables", "-F", "FORWARD");
    world!.in("node", ..."iptables -A FORWARD -p tcp -m string --algo bm -j DROP --string".split(" "), text);
  };
  rule("torrent");
  expect(passes(world, "198.51.100.80:80").findings.map((one) => one.code)).toEqual(["filter-by-content"]);
  rule("Host: 198.51");
  const { exitCode, diagnosis } = doctor(world, "198.51.100.80:80");
  const [found] = diagnosis.findings;
  expect([exitCode, found?.code, found?.stopsTraffic]).toEqual([1, "filter-by-content", true]);
  expect(diagnosis.answer).toContain("a request over one is lost");
});

testWith(["root", "ip"])("the pod keeps silent when the node asks for its address", async () => {
  world = await makeWorld();
  passes(world);
  world.in("pod", "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=8");
  world.in("node", "ip", "neigh", "flush", "dev", "lan0");
  const text = stops(world, "pod-neighbour-unresolved");
  expect(text).toContain("arp_ignore is 8 in the pod");
  expect(text).toContain("sysctl -w net.ipv4.conf.all.arp_ignore=0");
});

testWith(["root", "ip"])("the bridge gives the pod's frames to another port", async () => {
  world = await makeWorld();
  world.in("node", ..."ip link add other type veth peer name other-end".split(" "));
  world.in("node", ..."ip link set other master lan0 up".split(" "));
  passes(world);
  const mac = /link\/ether (\S+)/.exec(world.in("pod", "ip", "link", "show", "net1"))![1]!;
  world.in("node", ...`bridge fdb replace ${mac} dev other master static sticky`.split(" "));
  expect(stops(world, "bridge-port-deaf")).toContain("to port other, and the pod is behind veth-pod");
});

testWith(["real-root"])("a program that sees the answers first is named with the silence", async () => {
  world = await makeWorld();
  using route = Rtnetlink.open(world.node);
  using _ = attachProgram(world.node, route.link("ens4")!.index, "xdp", "ddos_filter");
  passes(world);
  wall(world, "tcp dport 443 drop");
  const text = stops(world, "no-answer");
  expect(text).toContain("program ddos_filter at xdp of ens4 sees the packets, and may drop them");
});

testWith(["root", "ip", "nft"])("what the node gives to a bridge has not left it yet", async () => {
  world = await makeWorld();
  for (const line of [
    "ip link add br-ex type bridge",
    "ip addr flush dev ens4",
    "ip link set ens4 master br-ex",
    "ip link set br-ex up",
    "ip addr add 203.0.113.2/24 dev br-ex",
    "ip route add default via 203.0.113.1",
  ])
    world.in("node", ...line.split(" "));
  world.nft("flush chain inet nat postrouting; add rule inet nat postrouting oifname br-ex masquerade");
  passes(world);
  // The bridge's own chains are followed; a frame that is gone without any rule is not called sent either.
  world.in("node", ..."bridge link set dev ens4 state 1".split(" "));
  const report = world.trace();
  expect(report.stop?.step).toBe(6);
  expect(report.stop!.reason).toContain("br-ex");
  expect(report.steps.find(({ number }) => number === 6)).toMatchObject({ status: "stopped" });
  stops(world, "bridge-port-blocked");
});

// Only where the kernel tells why it drops is it certain that the filter took this packet: then the fix is printed.
testWith(["real-root", "ip"])(
  "the answer comes by another link, whose filter of the reverse path is strict",
  async () => {
    world = await makeWorld();
    for (const line of [
      `ip link add eth1 type veth peer name up1 netns ${world.internet.name}`,
      "ip addr add 192.0.2.2/24 dev eth1",
      "ip link set eth1 up",
    ])
      world.in("node", ...line.split(" "));
    for (const line of [
      "ip addr add 192.0.2.1/24 dev up1",
      "ip link set up1 up",
      "sysctl -qw net.ipv4.conf.all.arp_announce=2 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.up0.rp_filter=0",
      "ip route add default via 192.0.2.2 dev up1 table 50",
      "ip rule add from 198.51.100.80 lookup 50",
    ])
      world.in("internet", ...line.split(" "));
    world.in("node", "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0");
    passes(world);
    world.in("node", "sysctl", "-qw", "net.ipv4.conf.eth1.rp_filter=1");
    const text = stops(world, "reverse-path-filter");
    expect(text).toContain("net.ipv4.conf.eth1.rp_filter = 1");
    expect(text).toContain("sysctl -w net.ipv4.conf.eth1.rp_filter=2");
  },
);

testWith(["root", "ip"])("a router that names a better way has not refused anything", async () => {
  world = await makeWorld();
  passes(world);
  // It sends on, by the very link that the packet came by, and says so (ICMP redirect); nobody is there.
  for (const line of [
    "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=1",
    "ip addr del 198.51.100.80/32 dev lo",
    "ip route add 198.51.100.80 via 203.0.113.200",
    "ip neigh add 203.0.113.200 lladdr 02:00:00:00:00:99 dev up0",
  ])
    world.in("internet", ...line.split(" "));
  const text = stops(world, "no-answer");
  expect(text).not.toContain("refuses");
});

testWith(["root", "ip"])("a neighbour on the bridge that does not answer was not routed to", async () => {
  world = await makeWorld();
  for (const line of [
    "ip link add silent type veth peer name silent-end",
    "ip link set silent master lan0 up",
  ])
    world.in("node", ...line.split(" "));
  world.in("node", "ip", "link", "set", "silent-end", "up");
  world.in("pod", "ip", "neigh", "add", "10.20.0.77", "lladdr", "02:00:00:00:00:77", "dev", "net1");
  const report = world.trace({ destination: "10.20.0.77:80" });
  const [two, three] = [2, 3].map((number) => report.steps.find((one) => one.number === number)!);
  // Unknown to the bridge, it is flooded: seen at the veth and the other port, never at the bridge itself.
  expect(two!.text).toContain("switched within lan0");
  expect(three!.text).toContain("nothing was routed");
});
