import type { Conntrack } from "../kernel/conntrack/conntrack.ts";
import type { ConntrackEventKind, ConntrackEvents } from "../kernel/conntrack/events.ts";
import type { EntryScan } from "../linux/conntrack/scan.ts";
import type { ProgramFlowWatch } from "./program-flow-watch.ts";
import type { CompiledFilter } from "./flow-filter.ts";

/** Events taken in one go before what was said about them goes out. */
const BATCH_EVENTS = 20_000;
/** More than fit into the largest queue. */
const DRAINED_BATCHES = 50;

/** Who is told what happens to flows. */
export interface FlowWatcher {
  /**
   * `missed` says that it was not an event that told us, but a look at the table after events were lost. The scan is
   * valid until the call returns.
   */
  changed(kind: ConntrackEventKind, scan: EntryScan, missed: boolean): void;
  /** A flow ended while events were lost; what `remember` gave for it is all that is known. */
  vanished(memory: Uint8Array): void;
  /** What to remember of a flow, in case its end is missed. The bytes are kept. */
  remember(scan: EntryScan): Uint8Array;
  /** The kernel dropped this many events; undefined when it cannot tell. The table is read again after this. */
  lost(count: number | undefined): void;
  /** The table was read again: what was missed has been told. */
  resynced(flows: number): void;
  /** Everything that waited has been told. */
  settled(): void;
}

/**
 * Follows flows without a silent gap. It knows which flows there are; when the kernel drops events because we read
 * too slowly, it says so, reads the table, and tells what appeared and what vanished meanwhile.
 */
export class FlowWatch {
  readonly #known = new Map<number, Uint8Array>();
  /** Flows whose end the last look at the table told; their events may still be queued. */
  readonly #buried = new Set<number>();
  #dropped: number | undefined;

  /** @param events opened before this, so that nothing falls between the first look at the table and them */
  constructor(
    readonly events: ConntrackEvents,
    readonly table: Conntrack,
    readonly filter: CompiledFilter,
    readonly watcher: FlowWatcher,
    /** Of those that stand in no table of the kernel. */
    readonly beside?: ProgramFlowWatch,
  ) {
    this.#dropped = events.dropped();
    this.#look((scan) => this.#known.set(scan.key, watcher.remember(scan)));
  }

  /** How many flows are known to be there now. */
  get flows(): number {
    return this.#known.size + (this.beside?.flows ?? 0);
  }

  /** Tells what has happened, after waiting up to `timeoutMs` for something. Returns the number of events read. */
  next(timeoutMs: number): number {
    const { beside } = this;
    const wait = beside === undefined ? timeoutMs : Math.min(timeoutMs, Math.ceil(beside.waitMs));
    const { events, overrun } = this.events.read(this.#note, wait, BATCH_EVENTS);
    const looked = beside?.next((kind, scan) => this.watcher.changed(kind, scan, false)) ?? 0;
    // The counter also tells of events that were lost while the table was read the last time.
    const lost = overrun || this.events.dropped() !== this.#dropped;
    if (lost) this.#resync();
    if (events > 0 || looked > 0 || lost) this.watcher.settled();
    return events + looked;
  }

  readonly #note = (kind: ConntrackEventKind, scan: EntryScan): void => {
    if (!this.filter.matches(scan)) return;
    if (kind === "destroy") {
      this.#known.delete(scan.key);
      if (this.#buried.delete(scan.key)) return;
    } else if (!this.#known.has(scan.key)) {
      this.#known.set(scan.key, this.watcher.remember(scan));
      // A look at the table may already have told that it is there.
    } else if (kind === "new") return;
    this.watcher.changed(kind, scan, false);
  };

  #resync(): void {
    const before = this.#dropped;
    const after = this.events.dropped();
    this.#dropped = after;
    this.watcher.lost(before === undefined || after === undefined ? undefined : after - before);
    // What was queued before the gap is told before the table is read, so that the table is the newer truth.
    for (let batch = 0; batch < DRAINED_BATCHES; batch++) {
      if (this.events.read(this.#note, 0, BATCH_EVENTS).events === 0) break;
      this.watcher.settled();
    }
    const seen = new Set<number>();
    this.#look((scan) => {
      seen.add(scan.key);
      if (this.#known.has(scan.key)) return;
      this.#known.set(scan.key, this.watcher.remember(scan));
      this.watcher.changed("new", scan, true);
    });
    this.#buried.clear();
    for (const [key, memory] of this.#known) {
      if (seen.has(key)) continue;
      this.#known.delete(key);
      this.#buried.add(key);
      this.watcher.vanished(memory);
    }
    this.watcher.resynced(this.#known.size);
  }

  #look(visitor: (scan: EntryScan) => void): void {
    this.table.scan((scan) => {
      if (this.filter.matches(scan)) visitor(scan);
    }, this.filter.kernel);
  }
}
