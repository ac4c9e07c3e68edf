/** The short way of packets whose flow is known: what takes it, what does not, and that nobody is left out by it. */
import { expect } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { programName, tcxPrograms } from "../../src/kernel/bpf/programs.ts";
import { ebpfCounts } from "../../src/nat/backends/ebpf/flows.ts";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import { FastPath } from "../../src/nat/backends/ebpf/fast-path.ts";
import { lookAtFastPath } from "../../src/nat/backends/ebpf/fast-path-look.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { WAYOUT } from "../attachment/world.ts";
import { RunningAgent } from "../agent/running-agent.ts";
import { buildNodeWorld, type NodeWorld } from "../support/node-world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { until } from "../support/until.ts";

const test = testWith(["root", "real-root", "ip", "nft", "tc", "bridge"]);
const SERVER = { v4: "198.51.100.80", v6: "2001:db8:198::80" } as const;
const PORT = 8090;

/** A pod at a bridge; whoever asks the outside is told as whom he is seen, once for each line. */
function world() {
  const { node, outside, pods } = buildNodeWorld({
    uplink: {
      name: "wan0",
      outsideName: "internet0",
      addresses: ["203.0.113.5/24", "2001:db8:113::5/64"],
      outsideAddresses: ["203.0.113.1/24", "2001:db8:113::1/64"],
      gateways: ["203.0.113.1", "2001:db8:113::1"],
      knownNeighbours: true,
    },
    servers: [`${SERVER.v4}/32`, `${SERVER.v6}/128`],
    pods: [
      {
        interface: "net1",
        hostInterface: "lan0",
        wiring: { bridge: "br0" },
        addresses: ["10.9.0.2/24", "fd00:9::2/64"],
        gateways: ["10.9.0.1/24", "fd00:9::1/64"],
      },
    ],
    forwards: true,
  }) as NodeWorld & { readonly pods: readonly [NetworkNamespace] };
  // On by itself where the kernel has br_netfilter.
  for (const what of ["iptables", "ip6tables"]) writeSysctl(node, `net.bridge.bridge-nf-call-${what}`, "0");
  for (const hostname of ["0.0.0.0", "::"]) {
    const server = outside.run(() =>
      Bun.listen({
        hostname,
        port: PORT,
        ...(hostname === "::" ? { ipv6Only: true } : {}),
        socket: {
          data: (socket, data) => void socket.write(`${socket.remoteAddress} ${data.toString()}`),
        },
      }),
    );
    afterThisTest(() => server.stop(true));
  }
  const nat = new EbpfNat({ namespace: node });
  afterThisTest(() => {
    nat.remove();
    nat[Symbol.dispose]();
  });
  nat.apply(
    masqueradeIntent("cni/blue", ["10.9.0.0/24", "fd00:9::/64"], { translation: { fullyRandom: false } }),
  );
  return { node, outside, pod: pods[0], intents: nat.intents() };
}

/** A connection that lasts: each line is answered. */
class Talk {
  #heard = "";
  #socket: Bun.Socket | undefined;
  closed = false;

