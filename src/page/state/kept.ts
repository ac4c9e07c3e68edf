/** One answer of the agent, kept up to date: what it was last, whether it is being asked for, and what went wrong. */
import { signal, type Signal } from "@preact/signals";
import { Refused } from "./ask.ts";
import { present } from "../../present.ts";

export interface Kept<T> {
  /** The last answer; still there while a newer one is asked for, or when that failed. */
  readonly value?: T;
  readonly trouble?: Refused;
  readonly asking: boolean;
}

export class Keeper<T> {
  readonly state: Signal<Kept<T>> = signal({ asking: false });
  /** How long the last answer took, in milliseconds. */
  tookMs = 0;
  #current: AbortController | undefined;

  /** Asks; a question that is still open is given up. @param fresh the old answer is of something else: forget it */
  async ask(question: (signal: AbortSignal) => Promise<T>, fresh = false): Promise<void> {
    this.#current?.abort();
    const own = new AbortController();
    this.#current = own;
    const { value } = this.state.peek();
    this.state.value = present({ value: fresh || value === undefined ? undefined : value, asking: true });
    const began = performance.now();
    try {
      const answer = await question(own.signal);
      if (own.signal.aborted) return;
      this.tookMs = performance.now() - began;
      this.state.value = { value: answer, asking: false };
    } catch (error) {
      if (own.signal.aborted) return;
      const trouble = error instanceof Refused ? error : new Refused("failed", String(error));
      const last = this.state.peek().value;
      this.state.value = present({ value: last, trouble, asking: false });
    }
  }

  /** What was known without asking. */
  begin(value: T): void {
    this.state.value = { value, asking: false };
  }

  forget(): void {
    this.#current?.abort();
    this.state.value = { asking: false };
  }
}
