/** The last picture of the node, for those who take one that is a little old; and one drawing for all who wait for it. */
import type { Answer } from "../api/answer.ts";
import type { NodePicture } from "./picture.ts";

interface Drawn {
  /** When the node was looked at. Milliseconds of `now`. */
  readonly at: number;
  readonly answer: Answer;
}

export class Pictures {
  #last: Drawn | undefined;
  #drawing: { readonly at: number; readonly answer: Promise<Answer> } | undefined;
  /** Begins when the one that is being drawn is done. */
  #next: Promise<Answer> | undefined;

  constructor(
    private readonly draw: () => Promise<Answer>,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** What the agent saw by itself. @param at of `now` */
  seen(picture: NodePicture, at: number): void {
    this.#keep({ at, answer: { kind: "json", value: picture } });
  }

  /** The last one, as JSON; undefined before the first. Nobody is waited for. */
  get lastText(): string | undefined {
    const answer = this.#last?.answer;
    return answer?.kind === "text" ? answer.text : undefined;
  }

  /** @param ageMs so old it may be: 0 for one that is begun now */
  get(ageMs: number): Answer | Promise<Answer> {
    const from = this.now() - ageMs;
    if (this.#last !== undefined && this.#last.at >= from && ageMs > 0) return this.#last.answer;
    const { answer: current, at: began = 0 } = this.#drawing ?? {};
    if (current === undefined) return this.#draw();
    if (began >= from && ageMs > 0) return current;
    return (this.#next ??= current.then(
      () => this.#draw(),
      () => this.#draw(),
    ));
  }

  #draw(): Promise<Answer> {
    this.#next = undefined;
    const at = this.now();
    const answer = this.draw().then((drawn) => {
      this.#keep({ at, answer: drawn });
      return drawn;
    });
    const own = { at, answer };
    this.#drawing = own;
    void answer
      .catch(() => {})
      .finally(() => {
        if (this.#drawing === own) this.#drawing = undefined;
      });
    return answer;
  }

  #keep(drawn: Drawn): void {
    const { answer, at } = drawn;
    if (answer.kind !== "json" || (answer.status ?? 200) !== 200) return;
    if (this.#last !== undefined && this.#last.at > at) return;
    // Written once, however many ask for it.
    const text = JSON.stringify(answer.value);
    this.#last = { at, answer: { kind: "text", text, type: "application/json" } };
  }
}
