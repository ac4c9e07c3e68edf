/** The inner half of scripts/soak.ts, in fresh namespaces. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sendFlows } from "../bench/conntrack.ts";
import type { NodeAnswer } from "../src/agent/api/view.ts";
import { socketPath } from "../src/agent/socket.ts";
import { NetworkNamespace } from "../src/kernel/namespace.ts";
import { readSysctl, writeSysctl } from "../src/kernel/sysctl.ts";
import { makePlacesPrivate } from "./isolation.ts";

const SAMPLE_MS = 10_000;
/**
 * How much more the last third may have than the one before it, per figure, beyond noise: nothing but memory moves. A
 * sample finds a whole table of rules or, just after it was flushed, none. Of the first third nothing is said: for some
 * minutes the engine compiles what is called often, and its allocator keeps what it once needed. Twelve thousand reloads
 * on end took the agent's own memory from 37 MB to 78 in nine minutes, and to 81 in eight more.
 */
const MAY_GROW = { rssMb: 8, descriptors: 2, files: 4, rules: 40 } as const;
const TIMEOUT_MS = 30_000;

/** Beside the pods: the policy is another one each second, and so many flows begin. */
const RELOAD_MS = 1_000;
const FLOWS_PER_SECOND = 5_000;
/** Of a core, for writing the journal. */
const JOURNAL_SHARE = 0.05;
const PODS = 100;

if (process.argv[2] === "flows") {
  for (let second = 0; second < Number(process.argv[3]); second++) {
    sendFlows((second * FLOWS_PER_SECOND) % 200_000, FLOWS_PER_SECOND, FLOWS_PER_SECOND);
    console.log(FLOWS_PER_SECOND);
  }
  process.exit(0);
}

const seconds = Number(process.argv[2]);
const program = join(import.meta.dir, "..", "dist", "wayout");
makePlacesPrivate();
mkdirSync("/run/netns");
prepareNode();

mkdirSync("/run/soak");
const policy = "/run/soak/policy.yaml";
let reloads = 0;
const reload = (): void =>
  writeFileSync(policy, `sources: [10.66.${reloads++ % 200}.0/24]\nnonMasqueradeCIDRs: [10.0.0.0/8]\n`);
reload();
const words = ["agent", "--journal", "/run/soak/journal.db", "--config", policy];
const agent = Bun.spawn([program, ...words], { stdout: "ignore", stderr: "ignore" });
await Bun.sleep(1_000);
const reloading = setInterval(reload, RELOAD_MS);
const flows = Bun.spawn([process.execPath, import.meta.path, "flows", String(seconds)], {
  stdout: "pipe",
  stderr: "inherit",
});
/** Each is one packet to where none of the last ten seconds went, and so a flow of its own. */
let begunFlows = 0;
void (async () => {
  for await (const bytes of flows.stdout)
    begunFlows += new TextDecoder().decode(bytes).split("\n").length * FLOWS_PER_SECOND - FLOWS_PER_SECOND;
})();

interface Sample {
  readonly links: number;
  readonly namespaces: number;
  readonly rules: number;
  readonly files: number;
  readonly descriptors: number;
  readonly rssMb: number;
  /** In the table: those of the last ten seconds, which is their timeout. */
  readonly flows: number;
}

const samples: Sample[] = [];
const begun = performance.now();
let rounds = 0;
let failures = 0;
for (let next = SAMPLE_MS; performance.now() - begun < seconds * 1000;) {
  await round(rounds++);
  if (performance.now() - begun < next) continue;
  next += SAMPLE_MS;
  samples.push(sample());
  console.log(lineOf(samples.at(-1)!));
}
clearInterval(reloading);
const flowsPerSecond = Math.round((begunFlows * 1000) / (performance.now() - begun));
flows.kill("SIGKILL");
const journalShare = (await journalWritingMs()) / (performance.now() - begun);
const cpuShare = cpuMs() / (performance.now() - begun);
agent.kill("SIGTERM");
await agent.exited;
const grown = growth(samples);
console.log(
  `${rounds} rounds, ${failures} refused or killed; ${grown.length === 0 ? "flat" : `grew: ${grown.join(", ")}`}`,
);
if (samples.length < 9) console.log("too short to tell: give it more than a minute");
console.log(
  `${reloads} reloads; ${flowsPerSecond} new flows a second; journal ${percent(journalShare)} of a core, the agent with its looks ${percent(cpuShare)}`,
);
process.exit(grown.length === 0 && journalShare <= JOURNAL_SHARE ? 0 : 1);

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

async function journalWritingMs(): Promise<number> {
  using node = NetworkNamespace.current();
  const answer = await fetch("http://agent/v1/node", { unix: socketPath(node) });
  return ((await answer.json()) as NodeAnswer).journal?.writingMs ?? Number.NaN;
}

