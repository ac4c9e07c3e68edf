/** When to look at the whole node, and what is done with what was seen. */
import { messageOf } from "../../error.ts";
import type { AgentListener } from "../agent.ts";
import type { Answered } from "../api/ask-self.ts";
import { culpritText } from "../culprit.ts";
import { whileDown, type Historian, type RulesChange } from "../historian.ts";
import type { Journal, JournalEvent } from "../journal/journal.ts";
import type { AgentLog } from "../log.ts";
import type { NodeEvent } from "../node-events.ts";
import type { Look, LookVerdict } from "./look.ts";
import { LOOKER } from "./name.ts";
import { wayOutEvent } from "./way-out-event.ts";
import { present } from "../../present.ts";

export interface LookTimes {
  /** A change is let come to its end. */
  readonly settleMs: number;
  /** For long, a snapshot is kept for the journal so often; a few more (KEPT_AT_ONCE) soon after each other. */
  readonly keepMs: number;
  /** Looks may take a share of a core's time (`rest`); what was not used is saved up to so much. */
  readonly savedMs: number;
  /** For long, looks take one part in so many of a core's time: a change is seen at once, a storm of them now and then. */
  readonly rest: number;
  /** What announces nothing (sysctls, full tables, failing neighbours) is found by a look after this. */
  readonly idleMs: number;
}

const TIMES: LookTimes = { settleMs: 150, keepMs: 10_000, savedMs: 5_000, rest: 20, idleMs: 300_000 };
/** A lab is there to be looked at. */
const LAB_REST = 0.5;
const KEPT_AT_ONCE = 5;
/** Besides, those on which pods lost or gained their way out: a break that heals at once can be seen on no other. */
const CHANGES_AT_ONCE = 20;

export interface LooksOptions {
  /** Runs this program with these words, in the node's namespace. */
  readonly run: (words: readonly string[], signal: AbortSignal) => Promise<Answered>;
  readonly log: AgentLog;
  readonly historian: Historian;
  readonly journal: Journal | undefined;
  /** Hears of every look: when it began as milliseconds since the epoch, and of `performance.now`. */
  readonly looked: (look: Look, at: number, began: number) => void;
  readonly lab?: boolean;
}

/** Of a look: the time of day, the same of `performance.now`, and the last change of rules then. */
interface Begun {
  readonly since: number;
  readonly began: number;
  readonly change: RulesChange | undefined;
}

/** So many at once, and for long one in so many milliseconds. */
class Allowance {
  /** When all that was used would have been due. */
  #usedUpTo = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly everyMs: number,
    private readonly atOnce: number,
  ) {}

  get waitMs(): number {
    return Math.max(0, this.#usedUpTo - (this.atOnce - 1) * this.everyMs - performance.now());
  }

  use(): void {
    this.#usedUpTo = Math.max(this.#usedUpTo, performance.now()) + this.everyMs;
  }
}

export class Looks implements AgentListener {
  readonly #stop = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #due = Number.POSITIVE_INFINITY;
  #budget: { readonly left: number; readonly at: number };
  readonly #kept: Allowance;
  readonly #changesKept: Allowance;
  #looking = false;
  /** Whether the last look was passed over. */
  #passedOver = false;
  /** What was heard since the last look began. */
  #heard = new Set<NodeEvent["kind"]>();
  #before:
    | {
        readonly at: number;
        readonly verdicts: readonly LookVerdict[];
        readonly byOther: boolean;
        /** The last change of rules when it began. */
        readonly change: RulesChange | undefined;
      }
    | undefined;
  /** A snapshot that is not in the journal yet. */
  #unkept: { readonly at: number; readonly snapshot: Look["snapshot"] } | undefined;
  #keeping: ReturnType<typeof setTimeout> | undefined;
  #trouble = "";

  constructor(
    private readonly options: LooksOptions,
    private readonly times = options.lab === true ? { ...TIMES, rest: LAB_REST } : TIMES,
  ) {
    this.#budget = { left: times.savedMs, at: performance.now() };
    this.#kept = new Allowance(times.keepMs, KEPT_AT_ONCE);
    this.#changesKept = new Allowance(times.keepMs, CHANGES_AT_ONCE);
    this.#before = lastOf(options.journal);
    this.#lookIn(0);
  }

  readonly event = ({ kind }: NodeEvent): void => {
    this.#heard.add(kind);
    // Who tells of anything at all has let it settle already.
    this.#lookIn(kind === "any" ? 0 : this.times.settleMs);
  };

  stop(): void {
    clearTimeout(this.#timer);
    this.#keep();
    this.#stop.abort();
  }

  /** Sooner when a look is due before; while one is taken, the next waits for it. */
  #lookIn(delayMs: number): void {
    const now = performance.now();
    const due = Math.max(now + delayMs, this.#affordable());
    if (due >= this.#due || this.#stop.signal.aborted) return;
    this.#due = due;
    if (this.#looking) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#look(), due - now);
  }

  /** When there is time for another look. */
  #affordable(): number {
    const { left, at } = this.#budget;
    return left > 0 ? at : at - left * this.times.rest;
  }

  #pay(tookMs: number): void {
    const now = performance.now();
    const { left, at } = this.#budget;
    this.#budget = {
      left: Math.min(this.times.savedMs, left + (now - at) / this.times.rest) - tookMs,
      at: now,
    };
  }

