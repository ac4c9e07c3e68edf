/**
 * What changed on this node, when, and by whom: an SQLite file, which the runtime carries. Events are small rows; beside
 * them stand whole snapshots, each as the parts (parts.ts) in which it differs from those before it.
 *
 * Nothing else depends on the journal. What cannot be written is told, once, and the agent goes on without; a file that
 * is damaged is put aside and begun anew.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { existsSync, statSync } from "node:fs";
import { messageOf, WayoutError } from "../../error.ts";
import { monotonicMs } from "../../kernel/calls.ts";
import { fileKey } from "../../kernel/file.ts";
import { isDamage, LOG, notOpened, openOrBegin, openToRead } from "./file.ts";
import { cutValue, getValue, type CutValue, type PartName } from "./parts.ts";
import { present } from "../../present.ts";
import type { EVENT_KINDS } from "../../naming/event-kinds.ts";

const MEGABYTE = 1024 * 1024;
/** What it holds. The file is as large at most, and the write-ahead log beside it makes it 20 MB. */
const MOST_BYTES = 18 * MEGABYTE;
/** A file that could not be opened is tried again after this. */
const AGAIN_MS = 5_000;
/** When the file is full, so much of the oldest is forgotten at once. */
const FORGET_SHARE = 0.1;
/** That a part is still held is written once for so many snapshots: most parts of a snapshot are those of the last. */
const EPOCH = 64;

/** Who made a change, as far as it could be found out. */
export interface Culprit {
  /** The process's own name: `nft`, `iptables-restor`; `unknown` when nobody said. */
  readonly process: string;
  readonly pid?: number;
  /** Its parents' names, the nearest first: `firewalld`, `systemd`. */
  readonly parents?: readonly string[];
  /** The systemd unit or the container it belongs to. */
  readonly unit?: string;
  /** `told` by the kernel, `seen` in /proc when it was still there, `guessed` from what the change looks like. */
  readonly certainty: "told" | "seen" | "guessed" | "unknown";
}

/** What of a pod's way out became different by a change. */
export interface Effect {
  readonly pod: string;
  readonly became: "broken" | "mended" | "warned" | "came" | "gone";
  readonly text: string;
}

export interface JournalEvent {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly kind: (typeof EVENT_KINDS)[number];
  /** What it is about: `table inet wayout`, `net.ipv4.ip_forward`, a pod's name. */
  readonly object: string;
  readonly text: string;
  readonly by?: Culprit;
  readonly effects?: readonly Effect[];
}

export interface StoredEvent extends JournalEvent {
  /** Grows with time; names the event for a reader who wants those after it. */
  readonly id: number;
}

export interface EventQuery {
  readonly since?: number;
  readonly until?: number;
  /** Only events with a larger id. */
  readonly after?: number;
  /** Only what concerns this pod. */
  readonly pod?: string;
  readonly kind?: JournalEvent["kind"];
  /** The newest so many. */
  readonly limit?: number;
}

export class Journal implements Disposable {
  #database: Database | undefined;
  /** Which file it is. */
  #id: string | undefined;
  /** Until then it is not tried again, for this reason. */
  #notBefore = 0;
  #notOpened: unknown = new Error("the journal is closed");
  #trouble = "";
  #writingMs = 0;
  /** The parts of the last snapshot, with the epoch that is written for them. */
  #last: ReadonlyMap<PartName, number> = new Map();

  private constructor(
    readonly path: string,
    private readonly told: ((trouble: string) => void) | undefined,
  ) {}

  /**
   * A journal to write to. Its file is opened, or made, now or as soon as that can be done; also when it was taken away.
   * @param told what is wrong with the journal, in a sentence, when that changes; "" when all is well again
   */
  static write(path: string, told: (trouble: string) => void = () => {}): Journal {
    const journal = new Journal(path, told);
    journal.#write(() => {});
    return journal;
  }

  /**
   * Opens the file to read, whether an agent writes to it or not.
   * @throws WayoutError `no-journal`, `journal-not-opened`
   */
  static read(path: string): Journal {
    if (!existsSync(path)) {
      throw new WayoutError({
        code: "no-journal",
        kind: "machine",
        doing: `reading the journal ${path}`,
        said: "there is none, or this user may not see it",
        todo: "An agent writes it: sudo wayout agent",
      });
    }
    const journal = new Journal(path, undefined);
    journal.#database = openToRead(path);
    return journal;
  }

