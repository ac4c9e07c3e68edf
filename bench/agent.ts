/** What an agent costs while nothing happens, and how soon it answers when something does. Promises, not peers. */
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Journal } from "../src/agent/journal/journal.ts";
import { DesiredSource, type PolicyWish } from "../src/agent/desired.ts";
import { NatStep } from "../src/agent/reconcile/nat-step.ts";
import { NetworkNamespace } from "../src/kernel/namespace.ts";
import { NftablesTwin } from "../src/nat/backends/nftables/twin.ts";
import { parsePolicy } from "../src/policy/policy-file.ts";
import type { Benchmark, BenchmarkContext, Measurement } from "./benchmark.ts";
import { BINARY, buildBinary } from "./binary.ts";
import { fillTable, rawDump } from "./conntrack.ts";

const PODS = 250;
const IDLE_S = 20;
const ROUNDS = 9;
const TARGET = (of: string) => ({ ratio: 1, of });

export const benchmarks: readonly Benchmark[] = [
  {
    name: "agent/policy-10000",
    what: "a policy of 10 000 prefixes is read, compared with the kernel and brought into force, twin included",
    target: TARGET("500 ms"),
    needs: ["root"],
    run: (context) => policyRows(context, 10_000, { name: "500 ms", ms: 500 }),
  },
  {
    name: "agent/reload-100",
    what: "a policy of 100 prefixes, one of which changed",
    target: TARGET("50 ms"),
    needs: ["root"],
    run: (context) => policyRows(context, 100, { name: "50 ms", ms: 50 }),
  },
  {
    name: "agent/flush-to-repaired",
    what: "from the end of 'nft flush ruleset' until the agent says that its table is back",
    target: TARGET("100 ms"),
    needs: ["root", "nft", "ip"],
    run: flushRow,
  },
  {
    name: "agent/journal-write",
    what: "one event is written",
    target: TARGET("5 ms"),
    run: journalRow,
  },
  {
    name: "agent/metrics-240000",
    what: "GET /metrics beside a table of 240 000 flows, against the kernel's dump of it read and thrown away",
    target: { ratio: 1.2, of: "raw kernel dump" },
    needs: ["root", "nft", "ip", "conntrack"],
    run: metricsRow,
  },
  {
    name: "agent/idle-250",
    what: "processor time of an agent that keeps 250 attached pods while nothing happens, as milliseconds a second",
    target: TARGET("1 % of a core"),
    needs: ["root", "ip"],
    run: idleRow,
  },
];

async function policyRows(
  context: BenchmarkContext,
  prefixes: number,
  budget: { readonly name: string; readonly ms: number },
): Promise<Measurement> {
  using node = NetworkNamespace.current();
  let wish: PolicyWish | undefined;
  using twin = NftablesTwin.open(node);
  const desired = new DesiredSource(node, () => wish);
  using step = new NatStep(node, desired.read, twin);
  const texts = [policyText(prefixes, 0), policyText(prefixes, 1)];
  const cpuMs: number[] = [];
  const measured = await context.compare(
    {
      ours: {
        name: "wayout",
        run: async (round) => {
          const began = process.cpuUsage();
          const { backend, intent, admit } = await parsePolicy(texts[round % 2]!, "policy.yaml");
          wish = { backend, intent, admit };
          step.run();
          cpuMs.push(cpuSince(began));
        },
      },
    },
    { rounds: ROUNDS, warmUp: 2 },
  );
  twin?.remove();
  const facts = { prefixes, cpuMs: medianOf(cpuMs) };
  return { ...measured, reference: context.budget(budget.name, budget.ms), facts };
}

/** Milliseconds of processor time: on a busy machine they say more than those of a clock. */
function cpuSince(began: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(began);
  return (user + system) / 1000;
}

function medianOf(values: readonly number[]): number {
  return Math.round(values.toSorted((a, b) => a - b)[values.length >> 1]!);
}

/** Half of them sources, half of them destinations that are left untranslated. */
function policyText(prefixes: number, other: number): string {
  const cidr = (first: number, index: number): string => `${first}.${index >> 8}.${index & 255}.0/24`;
  const half = prefixes / 2;
  const sources = Array.from({ length: half }, (_, index) => cidr(10, 2 * index + (index === 0 ? other : 0)));
  const kept = Array.from({ length: half }, (_, index) => cidr(100, 2 * index));
  return JSON.stringify({ sources, nonMasqueradeCIDRs: kept, cidrLimit: prefixes });
}

async function flushRow(context: BenchmarkContext): Promise<Measurement> {
  prepareNode();
  run([BINARY, "attach", "flushed", "--create"]);
  const agent = await RunningAgent.start();
  const values: number[] = [];
  for (let round = 0; round < 15; round++) {
    run(["nft", "flush", "ruleset"]);
    const ended = performance.now();
    await agent.says("repaired");
    values.push(performance.now() - ended);
    // Five in ten seconds are a fight, and are answered later on purpose.
    await Bun.sleep(2_500);
  }
  await agent.stop();
  run([BINARY, "detach", "flushed"]);
  return { unit: "ms", ours: { name: "wayout", values }, reference: context.budget("100 ms", 100) };
}

async function journalRow(context: BenchmarkContext): Promise<Measurement> {
  using journal = Journal.write(join(context.directory, "journal.db"));
  const measured = await context.compare(
    {
      ours: {
        name: "wayout",
        run: (round) =>
          void journal.record({
            at: Date.now(),
            kind: "rules",
            object: "ruleset",
            text: `nft changed the rules (generation ${round})`,
            by: { process: "nft", pid: round, parents: ["bash", "sshd"], certainty: "seen" },
          }),
      },
    },
    { rounds: 500, warmUp: 20 },
  );
  return { ...measured, reference: context.budget("5 ms", 5) };
}

