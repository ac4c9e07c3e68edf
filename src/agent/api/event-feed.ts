/** Server-sent events: what happens, as it happens, to any number of listeners that may come back where they left off. */
import { rethrowMistake } from "../../error.ts";
import { jsonText } from "../../text/json.ts";
import { culpritText } from "../culprit.ts";
import type { Journal, JournalEvent, StoredEvent } from "../journal/journal.ts";
import { present } from "../../present.ts";

const KEEP_ALIVE_MS = 15_000;
/** A listener that lets so many events lie is let go; it may come back and ask for those it missed. */
const MOST_LYING = 1_000;
/** So many missed events are sent to a client that comes back; beyond that it must read the state anew. */
const MOST_MISSED = 1_000;
const MOST_LISTENERS = 64;

type Controller = ReadableStreamDefaultController<Uint8Array>;

const encoder = new TextEncoder();

export class EventFeed {
  readonly #listeners = new Set<Controller>();
  readonly #beat: ReturnType<typeof setInterval>;

  constructor(private readonly journal: Journal | undefined) {
    this.#beat = setInterval(() => this.#send(": still here\n\n"), KEEP_ALIVE_MS);
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  /** @param id the journal's; undefined for one that could not be kept, and so cannot be asked for again */
  readonly put = (event: JournalEvent, id: number | undefined): void => {
    this.#send(message(event, id));
  };

  /** Something changed of which no event tells: a client that shows the node looks again. */
  readonly stir = (): void => this.#send("event: changed\ndata: {}\n\n");

  /** The whole node was looked at: the picture of it is another one. */
  readonly looked = (): void => this.#send("event: looked\ndata: {}\n\n");

  /**
   * A stream of events from now on, after those with a larger id than `after`. When they cannot all be had any more, the
   * first message is `reset`: read the state anew. undefined when too many listen already.
   */
  open(after: number | undefined): ReadableStream<Uint8Array> | undefined {
    if (this.#listeners.size >= MOST_LISTENERS) return undefined;
    let own: Controller | undefined;
    return new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          own = controller;
          controller.enqueue(encoder.encode("retry: 1000\n\n"));
          if (after !== undefined) controller.enqueue(encoder.encode(this.#missed(after)));
          this.#listeners.add(controller);
        },
        cancel: () => {
          if (own !== undefined) this.#listeners.delete(own);
        },
      },
      new CountQueuingStrategy({ highWaterMark: MOST_LYING }),
    );
  }

  close(): void {
    clearInterval(this.#beat);
    for (const listener of this.#listeners) this.#drop(listener);
  }

  #missed(after: number): string {
    const missed = this.#since(after - 1);
    // The one it had last must still be there: otherwise there is a hole, of whatever size.
    if (missed[0]?.id !== after || missed.length > MOST_MISSED) return "event: reset\ndata: {}\n\n";
    return missed
      .slice(1)
      .map(({ id, ...event }: StoredEvent) => message(event, id))
      .join("");
  }

  /** None where the journal cannot be read now. */
  #since(after: number): readonly StoredEvent[] {
    try {
      return this.journal?.events({ after, limit: MOST_MISSED + 1 }) ?? [];
    } catch (error) {
      rethrowMistake(error);
      return [];
    }
  }

  #send(text: string): void {
    const bytes = encoder.encode(text);
    for (const listener of this.#listeners) {
      if ((listener.desiredSize ?? 0) <= 0) this.#drop(listener);
      else listener.enqueue(bytes);
    }
  }

  #drop(listener: Controller): void {
    this.#listeners.delete(listener);
    try {
      listener.close();
    } catch {
      // The listener has gone by itself.
    }
  }
}

/**
 * An event as the API writes it. `id` stands in the data as well: a browser names an event without one by the last that had
 * one. `who` is the culprit in words.
 */
export function eventAsJson({ at, ...event }: JournalEvent, id?: number): object {
  return {
    ...present({ id }),
    at: new Date(at).toISOString(),
    ...event,
    ...present({ who: event.by === undefined ? undefined : culpritText(event.by) }),
  };
}

/** JSON has no line breaks, so that one line of data is enough. */
function message(event: JournalEvent, id: number | undefined): string {
  const name = id === undefined ? "" : `id: ${id}\n`;
  return `${name}event: ${event.kind}\ndata: ${jsonText(eventAsJson(event, id))}\n\n`;
}
