/**
 * A kind of object as it is in the cluster, kept up to date: listed page by page, then watched from where the list ended.
 *
 *     list ──► complete ──► watch ──► ended: watch on from the last version
 *      ▲                      │
 *      └── 410, too old ──────┘       anything else: wait, then watch on
 *
 * Only a list that was read to its end is ever handed over: half a list would say that the other half is gone.
 */
import { messageOf } from "../error.ts";
import type { ApiClient } from "./api-client.ts";
import { ApiError, statusCode, statusText, UnreadableAnswer } from "./api-error.ts";
import { present } from "../present.ts";

const PAGE = 500;
/** Half a million objects; a list of more pages does not end. */
const MOST_PAGES = 1000;
/** The server ends a watch by itself after this, and up to as long again: not all of them at once. */
const WATCH_SECONDS = 300;
/** A server sends a bookmark about once a minute: two that did not come, and the connection is dead. */
const IDLE_MS = 150_000;
const FIRST_WAIT_MS = 800;
const LONGEST_WAIT_MS = 30_000;

/** Time and chance, which tests may replace. */
export interface Pace {
  /** Milliseconds; resolves early when the signal says so. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
  /** 0 to 1. */
  random(): number;
}

export const REAL_PACE: Pace = {
  async sleep(ms, signal) {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
    });
  },
  random: Math.random,
};

export interface WatchedListOptions<T> {
  /** `/api/v1/nodes`, with a selector where one is wanted: `/api/v1/pods?fieldSelector=…`. */
  readonly path: string;
  /** An object as it came; undefined for one that is not understood at all. */
  readonly read: (object: unknown) => { readonly name: string; readonly value: T } | undefined;
  /** Whether two are the same to us: a Node is written anew every few minutes, and says nothing else. */
  readonly same: (a: T, b: T) => boolean;
  /** Hears of every other state of the complete list. */
  readonly changed: (items: ReadonlyMap<string, T>) => void;
  /** Why it is not up to date; undefined when it is again. */
  readonly trouble: (message: string | undefined) => void;
  readonly pace?: Pace;
  readonly idleMs?: number;
}

interface WatchEvent {
  readonly type: string;
  readonly object: unknown;
}

export class WatchedList<T> {
  readonly #stop = new AbortController();
  readonly #pace: Pace;
  readonly #done: Promise<void>;
  #items = new Map<string, T>();
  /** Where to watch on; undefined: list first. */
  #version: string | undefined;
  #waitMs = FIRST_WAIT_MS;
  #trouble: string | undefined;
  /** Whether anything was ever handed over. */
  #told = false;