  /** Undefined when it could not be written. */
  record(event: JournalEvent): number | undefined {
    return this.#write((database) => {
      const { at, kind, object, text, by, effects } = event;
      const row = database
        .query(
          "INSERT INTO event (at, kind, object, text, culprit, effects) VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
        )
        .get(at, kind, object, text, jsonOf(by), jsonOf(effects)) as { id: number };
      return row.id;
    });
  }

  /** Keeps a snapshot. */
  keep(at: number, snapshot: unknown): void {
    this.keepCut(at, cutValue(snapshot));
  }

  /** Keeps a snapshot that another part of the program has cut. Parts that an earlier one had are not written again. */
  keepCut(at: number, { root, parts }: CutValue): void {
    this.#write((database) => {
      const { id } = database
        .query("INSERT INTO snapshot (at, root) VALUES (?, ?) RETURNING id")
        .get(at, bytesOf(root)) as { id: number };
      const epoch = epochOf(id);
      const touch = database.query("UPDATE part SET held = ? WHERE name = ?");
      const add = database.query("INSERT INTO part (name, held, body) VALUES (?, ?, ?)");
      const now = new Map<PartName, number>();
      for (const [name, text] of parts) {
        now.set(name, epoch);
        if (this.#last.get(name) === epoch || touch.run(epoch, bytesOf(name)).changes > 0) continue;
        add.run(bytesOf(name), epoch, Bun.zstdCompressSync(text));
      }
      this.#last = now;
    });
  }

  /** Remembers how something is now, for the next agent. */
  noteLast(what: "verdicts" | "network", at: number, value: unknown): void {
    this.#write((database) => {
      database
        .query("INSERT OR REPLACE INTO last (what, at, value) VALUES (?, ?, ?)")
        .run(what, at, JSON.stringify(value));
    });
  }

  /** What an agent, this one or one before it, noted last; undefined when none did, or it cannot be read. */
  last(what: "verdicts" | "network"): { readonly at: number; readonly value: unknown } | undefined {
    try {
      const row = this.#opened().query("SELECT at, value FROM last WHERE what = ?").get(what) as {
        at: number;
        value: string;
      } | null;
      return row === null ? undefined : { at: row.at, value: JSON.parse(row.value) as unknown };
    } catch {
      return undefined;
    }
  }

  /** Events in the order of time. */
  events(query: EventQuery = {}): StoredEvent[] {
    const conditions: string[] = [];
    const values: SQLQueryBindings[] = [];
    const where = (condition: string, value: SQLQueryBindings): void => {
      conditions.push(condition);
      values.push(value);
    };
    if (query.since !== undefined) where("at >= ?", query.since);
    if (query.until !== undefined) where("at <= ?", query.until);
    if (query.after !== undefined) where("id > ?", query.after);
    if (query.kind !== undefined) where("kind = ?", query.kind);
    if (query.pod !== undefined) {
      where(
        "(object = ?1 OR EXISTS (SELECT 1 FROM json_each(effects) WHERE value ->> 'pod' = ?1))".replaceAll(
          "?1",
          "?",
        ),
        query.pod,
      );
      values.push(query.pod);
    }
    const rows = this.#read(
      (database) =>
        database
          .query(
            `SELECT * FROM event ${conditions.length === 0 ? "" : `WHERE ${conditions.join(" AND ")}`} ORDER BY id DESC LIMIT ?`,
          )
          .all(...values, query.limit ?? 10_000) as Row[],
    );
    return rows.toReversed().map(eventOf);
  }

  /**
   * The node as it was: the last snapshot up to then; without a time the last of all, whatever the clock said.
   * @throws WayoutError `before-the-journal`, `journal-damaged`
   */
  snapshotAt(at?: number): { readonly at: number; readonly snapshot: unknown } {
    const { row, get } = this.#read((database) => ({
      row: database
        .query(
          at === undefined
            ? "SELECT at, root FROM snapshot ORDER BY id DESC LIMIT 1"
            : "SELECT at, root FROM snapshot WHERE at <= ? ORDER BY at DESC, id DESC LIMIT 1",
        )
        .get(...(at === undefined ? [] : [at])) as { at: number; root: Uint8Array } | null,
      get: database.query("SELECT body FROM part WHERE name = ?"),
    }));
    if (row === null) throw this.#before(at ?? Date.now());
    try {
      const snapshot = getValue(Buffer.from(row.root).toString("hex"), (name) => {
        const part = get.get(bytesOf(name)) as { body: Uint8Array } | null;
        return part === null ? undefined : Buffer.from(Bun.zstdDecompressSync(part.body)).toString();
      });
      return { at: row.at, snapshot };
    } catch (error) {
      this.#damaged(error);
      throw new WayoutError({
        code: "journal-damaged",
        kind: "broken",
        doing: `reading how the node was at ${new Date(row.at).toISOString()}`,
        said: messageOf(error),
        todo: "Ask for another time: each snapshot is stored by itself.",
        cause: error,
      });
    }
  }

  /** From when on it can tell how the node was; undefined while it holds no snapshot, or cannot be read. */
  beginsAt(): number | undefined {
    try {
      const row = this.#opened().query("SELECT min(at) AS at FROM snapshot").get() as { at: number | null };
      return row.at ?? undefined;
    } catch {
      return undefined;
    }
  }

  /** On the disk, the write-ahead log included. */
  bytes(): number {
    return sizeOf(this.path) + sizeOf(`${this.path}${LOG}`);
  }

  /** What writing has taken up to now. */
  get writingMs(): number {
    return this.#writingMs;
  }

  close(): void {
    this.#database?.close();
    this.#database = undefined;
    this.#notBefore = Number.POSITIVE_INFINITY;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #before(at: number): WayoutError {
    const first = this.beginsAt();
    return new WayoutError(
      present({
        code: "before-the-journal",
        kind: "broken",
        doing: `looking how the node was at ${new Date(at).toISOString()}`,
        said:
          first === undefined
            ? "the journal holds no snapshot yet"
            : `the journal begins at ${new Date(first).toISOString()}`,
        todo: first === undefined ? undefined : `Ask for ${new Date(first).toISOString()} or later.`,
      }),
    );
  }

  /** A full disk ends nothing but this one note. */
  #write<T>(work: (database: Database) => T): T | undefined {
    const began = performance.now();
    try {
      const database = this.#opened();
      const result = database.transaction(() => work(database))();
      this.#tell(this.#madeRoom(database));
      return result;
    } catch (error) {
      // What was noted of parts went back with the transaction.
      this.#last = new Map();
      this.#damaged(error);
      this.#tell(`${this.path} cannot be written: ${messageOf(error)}`);
      return undefined;
    } finally {
      this.#writingMs += performance.now() - began;
    }
  }

  /** "" when all is well: what was written stays written where nothing could be forgotten for it. */
  #madeRoom(database: Database): string {
    try {
      if (heldBytes(database) > MOST_BYTES) database.transaction(() => forgetOldest(database))();
      return "";
    } catch (error) {
      this.#damaged(error);
      return `what is oldest in ${this.path} cannot be forgotten: ${messageOf(error)}`;
    }
  }

  /** @throws WayoutError `journal-not-opened`, `journal-damaged` */
  #read<T>(work: (database: Database) => T): T {
    try {
      return work(this.#opened());
    } catch (error) {
      if (error instanceof WayoutError) throw error;
      this.#damaged(error);
      throw new WayoutError({
        code: "journal-damaged",
        kind: "broken",
        doing: `reading the journal ${this.path}`,
        said: messageOf(error),
        todo: "An agent that writes to it puts it aside and begins a new one.",
        cause: error,
      });
    }
  }

  /** A file that was damaged under our hands is opened again, where it is looked through and put aside. */
  #damaged(error: unknown): void {
    if (!isDamage(error) || this.told === undefined) return;
    this.close();
    this.#notBefore = monotonicMs() + AGAIN_MS;
    this.#notOpened = notOpened(this.path, error);
  }

  /**
   * The file, while the one with its name is the one that was opened.
   * @throws WayoutError `journal-not-opened`
   */
  #opened(): Database {
    if (this.#database !== undefined && (this.told === undefined || fileKey(this.path) === this.#id))
      return this.#database;
    if (this.#database !== undefined) {
      this.close();
      this.#notBefore = 0;
      this.#last = new Map();
      this.told?.(`${this.path} was taken away, and is begun anew`);
    }
    if (monotonicMs() < this.#notBefore) throw this.#notOpened;
    try {
      const { database, id, begun } = openOrBegin(this.path);
      this.#database = database;
      this.#id = id;
      if (begun !== undefined) this.told?.(begun);
      return database;
    } catch (error) {
      this.#notBefore = monotonicMs() + AGAIN_MS;
      this.#notOpened = error;
      throw error;
    }
  }

  #tell(trouble: string): void {
    if (trouble === this.#trouble) return;
    this.#trouble = trouble;
    this.told?.(trouble);
  }
}

