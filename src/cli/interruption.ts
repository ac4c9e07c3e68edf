/**
 * Ctrl-C and SIGTERM while something is being made: the signal waits until the step is whole (all changes are
 * synchronous, and a handler only runs between them); then the command sees that it was interrupted and undoes.
 */
export class Interruption implements Disposable {
  #signal: NodeJS.Signals | undefined;
  readonly #note = (signal: NodeJS.Signals): void => {
    this.#signal ??= signal;
  };

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.#note);
  }

  /** Whether a signal has come by now. Signals are delivered by the event loop, which gets one turn here. */
  async happened(): Promise<boolean> {
    await Bun.sleep(0);
    return this.#signal !== undefined;
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.off(signal, this.#note);
  }
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
