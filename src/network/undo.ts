import { messageOf } from "../error.ts";

/** What was made so far, to be taken away in the opposite order when a later step fails. */
export class Undo {
  readonly #steps: (readonly [string, () => void])[] = [];

  /** @param what in words for an error message: "the bridge cni0" */
  note(what: string, step: () => void): void {
    this.#steps.push([what, step]);
  }

  /** Goes on past failures and tells what could not be taken away. */
  run(): string[] {
    const left: string[] = [];
    for (const [what, step] of this.#steps.splice(0).toReversed()) {
      try {
        step();
      } catch (error) {
        left.push(`${what} (${messageOf(error)})`);
      }
    }
    return left;
  }
}