/** Without what is free in the file, and with what is only in the log yet. */
function heldBytes(database: Database): number {
  const { bytes } = database
    .query(
      "SELECT (page_count - freelist_count) * page_size AS bytes FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
    )
    .get() as { bytes: number };
  return bytes;
}

function forgetOldest(database: Database): void {
  for (const table of ["event", "snapshot"]) {
    database.run(
      `DELETE FROM ${table} WHERE id <= (SELECT min(id) + ${FORGET_SHARE} * (max(id) - min(id)) FROM ${table})`,
    );
  }
  const { first } = database.query("SELECT coalesce(min(id), 0) AS first FROM snapshot").get() as {
    first: number;
  };
  database.query("DELETE FROM part WHERE held < ?").run(epochOf(first));
  database.run("PRAGMA incremental_vacuum");
}

interface Row {
  readonly id: number;
  readonly at: number;
  readonly kind: JournalEvent["kind"];
  readonly object: string;
  readonly text: string;
  readonly culprit: string | null;
  readonly effects: string | null;
}

function eventOf({ culprit, effects, ...row }: Row): StoredEvent {
  return {
    ...row,
    ...present({
      by: parsed(culprit) as Culprit | undefined,
      effects: parsed(effects) as readonly Effect[] | undefined,
    }),
  };
}

/** One word that was damaged takes nothing else away. */
function parsed(json: string | null): unknown {
  try {
    return json === null ? undefined : JSON.parse(json);
  } catch {
    return undefined;
  }
}

function epochOf(snapshot: number): number {
  return Math.floor(snapshot / EPOCH);
}

function jsonOf(value: unknown): string | null {
  return value === undefined ? null : JSON.stringify(value);
}

function bytesOf(name: PartName): Uint8Array {
  return Buffer.from(name, "hex");
}

function sizeOf(path: string): number {
  try {
    return statSync(path).size;
  } catch {
    return 0;
  }
}