  static async of(pod: NetworkNamespace, server: string): Promise<Talk> {
    const talk = new Talk();
    const socket = await pod.run(() =>
      Bun.connect({
        hostname: server,
        port: PORT,
        socket: {
          data: (_, data) => void (talk.#heard += data.toString()),
          close: () => void (talk.closed = true),
        },
      }),
    );
    talk.#socket = socket;
    afterThisTest(() => socket.end());
    return talk;
  }

  async say(line: string): Promise<string> {
    this.#heard = "";
    this.#socket!.write(`${line}\n`);
    await until(() => this.#heard.endsWith("\n") || this.closed, "an answer");
    return this.#heard;
  }
}

/**
 * Counts what arrives over a link of the node otherwise than routing sends it: with its MAC address, and one hop less than a
 * sender begins with.
 */
function oddPackets(
  namespace: NetworkNamespace,
  link: string,
  node: NetworkNamespace,
): () => { passed: boolean; odd: number } {
  const [, mac] = /link\/ether (\S+)/.exec(ask(node, ["ip", "link", "show", "dev", link]))!;
  ask(
    namespace,
    ["nft", "-f", "-"],
    `table inet seen { chain i { type filter hook prerouting priority -300;
       meta l4proto != tcp return
       iifname lo return
       counter comment "passed"
       ether saddr != ${mac} counter comment "odd"
       ip ttl != 63 counter comment "odd"
       ip6 hoplimit != 63 counter comment "odd"; }; }`,
  );
  return () => {
    const text = ask(namespace, ["nft", "list", "table", "inet", "seen"]);
    const counts = (what: string): number[] =>
      [...text.matchAll(new RegExp(`counter packets (\\d+) bytes \\d+ comment "${what}"`, "g"))].map(
        ([, count]) => Number(count),
      );
    expect(counts("odd")).toHaveLength(3);
    return { passed: counts("passed")[0]! > 0, odd: counts("odd").reduce((sum, one) => sum + one, 0) };
  };
}

function programNames(node: NetworkNamespace): (string | undefined)[] {
  const links = ask(node, ["ip", "-o", "link"]).matchAll(/^(\d+):/gm);
  return tcxPrograms(
    node,
    [...links].map(([, index]) => Number(index)),
  ).map(({ id }) => programName(id));
}

function counted(node: NetworkNamespace) {
  const counts = ebpfCounts(node)!;
  return { out: counts.get("left by the fast path")!, in: counts.get("arrived by the fast path")! };
}

function grant(fast: FastPath, uplinks: readonly { readonly index: number }[]): void {
  fast.lease.grant(
    fast.lease.turn,
    uplinks.map(({ index }) => index),
  );
}

function opened(node: NetworkNamespace): FastPath {
  const fast = FastPath.open(node)!;
  afterThisTest(() => fast[Symbol.dispose]());
  return fast;
}

test("flows go on by the short way, and by the long one when the lease is over", async () => {
  const { node, outside, pod, intents } = world();
  const fast = opened(node);
  const seen = { [SERVER.v4]: "203.0.113.5", [SERVER.v6]: "2001:db8:113::5" } as const;
  const servers = [SERVER.v4, SERVER.v6] as const;
  const talks = new Map(
    await Promise.all(servers.map(async (one) => [one, await Talk.of(pod, one)] as const)),
  );
  const all = async (line: string): Promise<void> => {
    for (const [server, talk] of talks) expect(await talk.say(line)).toBe(`${seen[server]} ${line}\n`);
  };
  await all("one");
  const odd = [oddPackets(outside, "wan0", node), oddPackets(pod, "br0", node)];
  const look = lookAtFastPath(node, intents);
  expect(look.obstacles).toEqual([]);
  expect(look.veths.length).toBeGreaterThan(0);
  fast.attach(look);
  // A second is short on a busy machine, and only a lease in force is worth a question.
  const renew = setInterval(() => grant(fast, look.uplinks), 100);
  grant(fast, look.uplinks);
  const before = counted(node);
  await all("two");
  const after = counted(node);
  clearInterval(renew);
  expect(after.out).toBeGreaterThanOrEqual(before.out + 2n);
  expect(after.in).toBeGreaterThanOrEqual(before.in + 2n);
  // The programs have a coarser clock: a moment later it is over for them, too.
  await until(() => fast.lease.state === "absent", "the lease to run out");
  const over = counted(node);
  await all("three");
  expect(counted(node)).toEqual(over);
  for (const count of odd) expect(count()).toEqual({ passed: true, odd: 0 });
});

/** As an agent of the node keeps it. */
async function kept(node: NetworkNamespace): Promise<RunningAgent> {
  const agent = await RunningAgent.on(node, "--config", policyFile());
  await agent.says("fast-path-on");
  return agent;
}

function policyFile(): string {
  const directory = mkdtempSync("/tmp/wayout-fast-path-");
  afterThisTest(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "policy.yaml");
  writeFileSync(
    path,
    "sources: [10.9.0.0/24, 'fd00:9::/64']\nbackend: ebpf\nrandomFully: false\nfastPath: auto\n",
  );
  return path;
}

/** Lines that are answered until this many have gone by the short way both ways. */
async function goesFast(node: NetworkNamespace, talk: Talk): Promise<void> {
  const before = counted(node);
  await until(async () => {
    await talk.say("again");
    const now = counted(node);
    return now.out > before.out && now.in > before.in;
  }, "the short way");
}

const OBSTACLES: Readonly<Record<string, readonly [put: string, take: string]>> = {
  "the chain": [
    "nft add table inet other; nft add chain inet other c '{ type filter hook forward priority 0; }'",
    "nft delete table inet other",
  ],
  "table bridge other": [
    "nft add table bridge other; nft add chain bridge other c '{ type filter hook input priority 0; }'",
    "nft delete table bridge other",
  ],
  "there is a rule of policy routing": [
    "ip rule add priority 77 fwmark 4 table 4",
    "ip rule del priority 77",
  ],
  "several next hops": [
    "ip route add 192.0.2.0/24 nexthop via 203.0.113.1 nexthop via 203.0.113.9",
    "ip route del 192.0.2.0/24",
  ],
  "queueing discipline": [
    "tc qdisc add dev lan0 root tbf rate 1gbit burst 1mb latency 50ms",
    "tc qdisc del dev lan0 root",
  ],
  "filter of traffic control": [
    "tc qdisc add dev wan0 clsact; tc filter add dev wan0 egress bpf bytecode '1,6 0 0 0,' flowid 1:1",
    "tc qdisc del dev wan0 clsact",
  ],
  "is isolated": ["bridge link set dev lan0 isolated on", "bridge link set dev lan0 isolated off"],
  "rp_filter is strict": [
    "echo 1 > /proc/sys/net/ipv4/conf/br0/rp_filter",
    "echo 0 > /proc/sys/net/ipv4/conf/br0/rp_filter",
  ],
  br_netfilter: [
    "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables",
    "echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables",
  ],
  "an IPsec policy": [
    "ip xfrm policy add src 192.0.2.0/24 dst 192.0.2.0/24 dir out action block",
    "ip xfrm policy flush",
  ],
};

test("an agent closes it for whoever could judge packets, and a kill closes it: nothing ends, nothing leaks", async () => {
  const { node, outside, pod } = world();
  const agent = await kept(node);
  ask(
    outside,
    ["nft", "-f", "-"],
    "table inet leaks { chain i { type filter hook prerouting priority -300; ip saddr 10.9.0.0/24 counter; }; }",
  );
  const talks = await Promise.all(Array.from({ length: 10 }, () => Talk.of(pod, SERVER.v4)));
  const all = async (line: string): Promise<void> => {
    for (const talk of talks) expect(await talk.say(line)).toBe(`203.0.113.5 ${line}\n`);
  };
  for (const talk of talks) await goesFast(node, talk);
  expect(ask(node, [WAYOUT, "nat", "show"])).toMatch(
    /fast path: on; .* [1-9]\d* packets left by it, [1-9]\d* arrived/,
  );
  // A firewall that nobody has told of these flows would let no packet of them pass: they do not begin here.
  ask(
    node,
    ["nft", "-f", "-"],
    `table inet firewall { chain f { type filter hook forward priority 0; policy drop;
       ct state established,related counter accept
       iifname br0 tcp flags syn counter accept; }; }`,
  );
  await agent.says("fast-path-flows", { known: talks.length });
  const judged = counted(node);
  await all("judged");
  expect(counted(node)).toEqual(judged);
  expect(ask(node, [WAYOUT, "nat", "show"])).toMatch(
    /fast path: off for now; .*\n\s+the chain f of table inet firewall is asked at the hook forward/,
  );
  ask(node, ["nft", "delete", "table", "inet", "firewall"]);
  await agent.says("fast-path-on");
  for (const [said, [put, take]] of Object.entries(OBSTACLES)) {
    ask(node, ["sh", "-ec", put]);
    await agent.says("fast-path-off", { message: new RegExp(said) });
    const before = counted(node);
    expect(await talks[0]!.say("slow")).toBe("203.0.113.5 slow\n");
    expect(counted(node)).toEqual(before);
    ask(node, ["sh", "-ec", take]);
    await agent.says("fast-path-on");
    await goesFast(node, talks[0]!);
  }
  // All nine steps are seen, also of what would go past most of them.
  expect(ask(node, [WAYOUT, "trace", pod.name!, `${SERVER.v4}:${PORT}`])).toContain(
    "✓ 9 delivered to the pod",
  );
  await goesFast(node, talks[0]!);
  await agent.stop("SIGKILL");
  const killed = counted(node);
  await all("killed");
  expect(counted(node)).toEqual(killed);
  expect(programNames(node)).not.toContain("wayout_leaves");
  expect(ask(outside, ["nft", "list", "table", "inet", "leaks"])).toContain("counter packets 0");
});