  async #look(): Promise<void> {
    const [began, since, heard] = [performance.now(), Date.now(), this.#heard];
    const change = this.options.historian.lastChange;
    this.#due = Number.POSITIVE_INFINITY;
    this.#heard = new Set();
    this.#looking = true;
    let tookMs: number | undefined;
    try {
      const { look, cpuMs } = await this.#taken();
      tookMs = cpuMs;
      // It saw one part before what changed meanwhile, and another after it: the next look tells, and is there soon. Only where
      // changes never end, what was seen between them has to do.
      this.#passedOver = this.#heard.size > 0 && !this.#passedOver;
      // What came while it was taken, it may have seen: it is of the moment when it ended.
      const kinds = new Set([...heard, ...this.#heard]);
      if (this.#passedOver) this.#heard = kinds;
      else this.#seen({ since, began, change }, look, kinds);
      this.#tell("");
    } catch (error) {
      for (const kind of heard) this.#heard.add(kind);
      if (!this.#stop.signal.aborted) this.#tell(messageOf(error));
    }
    this.#looking = false;
    // On a busy machine it waits for its turn most of the time, which is no work of ours.
    this.#pay(tookMs ?? performance.now() - began);
    const asked = this.#due;
    this.#due = Number.POSITIVE_INFINITY;
    this.#lookIn(asked === Number.POSITIVE_INFINITY ? this.times.idleMs : 0);
  }

  async #taken(): Promise<{ readonly look: Look; readonly cpuMs: number | undefined }> {
    const { exitCode, stdout, stderr, cpuMs } = await this.options.run([LOOKER], this.#stop.signal);
    if (exitCode !== 0) throw new Error(stderr.trim() || `it ended with ${exitCode}`);
    return { look: JSON.parse(stdout) as Look, cpuMs };
  }

  /** @param begun when it began: what changed after that, the next one tells of */
  #seen({ since, began, change: known }: Begun, look: Look, kinds: ReadonlySet<NodeEvent["kind"]>): void {
    const { journal, historian, looked } = this.options;
    const at = Date.now();
    const before = this.#before;
    const change = historian.lastChange;
    const isByOther = before !== undefined && !before.byOther && change !== undefined;
    const by = isByOther && change !== before.change ? { by: change.by } : {};
    const changed =
      before === undefined ? undefined : wayOutEvent(at, before.verdicts, look.verdicts, { kinds, ...by });
    this.#unkept = { at, snapshot: look.snapshot };
    this.#keepSoon(changed !== undefined);
    this.#before = { at: since, verdicts: look.verdicts, byOther: false, change: known };
    journal?.noteLast("verdicts", at, look.verdicts);
    looked(look, since, began);
    if (before === undefined) return this.#tellFirst(at, look.verdicts);
    if (changed === undefined) return;
    this.#record(before.byOther ? { ...changed, text: `${whileDown(before.at)}: ${changed.text}` } : changed);
  }

  /** Nobody knows since when; that it is so is told all the same. */
  #tellFirst(at: number, verdicts: readonly LookVerdict[]): void {
    const well = verdicts.map((one) => ({
      ...one,
      healthy: true,
      findings: one.findings.filter(({ stopsTraffic }) => !stopsTraffic),
    }));
    const event = wayOutEvent(at, well, verdicts, { kinds: new Set() });
    if (event !== undefined) this.#record({ ...event, text: `when the agent began: ${event.text}` });
  }

  #record(event: JournalEvent): void {
    const { historian, log } = this.options;
    historian.record(event);
    const broken = event.effects?.find(({ became }) => became === "broken");
    log.write(
      broken === undefined ? "info" : "warn",
      "way-out",
      present({
        message: event.text,
        pod: broken?.pod,
        why: broken?.text,
        by: event.by === undefined ? undefined : culpritText(event.by),
      }),
    );
  }

  #keepSoon(isChange: boolean): void {
    if (isChange && this.#changesKept.waitMs === 0) return this.#keep(this.#changesKept);
    const wait = this.#kept.waitMs;
    if (wait === 0) this.#keep();
    else this.#keeping ??= setTimeout(() => this.#keep(), wait);
  }

  #keep(allowance = this.#kept): void {
    clearTimeout(this.#keeping);
    this.#keeping = undefined;
    if (this.#unkept === undefined) return;
    this.options.journal?.keepCut(this.#unkept.at, this.#unkept.snapshot);
    this.#unkept = undefined;
    allowance.use();
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

/** What an agent before this one saw last. */
function lastOf(journal: Journal | undefined) {
  const last = journal?.last("verdicts");
  if (last === undefined || !Array.isArray(last.value)) return undefined;
  const verdicts = last.value as readonly LookVerdict[];
  return { at: last.at, verdicts, byOther: true, change: undefined };
}
