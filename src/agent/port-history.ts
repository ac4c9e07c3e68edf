/**
 * How many source ports the fullest destinations needed over the last hour. Finding out means looking through the whole
 * connection table: it is done now and then, and whenever others asked for it anyway.
 */
import type { OutgoingPortUse } from "../flows/flow-statistics.ts";

const EVERY_MS = 60_000;
/** Between two looks so many times as long as the last one took. */
const REST = 300;
const KEPT_MS = 3_600_000;
/** Closer together they tell nothing new. */
const LEAST_MS = 5_000;
const MOST_USES = 5;

export interface PortFigure {
  /** ISO 8601. */
  readonly at: string;
  /** The fullest first. */
  readonly uses: readonly Pick<
    OutgoingPortUse,
    "protocol" | "outgoing" | "destination" | "port" | "used" | "of"
  >[];
}

export class PortHistory implements Disposable {
  #kept: readonly PortFigure[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  /** @param look through the table; what it finds is handed to `note` */
  constructor(
    private readonly look: () => Promise<unknown>,
    private readonly now: () => number = Date.now,
  ) {
    this.#lookIn(0);
  }

  /** The oldest first. */
  get kept(): readonly PortFigure[] {
    return this.#kept;
  }

  note(uses: readonly OutgoingPortUse[]): void {
    const now = this.now();
    const last = this.#kept.at(-1);
    // The clock may have been set back.
    if (last !== undefined && Math.abs(now - Date.parse(last.at)) < LEAST_MS) return;
    const fullest = uses
      .toSorted((a, b) => b.used / b.of - a.used / a.of)
      .slice(0, MOST_USES)
      .map(({ protocol, outgoing, destination, port, used, of }) => ({
        protocol,
        outgoing,
        destination,
        port,
        used,
        of,
      }));
    this.#kept = [
      ...this.#kept.filter(({ at }) => now - Date.parse(at) < KEPT_MS),
      { at: new Date(now).toISOString(), uses: fullest },
    ];
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #lookIn(ms: number): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      const began = performance.now();
      const again = (): void => this.#lookIn(Math.max(EVERY_MS, (performance.now() - began) * REST));
      // What a look failed with is told to those who asked for one.
      void this.look().then(again, again);
    }, ms);
  }
}
