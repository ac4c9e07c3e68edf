/**
 * What the page may cost the agent: of the time, its answers may take a share. What was not used is saved up for a while, so
 * that a change is looked at at once, and a storm of them now and then.
 */
const SAVED_MS = 3_000;
/** What is left for changes by those who only ask again and again. */
const RESERVE_MS = SAVED_MS / 2;

export class Budget {
  #left = SAVED_MS;
  #at = performance.now();

  /** @param rest an answer is paid for after so many times as long as it took */
  constructor(private readonly rest: () => number) {}

  /** How long to wait before something that changed is looked at, in milliseconds. */
  get waitMs(): number {
    return this.#until(0);
  }

  /** How long to wait before asking again without a reason. */
  get idleMs(): number {
    return this.#until(RESERVE_MS);
  }

  pay(tookMs: number): void {
    this.#settle();
    this.#left -= tookMs;
  }

  #until(left: number): number {
    this.#settle();
    return Math.max(0, (left - this.#left) * this.rest());
  }

  #settle(): void {
    const now = performance.now();
    this.#left = Math.min(SAVED_MS, this.#left + (now - this.#at) / this.rest());
    this.#at = now;
  }
}
