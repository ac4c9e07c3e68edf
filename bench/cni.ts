/**
 * The plugin beside the reference plugins that Debian ships (bridge with host-local), in one node's namespace, by turns.
 * A container runtime sees wall time from fork to exit, so that is what is measured.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ipFromNumber, isIp } from "../src/address/ip.ts";
import { createNamedNamespace, deleteNamedNamespace } from "../src/kernel/named-namespace.ts";
import { NETNS_DIRECTORY } from "../src/kernel/namespace.ts";
import { LinkRtnetlink } from "../src/kernel/route/link-rtnetlink.ts";
import { hostVethName } from "../src/naming/names.ts";
import type { Benchmark, BenchmarkContext, Measurement, Samples, Side } from "./benchmark.ts";
import { BINARY, buildBinary, PLUGIN } from "./binary.ts";

const REFERENCE = "/usr/lib/cni";
const PODS = 100;
const MANY_PODS = 1000;
const LANES = 8;

/** One plugin with one network of its own. */
class Plugin {
  constructor(
    readonly name: string,
    private readonly program: string,
    private readonly configuration: Readonly<Record<string, unknown>>,
  ) {}

  /** @param through a program that runs it and waits for it */
  call(command: string, pod = 0, through: readonly string[] = []): void {
    const child = Bun.spawnSync([...through, this.program], {
      stdin: Buffer.from(JSON.stringify(this.configuration)),
      stdout: "pipe",
      stderr: "pipe",
      env: this.#environment(command, pod),
    });
    if (child.exitCode !== 0) throw new Error(`${this.name} ${command}: ${child.stdout.toString()}`);
  }

  async callAsync(command: string, pod: number): Promise<void> {
    const child = Bun.spawn([this.program], {
      stdin: Buffer.from(JSON.stringify(this.configuration)),
      stdout: "pipe",
      stderr: "ignore",
      env: this.#environment(command, pod),
    });
    const said = await new Response(child.stdout).text();
    if ((await child.exited) !== 0) throw new Error(`${this.name} ${command}: ${said}`);
  }

  /** The node's end of a pod's link, of ours. */
  hostEnd(pod: number): string {
    return hostVethName(String(this.configuration["name"]), `pod${pod}`, "eth0");
  }

  /** Addresses that are given to somebody. */
  reservations(): string[] {
    return readdirSync(`/var/lib/cni/networks/${String(this.configuration["name"])}`).filter(isIp);
  }

