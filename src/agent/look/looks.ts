/** When to look at the whole node, and what is done with what was seen. */
import { messageOf } from "../../error.ts";
import type { AgentListener } from "../agent.ts";
import type { Answered } from "../api/ask-self.ts";
import { culpritText } from "../culprit.ts";
import type { Historian } from "../historian.ts";
import type { Journal } from "../journal/journal.ts";
import type { AgentLog } from "../log.ts";
import type { NodeEvent } from "../node-events.ts";
import type { Look } from "./look.ts";
import { LOOKER } from "./name.ts";
import { wayOutEvent } from "./way-out-event.ts";

export interface LookTimes {
  /** A change is let come to its end. */
  readonly settleMs: number;
  /** From one look's beginning to the next at least so long. */
  readonly leastMs: number;
  /** What announces nothing (sysctls, full tables, failing neighbours) is found by a look after this. */
  readonly idleMs: number;
}

const TIMES: LookTimes = { settleMs: 300, leastMs: 10_000, idleMs: 300_000 };
/** Between two looks so many times as long as the last one took. */
const REST = 20;

export interface LooksOptions {
  /** Runs this program with these words, in the node's namespace. */
  readonly run: (words: readonly string[], signal: AbortSignal) => Promise<Answered>;
  readonly log: AgentLog;
  readonly historian: Historian;
  readonly journal: Journal | undefined;
  /** Hears of every look. */
  readonly looked: (look: Look, at: number) => void;
}

export class Looks implements AgentListener {
  readonly #stop = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #due = Number.POSITIVE_INFINITY;
  #notBefore = 0;
  #looking = false;
  /** What was heard since the last look began. */
  #heard = new Set<NodeEvent["kind"]>();
  #before: { readonly at: number; readonly look: Look } | undefined;
  #trouble = "";

  constructor(
    private readonly options: LooksOptions,
    private readonly times = TIMES,
  ) {
    this.#lookIn(0);
  }

  readonly event = ({ kind }: NodeEvent): void => {
    this.#heard.add(kind);
    this.#lookIn(this.times.settleMs);
  };

  stop(): void {
    clearTimeout(this.#timer);
    this.#stop.abort();
  }

  /** Sooner when a look is due before; while one is taken, the next waits for it. */
  #lookIn(delayMs: number): void {
    const now = performance.now();
    const due = Math.max(now + delayMs, this.#notBefore);
    if (due >= this.#due || this.#stop.signal.aborted) return;
    this.#due = due;
    if (this.#looking) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#look(), due - now);
  }

  async #look(): Promise<void> {
    const [began, at, heard] = [performance.now(), Date.now(), this.#heard];
    this.#due = Number.POSITIVE_INFINITY;
    this.#heard = new Set();
    this.#looking = true;
    try {
      const look = await this.#taken();
      // What came while it was taken, it may have seen.
      this.#seen(at, look, new Set([...heard, ...this.#heard]));
      this.#tell("");
    } catch (error) {
      for (const kind of heard) this.#heard.add(kind);
      if (!this.#stop.signal.aborted) this.#tell(messageOf(error));
    }
    this.#looking = false;
    const took = performance.now() - began;
    this.#notBefore = began + Math.max(this.times.leastMs, took + REST * took);
    const asked = this.#due;
    this.#due = Number.POSITIVE_INFINITY;
    this.#lookIn(asked === Number.POSITIVE_INFINITY ? this.times.idleMs : 0);
  }

  async #taken(): Promise<Look> {
    const { exitCode, stdout, stderr } = await this.options.run([LOOKER], this.#stop.signal);
    if (exitCode !== 0) throw new Error(stderr.trim() || `it ended with ${exitCode}`);
    return JSON.parse(stdout) as Look;
  }

  #seen(at: number, look: Look, kinds: ReadonlySet<NodeEvent["kind"]>): void {
    const { journal, historian, log, looked } = this.options;
    journal?.keepCut(at, look.snapshot);
    const before = this.#before;
    this.#before = { at, look };
    looked(look, at);
    if (before === undefined) return;
    const change = historian.lastChange;
    const by = change !== undefined && change.at >= before.at ? { by: change.by } : {};
    const event = wayOutEvent(at, before.look.verdicts, look.verdicts, { kinds, ...by });
    if (event === undefined) return;
    historian.record(event);
    const broken = event.effects?.find(({ became }) => became === "broken");
    log.write(broken === undefined ? "info" : "warn", "way-out", {
      message: event.text,
      pod: broken?.pod,
      why: broken?.text,
      ...(event.by === undefined ? {} : { by: culpritText(event.by) }),
    });
  }

  /** Told when it changes, not at every look. */
  #tell(trouble: string): void {
    if (trouble === this.#trouble) return;
    this.#trouble = trouble;
    if (trouble === "")
      this.options.log.write("info", "look", { message: "looking at the node works again" });
    else this.options.log.write("error", "look", { message: `looking at the node failed: ${trouble}` });
  }
}
