/**
 * Holds back what would take away most of what is there: a server that lost its memory, an operator in the wrong cluster, a
 * list with a filter look like that. What is meant is still meant a minute later.
 */

/** More than this share at once is doubted. */
const MOST_AT_ONCE = 0.5;
const WAIT_MS = 60_000;

export class DeletionGuard {
  #since: number | undefined;

  /** @param now milliseconds, only growing */
  constructor(private readonly now: () => number = () => performance.now()) {}

  /** How long the deletion of `going` out of `there` has to wait still; 0: not at all. */
  waitMs(there: number, going: number): number {
    if (going <= there * MOST_AT_ONCE) {
      this.#since = undefined;
      return 0;
    }
    this.#since ??= this.now();
    return Math.max(0, this.#since + WAIT_MS - this.now());
  }
}
