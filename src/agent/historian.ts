/** Writes down what the agent hears and does. */
import { ADMISSION_DOORS } from "../admission/doors.ts";
import { monotonicMs } from "../kernel/calls.ts";
import { isOwnProgram } from "../kernel/own-programs.ts";
import type { AgentListener } from "./agent.ts";
import { CAUSE_MS, RecentChanges } from "./recent-changes.ts";
import { culpritOf, culpritText, NO_WITNESSES, type Witnesses } from "./culprit.ts";
import type { Culprit, Journal, JournalEvent } from "./journal/journal.ts";
import type { NetworkNote, NetworkNotes } from "./network-notes.ts";
import type { NodeEvent } from "./node-events.ts";
import type { Round } from "./reconcile/reconciler.ts";
import { present } from "../present.ts";

/**
 * The rules may be compared, for another reason, before it is known who changed them; on a busy machine long before.
 * So long a repair is not written down.
 */
const WORD_MS = CAUSE_MS;

/** Steps that put back rules. */
const OF_RULES: ReadonlySet<string> = new Set(["nat", ...ADMISSION_DOORS]);

/** Who hears of events as they are written, with their number and, of a repair, the step that made it. */
export type EventSink = (event: JournalEvent, id: number | undefined, step?: string) => void;

/** A change of rules that was not the agent's own. */
export interface RulesChange {
  /** Of the clock that nobody sets (monotonicMs). */
  readonly moment: number;
  readonly by: Culprit;
}

/** Before what is told of a time in which nobody listened. */
export function whileDown(since: number): string {
  return `since ${new Date(since).toISOString()}, while no agent looked`;
}

export class Historian implements AgentListener, Disposable {
  #last: RulesChange | undefined;
  /** Repairs of rules of which nobody has said yet who made them necessary. */
  #waiting: { readonly event: JournalEvent; readonly step: string }[] = [];

  /** What the agent put back, and when (monotonicMs): that it is there again is no news. */
  readonly #repaired = new Map<string, number>();

  readonly #changes: RecentChanges;

  /**
   * @param own the agent's own process, whose transactions are its repairs
   * @param witnesses who knows more of processes, and the inode of the namespace that they are asked about
   */
  constructor(
    private readonly journal: Journal | undefined,
    private readonly notes: NetworkNotes,
    private readonly sink: EventSink = () => {},
    private readonly now: () => number = Date.now,
    private readonly own: number = process.pid,
    private readonly witnesses: Witnesses & { readonly inode?: number } = NO_WITNESSES,
  ) {
    this.#changes = new RecentChanges(witnesses, witnesses.inode ?? 0, own);
  }

  readonly event = (event: NodeEvent): void => {
    if (event.kind === "network") {
      for (const one of event.changes) {
        this.#changes.hear(one);
        this.#note("network", this.notes.of(one), () => this.#changes.ofChange(one));
      }
    }
    if (event.kind === "setting") {
      for (const one of event.turned)
        this.#note("setting", this.notes.setting(one), (object) => this.#changes.ofSetting(object));
    }
    if (event.kind === "sysctl") this.#sysctl(event);
    if (event.kind === "legacy") this.#legacyRules();
    if (event.kind === "lost") this.#lost();
    if (event.kind === "rules" && !this.#isOwn(event.pid)) this.#rules(event);
  };

  /** Its repairs, and those of the programs that it had to start for them. */
  #isOwn(pid: number | undefined): boolean {
    if (pid === undefined) return false;
    const parents = this.witnesses.process(pid)?.parents ?? [];
    return [pid, ...parents.map((one) => one.pid)].some((one) => one === this.own || isOwnProgram(one));
  }

  /** What leads out is compared with what an agent noted last: nobody heard what changed in between. */
  resume(): void {
    const last = this.journal?.last("network");
    const now = this.notes.facts();
    if (last !== undefined && Array.isArray(last.value)) {
      const before = new Set(last.value.filter((one) => typeof one === "string"));
      const changes = [
        ...[...before].filter((fact) => !now.includes(fact)).map((fact) => `${fact} went`),
        ...now.filter((fact) => !before.has(fact)).map((fact) => `${fact} came`),
      ];
      for (const change of changes)
        this.record({
          at: this.now(),
          kind: "network",
          object: "node",
          text: `${whileDown(last.at)}: ${change}`,
        });
    }
    this.journal?.noteLast("network", this.now(), now);
  }