  #environment(command: string, pod: number): Record<string, string> {
    return {
      PATH: process.env["PATH"] ?? "",
      CNI_COMMAND: command,
      CNI_CONTAINERID: `pod${pod}`,
      CNI_IFNAME: "eth0",
      CNI_NETNS: `${NETNS_DIRECTORY}/${this.#namespace(pod)}`,
      CNI_PATH: REFERENCE,
    };
  }

  #namespace(pod: number): string {
    return `${String(this.configuration["name"])}-${pod}`;
  }

  makeNamespaces(from: number, to: number): void {
    for (let pod = from; pod < to; pod++) createNamedNamespace(this.#namespace(pod));
  }

  removeNamespaces(from: number, to: number): void {
    for (let pod = from; pod < to; pod++) deleteNamedNamespace(this.#namespace(pod));
  }
}

let networks = 0;

function ours(extra: object = {}): Plugin {
  buildBinary();
  return plugin("wayout", existsSync(PLUGIN) ? PLUGIN : BINARY, "wayout", extra);
}

/** The same as part of the program that is the command line as well: the plugin where no small one can be built. */
function large(): Plugin {
  buildBinary();
  return plugin("the large program", BINARY, "wayout", {});
}

function reference(ipMasq: boolean): Plugin {
  const name = ipMasq ? "bridge + host-local, ipMasq" : "bridge + host-local, no NAT";
  return plugin(name, `${REFERENCE}/bridge`, "bridge", { ipMasq });
}

function plugin(name: string, program: string, type: string, extra: object): Plugin {
  const number = ++networks;
  return new Plugin(name, program, {
    cniVersion: type === "wayout" ? "1.1.0" : "1.0.0",
    name: `bench${number}`,
    type,
    bridge: `cni${number}`,
    isDefaultGateway: true,
    ipMasq: true,
    ipam: { type: "host-local", subnet: `10.${100 + number}.0.0/16` },
    ...extra,
  });
}

/** ADD of one pod after the other; each side's pods stay, as on a node. */
function adds(plugin: Plugin): Side {
  plugin.makeNamespaces(0, PODS + 2);
  return { name: plugin.name, run: (round) => plugin.call("ADD", round) };
}

/** DEL of pods that are all there at the start. */
function dels(plugin: Plugin): Side {
  plugin.makeNamespaces(0, PODS + 2);
  for (let pod = 0; pod < PODS + 2; pod++) plugin.call("ADD", pod);
  return { name: plugin.name, run: (round) => plugin.call("DEL", round) };
}

function versions(plugin: Plugin): Side {
  return { name: plugin.name, run: () => plugin.call("VERSION") };
}

/**
 * What a DEL takes beside the kernel's taking the link away, which waits for RCU and is most of it. That is measured by
 * turns with the DELs, on the links of pods just like theirs.
 */
async function ownPartOfDel(context: BenchmarkContext): Promise<Measurement> {
  const plugin = ours();
  const other = ours();
  const pods = PODS + 2;
  for (const one of [plugin, other]) {
    one.makeNamespaces(0, pods);
    for (let pod = 0; pod < pods; pod++) one.call("ADD", pod);
  }
  using node = LinkRtnetlink.open();
  const both = await context.compare(
    {
      ours: { name: "DEL", run: (round) => plugin.call("DEL", round) },
      reference: {
        name: "RTM_DELLINK",
        run: (round) => {
          if (!node.deleteLink(other.hostEnd(round))) throw new Error("there was no link");
        },
      },
    },
    { rounds: PODS, warmUp: 2 },
  );
  const link = median(both.reference!.values);
  return {
    unit: both.unit,
    ours: { name: "DEL less RTM_DELLINK", values: both.ours.values.map((value) => value - link) },
    reference: context.budget("3 ms", 3),
    facts: { "RTM_DELLINK ms": link.toFixed(2), "DEL ms": median(both.ours.values).toFixed(2) },
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

/**
 * ADD of pods whose addresses had an owner before, who ended by a DEL, beside ADD of pods with fresh ones: on a node that
 * tracks something, as every node does after its first pod.
 */
async function reused(context: BenchmarkContext): Promise<Measurement> {
  const pods = PODS + 2;
  const range = {
    subnet: "10.90.0.0/16",
    rangeStart: "10.90.0.2",
    rangeEnd: ipFromNumber(4, RANGE_START + BigInt(pods)),
  };
  const again = ours({ ipam: { type: "host-local", ...range } });
  const fresh = ours();
  for (const plugin of [again, fresh]) {
    plugin.makeNamespaces(0, pods + 1);
    plugin.call("ADD", pods);
  }
  using _tracked = await trackedConnection();
  for (const command of ["ADD", "DEL"]) for (let pod = 0; pod < pods; pod++) again.call(command, pod);
  return await context.compare(
    {
      ours: { name: "used before", run: (round) => again.call("ADD", round) },
      reference: { name: "fresh", run: (round) => fresh.call("ADD", round) },
    },
    { rounds: PODS, warmUp: 2 },
  );
}

/** A TCP connection of the node with itself: the kernel tracks it for as long as it stands. */
async function trackedConnection(): Promise<Disposable> {
  Bun.spawnSync(["ip", "link", "set", "lo", "up"]);
  const socket = { data: () => undefined };
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
  const client = await Bun.connect({ hostname: "127.0.0.1", port: server.port, socket });
  if (readFileSync("/proc/sys/net/netfilter/nf_conntrack_count", "utf8").trim() === "0") {
    throw new Error("nothing is tracked here");
  }
  return {
    [Symbol.dispose](): void {
      client.end();
      server.stop(true);
    },
  };
}

/** 10.90.0.2 */
const RANGE_START = 0x0a5a_0002n;

async function compare(context: BenchmarkContext, sides: readonly [Side, Side]): Promise<Measurement> {
  return context.compare({ ours: sides[0], reference: sides[1] }, { rounds: PODS, warmUp: 2 });
}

/** Against a promise in milliseconds. */
async function within(
  context: BenchmarkContext,
  command: string,
  milliseconds: number,
): Promise<Measurement> {
  const plugin = ours();
  plugin.makeNamespaces(0, 1);
  plugin.call("ADD");
  const side: Side = { name: "wayout", run: () => plugin.call(command) };
  const measured = await context.compare({ ours: side }, { rounds: 50, warmUp: 3 });
  return { ...measured, reference: context.budget(`${milliseconds} ms`, milliseconds) };
}

/** The first hundred ADDs against the last hundred of a thousand. */
function growth(): Measurement {
  const plugin = ours();
  plugin.makeNamespaces(0, MANY_PODS);
  const times: number[] = [];
  for (let pod = 0; pod < MANY_PODS; pod++) {
    const start = performance.now();
    plugin.call("ADD", pod);
    times.push(performance.now() - start);
  }
  plugin.removeNamespaces(0, MANY_PODS);
  const samples = (name: string, values: readonly number[]): Samples => ({ name, values });
  return {
    unit: "ms",
    ours: samples("last hundred", times.slice(-100)),
    reference: samples("first hundred", times.slice(1, 101)),
    facts: { pods: MANY_PODS },
  };
}

/** Wall time of one round in which eight at once attach a pod each; a failure fails the benchmark. */
function together(plugin: Plugin): Side {
  const rounds = 10;
  plugin.makeNamespaces(0, LANES * (rounds + 1));
  return {
    name: plugin.name,
    async run(round) {
      const lanes = Array.from({ length: LANES }, (_, lane) => plugin.callAsync("ADD", round * LANES + lane));
      await Promise.all(lanes);
    },
  };
}

/** 300 pairs at once on a network whose bridge does not exist; one failure, or one address left, fails it. */
async function pairs(): Promise<Measurement> {
  const PAIRS = 300;
  const plugin = ours();
  plugin.makeNamespaces(0, PAIRS);
  const start = performance.now();
  await Promise.all(
    Array.from({ length: PAIRS }, async (_, pod) => {
      await plugin.callAsync("ADD", pod);
      await plugin.callAsync("DEL", pod);
    }),
  );
  const milliseconds = performance.now() - start;
  plugin.removeNamespaces(0, PAIRS);
  const left = plugin.reservations();
  if (left.length > 0) throw new Error(`${left.length} addresses are left: ${left.join(" ")}`);
  return { unit: "ms", ours: { name: "wayout", values: [milliseconds] }, facts: { pairs: PAIRS } };
}

/**
 * Peak resident memory of an ADD, of the largest process of the call. It is read by GNU time, which itself needs less
 * than two megabytes: a process begins with the peak of whoever started it (the kernel carries ru_maxrss over execve),
 * and started by this benchmark every program would seem to need as much as this benchmark does.
 */
function memory(context: BenchmarkContext): Measurement {
  const report = join(context.directory, "kilobytes");
  const megabytes = (plugin: Plugin): number[] => {
    plugin.makeNamespaces(0, 20);
    return Array.from({ length: 20 }, (_, pod) => {
      plugin.call("ADD", pod, ["time", "-f", "%M", "-o", report]);
      return (Number(readFileSync(report, "utf8")) * 1024) / 1e6;
    });
  };
  const bridge = megabytes(reference(true)).toSorted((a, b) => a - b);
  return {
    unit: "MB",
    ours: { name: "wayout", values: megabytes(ours()) },
    reference: context.budget("8 MB", 8),
    facts: { "bridge + host-local MB": Math.round(bridge[10]!) },
  };
}

const needs = ["ip", "iptables"];

export const benchmarks: readonly Benchmark[] = existsSync(`${REFERENCE}/bridge`)
  ? [
      {
        name: "cni/add",
        what: `ADD of a pod, ${PODS} pods one after the other`,
        target: { ratio: 0.28, of: "bridge + host-local, ipMasq" },
        needs,
        run: (context) => compare(context, [adds(ours()), adds(reference(true))]),
      },
      {
        name: "cni/add-large",
        what: "ADD of a pod, beside the large program",
        target: { ratio: 0.5, of: "the large program" },
        run: (context) => compare(context, [adds(ours()), adds(large())]),
      },
      {
        name: "cni/add-beside-no-nat",
        what: "ADD of a pod, ours with NAT beside the reference without",
        target: { ratio: 0.65, of: "bridge + host-local, no NAT" },
        needs,
        run: (context) => compare(context, [adds(ours()), adds(reference(false))]),
      },
      {
        name: "cni/add-used-address",
        what: "ADD of a pod whose address had an owner before, on a node that tracks connections",
        target: { ratio: 1.1, of: "fresh", words: "at most 1 ms more than" },
        run: reused,
      },
      {
        name: "cni/del",
        what: `DEL of a pod, ${PODS} pods one after the other`,
        target: { ratio: 0.3, of: "bridge + host-local, ipMasq" },
        needs,
        run: (context) => compare(context, [dels(ours()), dels(reference(true))]),
      },
      {
        name: "cni/del-own",
        what: "DEL of a pod less what the kernel takes for its link",
        target: { ratio: 1, of: "3 ms" },
        needs,
        run: ownPartOfDel,
      },
      {
        name: "cni/status",
        what: "STATUS, as a kubelet asks every five seconds",
        target: { ratio: 1, of: "3 ms" },
        run: (context) => within(context, "STATUS", 3),
      },
      {
        name: "cni/version",
        what: "VERSION",
        target: { ratio: 1, of: "bridge + host-local, ipMasq" },
        run: (context) => compare(context, [versions(ours()), versions(reference(true))]),
      },
      {
        name: "cni/growth",
        what: `the last hundred ADDs of ${MANY_PODS} pods beside the first hundred`,
        target: { ratio: 1.2, of: "first hundred" },
        run: growth,
      },
      {
        name: "cni/parallel",
        what: `${LANES} ADDs at once`,
        target: { ratio: 1 / 5, of: "bridge + host-local, ipMasq", words: "≥ 5 times the throughput of" },
        needs,
        run: (context) =>
          context.compare(
            { ours: together(ours()), reference: together(reference(true)) },
            { rounds: 10, warmUp: 1 },
          ),
      },
      {
        name: "cni/pairs",
        what: "300 pairs of ADD and DEL at once, on a network whose bridge does not exist",
        run: pairs,
      },
      {
        name: "cni/memory",
        what: "peak resident memory of an ADD",
        target: { ratio: 1, of: "8 MB" },
        needs: [...needs, "time"],
        run: memory,
      },
    ]
  : [];
