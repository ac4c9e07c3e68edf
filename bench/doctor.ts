/**
 * The doctor on a large node: 250 pods on one bridge, 5 000 rules of others. Each sample is a process of its own, as a
 * person starts it; measured is the processor time it took, which a busy machine does not stretch.
 */
import { addChain, addRule, addTable } from "../src/linux/nftables/commands.ts";
import { counter, drop, match } from "../src/linux/nftables/rule-builder.ts";
import { createNamedNamespace } from "../src/kernel/named-namespace.ts";
import { NetworkNamespace } from "../src/kernel/namespace.ts";
import { Nftables } from "../src/kernel/nftables/nftables.ts";
import { Rtnetlink } from "../src/kernel/route/rtnetlink.ts";
import { writeSysctl } from "../src/kernel/sysctl.ts";
import { masqueradeIntent } from "../src/nat/intent.ts";
import { NftablesNat } from "../src/nat/backends/nftables/nftables.ts";
import { connectPod, ensureBridge } from "../src/network/network.ts";
import type { Benchmark, Measurement, Samples } from "./benchmark.ts";
import { BINARY, buildBinary } from "./binary.ts";

const PODS = 250;
const RULES = 5_000;
const ROUNDS = 5;
const NODE = "bench-doctor-node";
const NETWORK = "10.77.0.0/16";

let built = false;

/** The node, once for all cases. */
function largeNode(): void {
  if (built) return;
  built = true;
  buildBinary();
  createNamedNamespace(NODE);
  createNamedNamespace(`${NODE}-outside`);
  using node = NetworkNamespace.named(NODE);
  using outside = NetworkNamespace.named(`${NODE}-outside`);
  using route = Rtnetlink.open(node);
  route.setLink("lo", { up: true });
  route.createVeth({ name: "eth0", peer: { name: "eth0", namespaceFd: outside.fd } });
  route.setLink("eth0", { up: true });
  using far = Rtnetlink.open(outside);
  far.setLink("eth0", { up: true });
  const uplink = route.link("eth0")!.index;
  route.addAddress({ interface: uplink, address: "203.0.113.5", prefixLength: 24 });
  route.addRoute({ destination: "0.0.0.0/0", gateway: "203.0.113.1", interface: uplink });
  writeSysctl(node, "net.ipv4.ip_forward", "1");
  const bridge = ensureBridge(route, { name: "br0", gateways: ["10.77.0.1/16"] });
  for (let index = 0; index < PODS; index++) addPod(route, bridge.link.index, index);
  using nat = new NftablesNat({ namespace: node });
  nat.apply(masqueradeIntent("bench", [NETWORK]));
  addRules(node);
  comeToRest(route);
}

/** Silence that lasts this long is rest; a node that never falls silent is measured as it is. */
const SILENCE_MS = 6_000;
const MOST_MS = 90_000;

/**
 * Waits until the newborn pods have stopped asking for routers and telling their multicast groups: the bridge floods
 * each such packet to all of them, and the kernel charges that work to whatever process happens to run.
 */
function comeToRest(route: Rtnetlink): void {
  const begun = performance.now();
  let since = begun;
  for (let before = -1; performance.now() - since < SILENCE_MS && performance.now() - begun < MOST_MS;) {
    const seen = route.link("br0")?.statistics?.rxPackets ?? 0;
    if (seen !== before) since = performance.now();
    before = seen;
    Bun.sleepSync(500);
  }
}

function addPod(route: Rtnetlink, bridge: number, index: number): void {
  const name = podName(index);
  createNamedNamespace(name);
  using namespace = NetworkNamespace.named(name);
  connectPod(route, namespace, {
    network: "bench",
    container: name,
    interfaceName: "eth0",
    bridge,
    addresses: [`10.77.${1 + Math.floor(index / 200)}.${1 + (index % 200)}/16`],
    routes: [{ destination: "0.0.0.0/0", gateway: "10.77.0.1" }],
  });
}

function podName(index: number): string {
  return `bench-pod-${index}`;
}

/** One linear chain of a firewall that compares every packet with everything: the worst for a prediction. */
function addRules(node: NetworkNamespace): void {
  const chain = { family: "inet", table: "firewall", chain: "forward" } as const;
  using nftables = Nftables.open(node);
  nftables.transaction(
    [
      addTable(chain),
      addChain(chain, { base: { type: "filter", hook: "forward", priority: 0 } }),
      ...Array.from({ length: RULES }, (_, index) =>
        addRule(chain, {
          expressions: [
            match("meta nfproto", "ipv4"),
            match("ip daddr", `192.0.${index >> 8}.${index & 255}`),
            match("meta l4proto", "tcp"),
            match("tcp dport", 80 + (index % 100)),
            counter(),
            drop(),
          ],
        }),
      ),
    ],
    "filling the ruleset",
  );
}

interface Ran {
  readonly ms: number;
  readonly peakMb: number;
}

function once(args: readonly string[]): Ran {
  using node = NetworkNamespace.named(NODE);
  const child = node.run(() => Bun.spawnSync([BINARY, ...args], { stdout: "pipe", stderr: "pipe" }));
  if (child.exitCode !== 0)
    throw new Error(
      `${args.join(" ")}: ${child.exitCode} ${(child.stderr.toString() || child.stdout.toString()).slice(0, 500)}`,
    );
  return { ms: Number(child.resourceUsage.cpuTime.total) / 1e3, peakMb: child.resourceUsage.maxRSS / 1e6 };
}

function sample(args: readonly string[]): Ran[] {
  largeNode();
  once(args);
  return Array.from({ length: ROUNDS }, () => once(args));
}

function measured(unit: "ms" | "MB", values: readonly number[], reference: Samples): Measurement {
  return { unit, ours: { name: "wayout", values }, reference, facts: { pods: PODS, rules: RULES } };
}

const NEEDS = ["root"];

export const benchmarks: readonly Benchmark[] = [
  {
    name: "doctor/one-pod",
    what: "wayout doctor POD --no-probe, a whole process",
    target: { ratio: 1, of: "150 ms" },
    needs: NEEDS,
    run: (context) =>
      measured(
        "ms",
        sample(["doctor", podName(7), "--no-probe", "--json"]).map((ran) => ran.ms),
        context.budget("150 ms", 150),
      ),
  },
  {
    name: "doctor/whole-node",
    what: "wayout doctor for every pod of the node, a whole process",
    target: { ratio: 1, of: "3 s" },
    needs: NEEDS,
    run: (context) =>
      measured(
        "ms",
        sample(["doctor", "--json"]).map((ran) => ran.ms),
        context.budget("3 s", 3_000),
      ),
  },
  {
    name: "doctor/snapshot-time",
    what: "wayout snapshot of the node, a whole process",
    target: { ratio: 1, of: "300 ms" },
    needs: NEEDS,
    run: (context) =>
      measured(
        "ms",
        sample(["snapshot", "-o", "/dev/null"]).map((ran) => ran.ms),
        context.budget("300 ms", 300),
      ),
  },
  {
    name: "doctor/snapshot-memory",
    what: "peak memory of the same",
    target: { ratio: 1, of: "150 MB" },
    needs: NEEDS,
    run: () =>
      measured(
        "MB",
        sample(["snapshot", "-o", "/dev/null"]).map((ran) => ran.peakMb),
        { name: "150 MB", values: [150] },
      ),
  },
];
