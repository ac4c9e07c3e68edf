/** `wayout agent` as a process on a node of the test's own, and what it says. */
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "../support/teardown.ts";
import { start, WAYOUT } from "../attachment/world.ts";

export interface AgentLine {
  readonly level: string;
  readonly event: string;
  readonly [field: string]: unknown;
}

/** No test is longer. */
const LIFE_MS = 180_000 + 2_000 * Number(process.env["PEERS_SECONDS"] ?? 0);
/** Longest that anything the agent is waited for may take. */
const TIMEOUT_MS = 60_000;

export class RunningAgent {
  readonly #child: ReturnType<typeof start>;
  readonly #lines: AsyncIterator<Uint8Array>;
  #rest = "";

  private constructor(node: NetworkNamespace, command: readonly [string, ...string[]]) {
    this.#child = start(node, command, process.env, LIFE_MS);
    this.#lines = this.#child.stderr[Symbol.asyncIterator]();
    afterThisTest(() => this.#child.kill("SIGKILL"));
  }

  /** Started, and past its first comparison. It keeps no journal unless it is told to: the usual one is the
   * machine's; and it looks at the pods, which costs a process each time, only with `--look`. */
  static async on(node: NetworkNamespace, ...args: readonly string[]): Promise<RunningAgent> {
    return RunningAgent.within([], node, ...args);
  }

  /** @param wrapper a program that starts another with less than it has itself */
  static async within(
    wrapper: readonly string[],
    node: NetworkNamespace,
    ...args: readonly string[]
  ): Promise<RunningAgent> {
    const journal = args.includes("--journal") ? [] : ["--journal", "none"];
    const look = args.includes("--look") ? [] : ["--no-look"];
    const own = args.filter((one) => one !== "--look");
    const [program = WAYOUT, ...words] = [...wrapper, WAYOUT, "agent", ...own, ...journal, ...look];
    const agent = new RunningAgent(node, [program, ...words]);
    await agent.says("started");
    return agent;
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** The next line about such an event; lines before it are passed over. @param fields exact, or patterns */
  async says(event: string, fields: Readonly<Record<string, unknown>> = {}): Promise<AgentLine> {
    const deadline = performance.now() + TIMEOUT_MS;
    for (;;) {
      const line = await this.#line(deadline);
      const fits = Object.entries(fields).every(([name, value]) =>
        value instanceof RegExp ? value.test(String(line[name])) : line[name] === value,
      );
      if (line.event === event && fits) return line;
    }
  }

  /** Ends it as an init system does. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number> {
    this.#child.kill(signal);
    return this.#child.exited;
  }

  async #line(deadline: number): Promise<AgentLine> {
    for (;;) {
      const end = this.#rest.indexOf("\n");
      if (end >= 0) {
        const line = this.#rest.slice(0, end);
        this.#rest = this.#rest.slice(end + 1);
        return JSON.parse(line) as AgentLine;
      }
      const left = deadline - performance.now();
      const read = await Promise.race([this.#lines.next(), Bun.sleep(Math.max(0, left))]);
      if (read === undefined) throw new Error(`the agent did not say it within ${TIMEOUT_MS} ms`);
      if (read.done === true) throw new Error("the agent has ended");
      this.#rest += new TextDecoder().decode(read.value);
    }
  }
}
