/**
 * Answers that take their time are given by a process of their own: the same program, asked as a person would ask it. The
 * agent's own loop never waits for it; what does not end by itself is ended, and nothing that goes wrong there is the agent's end.
 */
/** So many at once; others wait for their turn. */
const AT_ONCE = 2;
/** So many may wait; more are turned away. */
const MOST_WAITING = 32;

export interface Answered {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Processor time that it took, where that is known. */
  readonly cpuMs?: number;
}

export class TooBusy extends Error {}

/** Asks this program. `run` is one process with these words. */
export class SelfAsker {
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(private readonly run: (words: readonly string[]) => Promise<Answered>) {}

  /** @throws TooBusy when too many wait already */
  async ask(words: readonly string[]): Promise<Answered> {
    await this.#turn();
    try {
      return await this.run(words);
    } finally {
      this.#running--;
      this.#waiting.shift()?.();
    }
  }

  async #turn(): Promise<void> {
    if (this.#running >= AT_ONCE) {
      if (this.#waiting.length >= MOST_WAITING) throw new TooBusy();
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#running++;
  }
}
