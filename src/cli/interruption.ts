/**
 * Ctrl-C and SIGTERM while something is being made: the signal waits until the step is whole (all changes are
 * synchronous, and a handler only runs between them); then the command sees that it was interrupted and undoes.
 */
export class Interruption implements Disposable {
  readonly #abort = new AbortController();
  readonly #note = (): void => this.#abort.abort();

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.#note);
  }

  /** For whatever only waits: it need not go on. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Whether a signal has come by now. Signals are delivered by the event loop, which gets one turn here. */
  async happened(): Promise<boolean> {
    await Bun.sleep(0);
    return this.#abort.signal.aborted;
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.off(signal, this.#note);
  }
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