  constructor(
    private readonly client: ApiClient,
    private readonly options: WatchedListOptions<T>,
  ) {
    this.#pace = options.pace ?? REAL_PACE;
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        if (this.#version === undefined) await this.#list();
        else await this.#watch(this.#version);
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        await this.#failed(error);
      }
    }
  }

  async #list(): Promise<void> {
    const list = (await this.#pages()) ?? (await this.#page("", new Map()));
    if (this.#stop.signal.aborted) return;
    const { items } = list;
    this.#version = list.version;
    const before = this.#items;
    this.#items = items;
    this.#well();
    if (!this.#told || !isSame(before, items, this.options.same)) this.#tell();
  }

  /** undefined when the server has forgotten the state of which the first pages were: the whole list in one page remains. */
  async #pages(): Promise<ListPart<T> | undefined> {
    const items = new Map<string, T>();
    const asked = new Set<string>();
    for (let from: string | undefined; ;) {
      let page: ListPart<T>;
      try {
        const more = from === undefined ? "" : `&continue=${encodeURIComponent(from)}`;
        page = await this.#page(`limit=${PAGE}${more}`, items);
      } catch (error) {
        if (from !== undefined && error instanceof ApiError && error.isExpired) return undefined;
        throw error;
      }
      from = page.continue;
      if (from === undefined || this.#stop.signal.aborted) return page;
      if (asked.has(from) || asked.size >= MOST_PAGES)
        throw new ApiError(`listing ${this.options.path}`, undefined, "its pages do not end");
      asked.add(from);
    }
  }

  /** @param items what the page has is added to them */
  async #page(query: string, items: Map<string, T>): Promise<ListPart<T>> {
    const page = pageOf(await this.client.json(this.#url(query)), this.options.path);
    for (const object of page.items) {
      const read = this.options.read(object);
      if (read !== undefined) items.set(read.name, read.value);
    }
    return { ...page, items };
  }

  async #watch(version: string): Promise<void> {
    const seconds = Math.round(WATCH_SECONDS * (1 + this.#pace.random()));
    const from = encodeURIComponent(version);
    const url = this.#url(
      `watch=1&allowWatchBookmarks=true&resourceVersion=${from}&timeoutSeconds=${seconds}`,
    );
    let count = 0;
    for await (const line of this.client.lines(url, this.#stop.signal, this.options.idleMs ?? IDLE_MS)) {
      this.#take(eventOf(line));
      count++;
      // Not after a list already: a server that takes every version for too old is to be asked less and less often.
      this.#waitMs = FIRST_WAIT_MS;
      this.#well();
    }
    // A server that ends every watch at once, without a word, is not to be asked in a circle.
    if (count === 0) await this.#wait(undefined);
  }

  #take({ type, object }: WatchEvent): void {
    const doing = `watching ${this.options.path}`;
    if (type === "ERROR") {
      const code = statusCode(object);
      throw new ApiError(doing, code, statusText(object) ?? "the server reported an error without words");
    }
    this.#version = versionOf(object) ?? this.#version;
    if (type === "BOOKMARK") return;
    const read = this.options.read(object);
    if (read === undefined) return;
    const before = this.#items.get(read.name);
    if (type === "DELETED") {
      if (this.#items.delete(read.name)) this.#tell();
      return;
    }
    if (type !== "ADDED" && type !== "MODIFIED") return;
    this.#items.set(read.name, read.value);
    if (before === undefined || !this.options.same(before, read.value)) this.#tell();
  }

  #tell(): void {
    this.#told = true;
    this.options.changed(new Map(this.#items));
  }

  #well(): void {
    if (this.#trouble === undefined) return;
    this.#trouble = undefined;
    this.options.trouble(undefined);
  }

  async #failed(error: unknown): Promise<void> {
    if (error instanceof ApiError && error.isExpired && this.#version !== undefined) {
      // No fault: only a new list helps. It is asked for after a moment, for all other nodes ask as well.
      this.#version = undefined;
      return this.#wait(undefined);
    }
    // From the same version on it would come again, and nothing behind it.
    if (error instanceof UnreadableAnswer) this.#version = undefined;
    const message = messageOf(error);
    if (message !== this.#trouble) {
      this.#trouble = message;
      this.options.trouble(message);
    }
    await this.#wait(error instanceof ApiError ? error.retryAfterMs : undefined);
  }

  /** Longer each time, and never all nodes in one moment. */
  async #wait(atLeastMs: number | undefined): Promise<void> {
    const ms = this.#waitMs * (0.5 + this.#pace.random() / 2);
    this.#waitMs = Math.min(2 * this.#waitMs, LONGEST_WAIT_MS);
    await this.#pace.sleep(Math.min(Math.max(ms, atLeastMs ?? 0), LONGEST_WAIT_MS), this.#stop.signal);
  }

  #url(query: string): string {
    if (query === "") return this.options.path;
    return `${this.options.path}${this.options.path.includes("?") ? "&" : "?"}${query}`;
  }
}

/** A list up to a page, or whole. */
interface ListPart<T> extends Omit<Page, "items"> {
  readonly items: Map<string, T>;
}

interface Page {
  readonly items: readonly unknown[];
  readonly version: string;
  readonly continue?: string;
}

/** @throws ApiError for what is no list: an answer of another server must not pass for an empty one */
function pageOf(value: unknown, path: string): Page {
  const { items, metadata, kind } = (value ?? {}) as {
    readonly items?: unknown;
    readonly kind?: unknown;
    readonly metadata?: { readonly resourceVersion?: unknown; readonly continue?: unknown };
  };
  const version = metadata?.resourceVersion;
  const isList = typeof kind === "string" && kind.endsWith("List");
  // An empty list comes as [] or, from some servers, as null.
  const list = items === null ? [] : items;
  if (!isList || !Array.isArray(list) || typeof version !== "string" || version === "")
    throw new ApiError(`listing ${path}`, undefined, "the answer is no list");
  const next = metadata?.continue;
  return present({
    items: list,
    version,
    continue: typeof next === "string" && next !== "" ? next : undefined,
  });
}

/** @throws ApiError for a line that is no event */
function eventOf(line: string): WatchEvent {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    value = undefined;
  }
  const { type, object } = (value ?? {}) as Partial<WatchEvent>;
  if (typeof type !== "string" || typeof object !== "object" || object === null)
    throw new UnreadableAnswer("reading a watch", `"${line.slice(0, 80)}" is no event`);
  return { type, object };
}

function versionOf(object: unknown): string | undefined {
  const version = (object as { readonly metadata?: { readonly resourceVersion?: unknown } }).metadata
    ?.resourceVersion;
  return typeof version === "string" && version !== "" ? version : undefined;
}

function isSame<T>(
  a: ReadonlyMap<string, T>,
  b: ReadonlyMap<string, T>,
  same: (a: T, b: T) => boolean,
): boolean {
  if (a.size !== b.size) return false;
  for (const [name, value] of a) {
    const other = b.get(name);
    if (other === undefined || !same(value, other)) return false;
  }
  return true;
}