  #note(
    kind: "network" | "setting",
    notes: readonly NetworkNote[],
    culprit: (object: string) => Culprit | undefined,
  ): void {
    const [at, moment] = [this.now(), monotonicMs()];
    let changed = false;
    for (const { object, text, there } of notes) {
      const repaired = this.#repaired.get(object);
      if (there && repaired !== undefined && moment - repaired <= CAUSE_MS) continue;
      const by = culprit(object);
      if (by !== undefined) this.#changes.note(object, by);
      this.record(present({ at, kind, object, text, by }));
      changed = true;
    }
    if (changed) this.journal?.noteLast("network", at, this.notes.facts());
  }

  #sysctl({ name, before, value }: Extract<NodeEvent, { kind: "sysctl" }>): void {
    const text = `${name} is ${value} now; it was ${before}`;
    const by = this.#changes.ofSetting(name);
    this.record(present({ at: this.now(), kind: "setting", object: name, text, by }));
  }

  #legacyRules(): void {
    const at = this.now();
    const by = culpritOf({});
    this.#last = { moment: monotonicMs(), by };
    const text = "the rules of iptables-legacy were changed";
    this.record({ at, kind: "rules", object: "ruleset", text, by });
    this.#settle(by);
  }

  #lost(): void {
    this.notes.renew();
    const text = "more changed at once than could be received: changes of that moment are missing here";
    this.record({ at: this.now(), kind: "agent", object: "agent", text });
  }

  #rules(event: Extract<NodeEvent, { kind: "rules" }>): void {
    const by = culpritOf(event, undefined, this.witnesses);
    this.#last = { moment: monotonicMs(), by };
    this.record({
      at: this.now(),
      kind: "rules",
      object: "ruleset",
      text: `${culpritText(by)} changed the rules (generation ${event.generation})`,
      by,
    });
    this.#settle(by);
  }

  readonly round = ({ repairs, failures, fights }: Round): void => {
    const [at, moment] = [this.now(), monotonicMs()];
    const last = this.#last;
    const cause = last !== undefined && moment - last.moment <= CAUSE_MS ? last.by : undefined;
    for (const [object, when] of this.#repaired) if (moment - when > CAUSE_MS) this.#repaired.delete(object);
    for (const { step, object, found } of repairs) {
      const event: JournalEvent = { at, kind: "repair", object, text: found };
      this.#repaired.set(object, moment);
      const known = OF_RULES.has(step) ? undefined : this.#changes.of(object);
      if (!OF_RULES.has(step)) this.record(known === undefined ? event : { ...event, by: known }, step);
      else if (cause !== undefined) this.record({ ...event, by: cause }, step);
      else if (this.#waiting.push({ event, step }) === 1) setTimeout(() => this.#settle(undefined), WORD_MS);
    }
    for (const { step, message } of failures)
      this.record({ at, kind: "failure", object: step, text: message });
    for (const { object, pauseMs } of fights) {
      this.record(
        present({
          at,
          kind: "fight",
          object,
          text: `another program undoes the repair again and again; from now on it is repaired after ${pauseMs} ms`,
          by: cause,
        }),
      );
    }
  };

  /** Who, besides the agent, changed the rules last: another value after each change. */
  get lastChange(): RulesChange | undefined {
    return this.#last;
  }

  /** Nothing that waits for a word is lost. */
  [Symbol.dispose](): void {
    this.#settle(undefined);
  }

  #settle(by: Culprit | undefined): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { event, step } of waiting) this.record(by === undefined ? event : { ...event, by }, step);
  }

  record(event: JournalEvent, step?: string): void {
    this.sink(event, this.journal?.record(event), step);
  }
}