async function metricsRow(context: BenchmarkContext): Promise<Measurement> {
  prepareNode();
  const flows = fillTable();
  const agent = await RunningAgent.start("--no-look");
  const ask = (path: string): Promise<string> =>
    fetch(`http://agent${path}`, { unix: agent.socket }).then((answer) => answer.text());
  let longest = 0;
  const [ourCpuMs, dumpCpuMs, loopCpuMs]: [number[], number[], number[]] = [[], [], []];
  const measured = await context.compare(
    {
      ours: {
        name: "wayout",
        // The agent uses an answer again for five seconds.
        prepare: () => Bun.sleep(5_100),
        run: async () => {
          const [cpu, loop] = [agent.cpuMs(), agent.loopMs()];
          const text = ask("/metrics");
          const answered = text.then(() => true);
          while (!(await Promise.race([answered, Bun.sleep(10).then(() => false)]))) {
            const began = performance.now();
            await ask("/healthz");
            longest = Math.max(longest, performance.now() - began);
          }
          if (!/^wayout_conntrack_entries \d{5,}$/m.test(await text))
            throw new Error("the table is not in it");
          ourCpuMs.push(agent.cpuMs() - cpu);
          loopCpuMs.push(agent.loopMs() - loop);
        },
      },
      reference: {
        ...rawDump,
        run: (round) => {
          const began = process.cpuUsage();
          void rawDump.run(round);
          dumpCpuMs.push(cpuSince(began));
        },
      },
    },
    { rounds: 5 },
  );
  await agent.stop();
  const facts = {
    flows,
    longestOtherAnswerMs: Math.round(longest),
    cpuMs: medianOf(ourCpuMs),
    dumpCpuMs: medianOf(dumpCpuMs),
    // All that the loop did meanwhile, other answers included: it cannot have been blocked for longer.
    loopCpuMs: medianOf(loopCpuMs),
  };
  return { ...measured, facts };
}

async function idleRow(context: BenchmarkContext): Promise<Measurement> {
  prepareNode();
  for (let pod = 0; pod < PODS; pod++) run([BINARY, "attach", `idle-${pod}`, "--create"]);
  const agent = await RunningAgent.start();
  // The first look, and what the engine does at the beginning.
  await Bun.sleep(15_000);
  const values: number[] = [];
  for (let sample = 0; sample < 3; sample++) {
    const before = agent.cpuMs();
    await Bun.sleep(IDLE_S * 1000);
    values.push((agent.cpuMs() - before) / IDLE_S);
  }
  const rssMb = agent.rssMb();
  await agent.stop();
  return {
    unit: "ms",
    ours: { name: "wayout", values },
    reference: context.budget("1 % of a core", 10),
    facts: { pods: PODS, rssMb, promisedRssMb: 120 },
  };
}

let isPrepared = false;

/** An uplink, in the namespace that the harness made. */
export function prepareNode(): void {
  if (isPrepared) return;
  isPrepared = true;
  buildBinary();
  const lines = `link set lo up
link add up0 type veth peer name out0
address add 203.0.113.5/24 dev up0
link set up0 up
link set out0 up
route add default via 203.0.113.1
`;
  run(["ip", "-batch", "-"], lines);
}

export function run(command: readonly string[], input = ""): void {
  const child = Bun.spawnSync([...command], { stdin: Buffer.from(input), stdout: "ignore", stderr: "pipe" });
  if (child.exitCode !== 0) throw new Error(`${command.join(" ")}: ${child.stderr.toString()}`);
}

/** The built agent, and what it says. */
export class RunningAgent {
  readonly #lines: AsyncIterator<Uint8Array>;
  #rest = "";

  private constructor(
    private readonly child: Bun.Subprocess<"ignore", "ignore", "pipe">,
    readonly socket: string,
  ) {
    this.#lines = child.stderr[Symbol.asyncIterator]();
  }

  static async start(...words: readonly string[]): Promise<RunningAgent> {
    const journal = join(mkdtempSync(join(tmpdir(), "wayout-bench-agent-")), "journal.db");
    const child = Bun.spawn([BINARY, "agent", "--journal", journal, ...words], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
    });
    using node = NetworkNamespace.current();
    const agent = new RunningAgent(child, `/run/wayout/agent/${node.cookie}.sock`);
    await agent.says("listening");
    return agent;
  }

  async says(event: string): Promise<void> {
    for (;;) {
      const end = this.#rest.indexOf("\n");
      if (end >= 0) {
        const line = this.#rest.slice(0, end);
        this.#rest = this.#rest.slice(end + 1);
        if ((JSON.parse(line) as { event: string }).event === event) return;
        continue;
      }
      const { value, done } = await this.#lines.next();
      if (done === true) throw new Error("the agent has ended");
      this.#rest += new TextDecoder().decode(value);
    }
  }

  /** Used so far, its children included, once they have ended. */
  cpuMs(): number {
    const stat = readFileSync(`/proc/${this.child.pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // utime, stime, cutime, cstime (proc_pid_stat(5)), in hundredths of a second.
    return [11, 12, 13, 14].reduce((sum, field) => sum + Number(fields[field]), 0) * 10;
  }

  /** What the thread of the agent's loop used so far. */
  loopMs(): number {
    const [nanoseconds] = readFileSync(
      `/proc/${this.child.pid}/task/${this.child.pid}/schedstat`,
      "utf8",
    ).split(" ");
    return Number(nanoseconds) / 1e6;
  }

  rssMb(): number {
    const status = readFileSync(`/proc/${this.child.pid}/status`, "utf8");
    return Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024);
  }

  async stop(): Promise<void> {
    this.child.kill("SIGTERM");
    await this.child.exited;
  }
}