/** Of the agent, and of its children that have ended. */
function cpuMs(): number {
  const stat = readFileSync(`/proc/${agent.pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  // utime, stime, cutime, cstime (proc_pid_stat(5)), in hundredths of a second.
  return [11, 12, 13, 14].reduce((sum, field) => sum + Number(fields[field]), 0) * 10;
}

/** One pod each way, and now and then an accident. */
async function round(number: number): Promise<void> {
  const name = `soak-${number % PODS}`;
  const accident = number % 7;
  await wayout(["attach", name, "--create"], accident === 3);
  if (accident === 5) await run(["nft", "flush", "ruleset"]);
  await wayout(["detach", name]);
  // What was killed half-way is taken back by the next command; a name that it left is taken away by hand.
  if (accident === 3) await wayout(["detach", name]);
  await run(["ip", "netns", "delete", name]);
  await run(["ip", "netns", "add", `pod-${number % PODS}`]);
  await cni("ADD", number, accident === 1);
  await cni("STATUS", number);
  await cni("DEL", number);
  await run(["ip", "netns", "delete", `pod-${number % PODS}`]);
}

function cni(command: string, number: number, killed = false): Promise<void> {
  const configuration = {
    cniVersion: "1.1.0",
    name: "soak",
    type: "wayout",
    bridge: "soak0",
    isDefaultGateway: true,
    ipMasq: true,
    ipam: { type: "host-local", subnet: "10.77.0.0/24" },
  };
  return wayout([], killed, JSON.stringify(configuration), {
    CNI_COMMAND: command,
    CNI_CONTAINERID: `soak${number}`,
    CNI_IFNAME: "eth0",
    CNI_NETNS: `/run/netns/pod-${number % PODS}`,
    CNI_PATH: "/nowhere",
  });
}

/** @param killed with SIGKILL after a moment of chance */
async function wayout(
  words: readonly string[],
  killed = false,
  input = "",
  environment: Readonly<Record<string, string>> = {},
): Promise<void> {
  const child = Bun.spawn([program, ...words], {
    stdin: Buffer.from(input),
    stdout: "ignore",
    stderr: "ignore",
    timeout: TIMEOUT_MS,
    env: { ...process.env, ...environment },
  });
  if (killed) {
    await Bun.sleep(Math.random() * 40);
    child.kill("SIGKILL");
  }
  if ((await child.exited) !== 0) failures++;
}

async function run(command: readonly string[]): Promise<string> {
  const child = Bun.spawn([...command], { stdout: "pipe", stderr: "ignore", timeout: TIMEOUT_MS });
  return await new Response(child.stdout).text();
}

function ask(command: readonly string[]): string {
  return Bun.spawnSync([...command], { stderr: "ignore", timeout: TIMEOUT_MS }).stdout.toString();
}

function prepareNode(): void {
  rmSync("/var/lib/cni", { recursive: true, force: true });
  const lines = [
    "link set lo up",
    "link add up0 type veth peer name out0",
    "address add 203.0.113.5/24 dev up0",
    "link set up0 up",
    "link set out0 up",
    "route add default via 203.0.113.1",
  ];
  Bun.spawnSync(["ip", "-batch", "-"], { stdin: Buffer.from(lines.join("\n")) });
  // Flows that are over soon: the table holds some ten thousand of them at a time.
  writeSysctl(undefined, "net.netfilter.nf_conntrack_udp_timeout", "10");
}

function sample(): Sample {
  const status = readFileSync(`/proc/${agent.pid}/status`, "utf8");
  return {
    links: ask(["ip", "-o", "link"]).split("\n").length - 1,
    namespaces: readdirSync("/run/netns").length,
    rules: ask(["nft", "list", "ruleset"]).split("\n").length,
    files: count("/run/wayout") + count("/var/lib/cni"),
    descriptors: readdirSync(`/proc/${agent.pid}/fd`).length,
    flows: Number(readSysctl(undefined, "net.netfilter.nf_conntrack_count")),
    rssMb: Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024),
  };
}

function count(directory: string): number {
  try {
    return readdirSync(directory, { recursive: true }).length;
  } catch {
    return 0;
  }
}

/**
 * Figures of which the last third has more than the one before it by more than they may grow: on the mean, and of memory
 * the least, for the engine collects when it likes, and what stays behind is what would be lost.
 */
function growth(all: readonly Sample[]): string[] {
  const third = Math.floor(all.length / 3);
  if (third === 0) return [];
  const kept = all.slice(-2 * third);
  const held = (part: readonly Sample[], figure: keyof Sample): number => {
    const values = part.map((one) => one[figure]);
    if (figure === "rssMb") return Math.min(...values);
    return values.reduce((sum, value) => sum + value, 0) / values.length;
  };
  const figures = (Object.keys(kept[0]!) as (keyof Sample)[]).filter((figure) => figure !== "flows");
  return figures.flatMap((figure) => {
    const more = held(kept.slice(-third), figure) - held(kept.slice(0, third), figure);
    const allowed = figure in MAY_GROW ? MAY_GROW[figure as keyof typeof MAY_GROW] : 1;
    return more > allowed ? [`${figure} by ${more.toFixed(1)}`] : [];
  });
}

function lineOf(one: Sample): string {
  const at = Math.round((performance.now() - begun) / 1000);
  return [`${at} s`, ...Object.entries(one).map(([name, value]) => `${name} ${value}`)].join("  ");
}
