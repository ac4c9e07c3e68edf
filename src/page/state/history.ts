/** What changed over the last hour, as the journal has it, and goes on as it happens. */
import { computed, signal } from "@preact/signals";
import type { StoredEvent } from "../../agent/journal/journal.ts";
import { visibleValue } from "../../text/visible.ts";
import { MOST_ROWS } from "../layout/row-pages.ts";
import { ask } from "./ask.ts";
import { EVENT_KINDS } from "../../naming/event-kinds.ts";

/** As the API writes it. */
export type PastEvent = Omit<StoredEvent, "at" | "id"> & {
  readonly at: string;
  readonly id?: number;
  /** Who did it, in words. */
  readonly who?: string;
};

const HOUR_MS = 3_600_000;

export const past = signal<readonly PastEvent[]>([]);
/** `live`: events come as they happen. `lost`: the stream is broken, and tried again. */
export const stream = signal<"opening" | "live" | "lost">("opening");
export const pastTrouble = signal<string | undefined>(undefined);

/** The newest first. */
export const newestFirst = computed(() => past.value.toReversed());

/** Reads what was, then listens to what comes. @param happened hears of the kind of each event as it comes */
export async function followHistory(happened: (kind: string) => void): Promise<void> {
  await readPast();
  let source: EventSource;
  const open = (): void => {
    const last = past.peek().findLast(({ id }) => id !== undefined)?.id;
    source = new EventSource(last === undefined ? "/v1/events" : `/v1/events?after=${last}`);
    source.addEventListener("open", () => (stream.value = "live"));
    source.addEventListener("error", () => {
      stream.value = "lost";
      // The browser tries again by itself, unless it was refused: then from where we are.
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 2000);
    });
    for (const kind of EVENT_KINDS) {
      source.addEventListener(kind, (message: MessageEvent<string>) => {
        add([visibleValue({ ...(JSON.parse(message.data) as PastEvent), kind })]);
        happened(kind);
      });
    }
    // Of what is in no journal, as all that is in the pods, there is only a word.
    for (const word of ["changed", "looked"]) source.addEventListener(word, () => happened(word));
    source.addEventListener("reset", () => void readPast().then(() => happened("reset")));
  };
  open();
}

async function readPast(): Promise<void> {
  try {
    const since = new Date(Date.now() - HOUR_MS).toISOString();
    const events = await ask<PastEvent[]>("/v1/history", { parameters: { since, limit: String(MOST_ROWS) } });
    past.value = [];
    add(events);
    pastTrouble.value = undefined;
  } catch (error) {
    pastTrouble.value = error instanceof Error ? error.message : String(error);
  }
}

/** The agent looks at the pods a while after a change: so late, at most, its look still belongs to it. */
const LOOK_MS = 15_000;
/** What is asked for by the second includes the event itself. */
const SECOND_MS = 1000;

/** The moment at which an event's consequences were seen: that of the look which followed it. */
export function momentOf(event: PastEvent, events: readonly PastEvent[]): string {
  const at = Date.parse(event.at);
  const look = events.find(
    ({ kind, at: then }) => kind === "way-out" && Date.parse(then) >= at && Date.parse(then) - at < LOOK_MS,
  );
  return new Date(Date.parse(look?.at ?? event.at) + SECOND_MS).toISOString().replace(/\.\d+Z$/, "Z");
}

/** An event that is there already is no second row: after a reconnect some come twice. */
function add(events: readonly PastEvent[]): void {
  const known = new Set(past.peek().flatMap(({ id }) => (id === undefined ? [] : [id])));
  const fresh = events.filter(({ id }) => id === undefined || !known.has(id));
  if (fresh.length > 0) past.value = [...past.peek(), ...fresh].slice(-MOST_ROWS);
}
