/** When to compare and mend: at every event, once for many, and later where mending is of no use. */
import { messageOf } from "../../error.ts";
import type { ReconcileStep, Repair } from "./step.ts";

/** A step that failed is tried again after this, then after twice as long, and so on. */
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 30_000;
/** So many repairs of one thing within the window are a fight: another program keeps undoing it. */
const FIGHT_REPAIRS = 5;
const FIGHT_WINDOW_MS = 10_000;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;

export interface StepFailure {
  readonly step: string;
  readonly message: string;
}

/** Another program undoes a repair again and again: it is mended less often now. */
export interface Fight {
  readonly step: string;
  readonly object: string;
  readonly pauseMs: number;
}

export interface Round {
  readonly repairs: readonly Repair[];
  readonly failures: readonly StepFailure[];
  readonly fights: readonly Fight[];
  readonly tookMs: number;
}

interface StepState {
  readonly step: ReconcileStep;
  retryMs: number;
  notBefore: number;
  failure: string | undefined;
  /** When each object was repaired lately. */
  readonly repaired: Map<string, number[]>;
  pauseMs: number;
}

/** Runs the steps, each for itself. Time is milliseconds of `now`, which tests may replace. */
export class Reconciler {
  readonly #steps: readonly StepState[];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #due = Number.POSITIVE_INFINITY;
  #stopped = false;

  constructor(
    steps: readonly ReconcileStep[],
    private readonly told: (round: Round) => void,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.#steps = steps.map((step) => ({
      step,
      retryMs: FIRST_RETRY_MS,
      notBefore: 0,
      failure: undefined,
      repaired: new Map(),
      pauseMs: FIRST_PAUSE_MS,
    }));
  }

  /** Something may have changed: compare as soon as the events that are waiting have been read. */
  wake(): void {
    this.#wakeAt(this.now());
  }

  /** Compares and mends now. */
  run(): Round {
    const began = this.now();
    const repairs: Repair[] = [];
    const failures: StepFailure[] = [];
    const fights: Fight[] = [];
    for (const state of this.#steps) {
      if (state.notBefore > began) {
        this.#wakeAt(state.notBefore);
        continue;
      }
      try {
        const done = state.step.run();
        state.failure = undefined;
        state.retryMs = FIRST_RETRY_MS;
        repairs.push(...done);
        fights.push(...this.#fights(state, done, began));
      } catch (error) {
        failures.push(...this.#failed(state, messageOf(error), began));
      }
    }
    const round = { repairs, failures, fights, tookMs: this.now() - began };
    this.told(round);
    return round;
  }

  /** What could not be mended up to now. */
  get failures(): StepFailure[] {
    return this.#steps.flatMap(({ step, failure }) =>
      failure === undefined ? [] : [{ step: step.name, message: failure }],
    );
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #wakeAt(time: number): void {
    if (this.#stopped || time >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = time;
    this.#timer = setTimeout(
      () => {
        this.#due = Number.POSITIVE_INFINITY;
        this.run();
      },
      Math.max(0, time - this.now()),
    );
  }

  /** Told once, not at every attempt. */
  #failed(state: StepState, message: string, at: number): StepFailure[] {
    state.notBefore = at + state.retryMs;
    state.retryMs = Math.min(2 * state.retryMs, LONGEST_RETRY_MS);
    this.#wakeAt(state.notBefore);
    if (state.failure === message) return [];
    state.failure = message;
    return [{ step: state.step.name, message }];
  }

  #fights(state: StepState, repairs: readonly Repair[], at: number): Fight[] {
    for (const [object, times] of state.repaired) {
      const recent = times.filter((time) => at - time < FIGHT_WINDOW_MS);
      if (recent.length === 0) state.repaired.delete(object);
      else state.repaired.set(object, recent);
    }
    if (state.repaired.size === 0) state.pauseMs = FIRST_PAUSE_MS;
    const fights: Fight[] = [];
    for (const { object } of repairs) {
      const times = [...(state.repaired.get(object) ?? []), at];
      state.repaired.set(object, times);
      if (times.length < FIGHT_REPAIRS) continue;
      fights.push({ step: state.step.name, object, pauseMs: state.pauseMs });
    }
    if (fights.length > 0) {
      state.notBefore = at + state.pauseMs;
      state.pauseMs = Math.min(2 * state.pauseMs, LONGEST_PAUSE_MS);
      this.#wakeAt(state.notBefore);
    }
    return fights;
  }
}
