/**
 * What changed on this node, when, and by whom: an SQLite file, which the runtime carries. Events are small rows; beside
 * them stand whole snapshots, each as the parts (parts.ts) in which it differs from those before it.
 *
 * Nothing else depends on the journal. What cannot be written is told, once, and the agent goes on without; a file that
 * is damaged is put aside and begun anew.
 */
import { Database, type SQLQueryBindings } from "bun:sqlite";
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { messageOf, WayoutError } from "../../error.ts";
import { cutValue, getValue, type CutValue, type PartName } from "./parts.ts";

/** Raised when a file of this version cannot be read by the one before. */
const VERSION = 1;
const MEGABYTE = 1024 * 1024;
/** All of it, the write-ahead log included. */
const MOST_BYTES = 20 * MEGABYTE;
/** The write-ahead log is folded into the file when it has so many pages (of 4 KiB). */
const LOG_PAGES = 256;
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

/**
 * `rules`, `network`, `setting`: what somebody changed; `repair`, `failure`, `fight`: what the agent did or could not do;
 * `way-out`: what became of a pod; `policy`, `agent`.
 */
export const EVENT_KINDS = [
  "rules",
  "network",
  "setting",
  "repair",
  "failure",
  "fight",
  "way-out",
  "policy",
  "agent",
] as const;

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
  /** Grows with time; names the event for whoever wants those after it. */
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

const SCHEMA = `
CREATE TABLE event (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  object TEXT NOT NULL,
  text TEXT NOT NULL,
  culprit TEXT,
  effects TEXT
);
CREATE INDEX event_at ON event (at);
CREATE TABLE snapshot (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, root BLOB NOT NULL);
CREATE INDEX snapshot_at ON snapshot (at);
-- The newest epoch (EPOCH snapshots) of which one holds the part: what none holds any more is forgotten.
CREATE TABLE part (name BLOB PRIMARY KEY, held INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX part_held ON part (held);
`;

/** How things were when an agent last looked: what the next one compares with. Came later; older versions pass it by. */
const LAST = `CREATE TABLE IF NOT EXISTS last (what TEXT PRIMARY KEY, at INTEGER NOT NULL, value TEXT NOT NULL)`;

export class Journal implements Disposable {
  readonly #database: Database;
  #trouble = "";
  #writingMs = 0;
  /** The parts of the last snapshot, with the epoch that is written for them. */
  #last: ReadonlyMap<PartName, number> = new Map();

  private constructor(
    readonly path: string,
    database: Database,
    private readonly told: (trouble: string) => void,
  ) {
    this.#database = database;
  }

  /**
   * Opens the file to write, or makes it (0600). One that is damaged, or of a newer version, is put aside under another
   * name.
   * @param told what is wrong with the journal, in a sentence, when that changes; "" when all is well again
   * @throws WayoutError `journal-not-opened`
   */
  static write(path: string, told: (trouble: string) => void = () => {}): Journal {
    return new Journal(path, openOrBegin(path, told), told);
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
    const opened = open(path, "read");
    if (opened instanceof Database) return new Journal(path, opened, () => {});
    throw notOpened(path, new Error(opened.why));
  }

  /** Undefined when it could not be written. */
  record(event: JournalEvent): number | undefined {
    return this.#write(() => {
      const { at, kind, object, text, by, effects } = event;
      const row = this.#database
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

  /** Keeps a snapshot that was cut by somebody else. Parts that an earlier one had are not written again. */
  keepCut(at: number, { root, parts }: CutValue): void {
    this.#write(() => {
      const { id } = this.#database
        .query("INSERT INTO snapshot (at, root) VALUES (?, ?) RETURNING id")
        .get(at, bytesOf(root)) as { id: number };
      const epoch = epochOf(id);
      const touch = this.#database.query("UPDATE part SET held = ? WHERE name = ?");
      const add = this.#database.query("INSERT INTO part (name, held, body) VALUES (?, ?, ?)");
      const now = new Map<PartName, number>();
      for (const [name, text] of parts) {
        now.set(name, epoch);
        if (this.#last.get(name) === epoch || touch.run(epoch, bytesOf(name)).changes > 0) continue;
        add.run(bytesOf(name), epoch, Bun.zstdCompressSync(text));
      }
      this.#last = now;
    });
    if (this.bytes() > MOST_BYTES) this.#write(() => this.#forgetOldest());
  }

  /** Remembers how something is now, for the next agent. */
  noteLast(what: "verdicts" | "network", at: number, value: unknown): void {
    this.#write(() => {
      this.#database
        .query("INSERT OR REPLACE INTO last (what, at, value) VALUES (?, ?, ?)")
        .run(what, at, JSON.stringify(value));
    });
  }

  /** What an agent, this one or one before it, noted last; undefined when none did, or it cannot be read. */
  last(what: "verdicts" | "network"): { readonly at: number; readonly value: unknown } | undefined {
    try {
      const row = this.#database.query("SELECT at, value FROM last WHERE what = ?").get(what) as {
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
    const rows = this.#database
      .query(
        `SELECT * FROM event ${conditions.length === 0 ? "" : `WHERE ${conditions.join(" AND ")}`} ORDER BY id DESC LIMIT ?`,
      )
      .all(...values, query.limit ?? 10_000) as Row[];
    return rows.toReversed().map(eventOf);
  }

  /**
   * The node as it was: the last snapshot up to then.
   * @throws WayoutError `before-the-journal`, `journal-damaged`
   */
  snapshotAt(at: number): { readonly at: number; readonly snapshot: unknown } {
    const row = this.#database
      .query("SELECT at, root FROM snapshot WHERE at <= ? ORDER BY at DESC, id DESC LIMIT 1")
      .get(at) as { at: number; root: Uint8Array } | null;
    if (row === null) throw this.#before(at);
    const get = this.#database.query("SELECT body FROM part WHERE name = ?");
    try {
      const snapshot = getValue(Buffer.from(row.root).toString("hex"), (name) => {
        const part = get.get(bytesOf(name)) as { body: Uint8Array } | null;
        return part === null ? undefined : Buffer.from(Bun.zstdDecompressSync(part.body)).toString();
      });
      return { at: row.at, snapshot };
    } catch (error) {
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

  /** From when on it can tell how the node was; undefined while it holds no snapshot. */
  beginsAt(): number | undefined {
    const { at } = this.#database.query("SELECT min(at) AS at FROM snapshot").get() as { at: number | null };
    return at ?? undefined;
  }

  /** On the disk, the write-ahead log included. */
  bytes(): number {
    return sizeOf(this.path) + sizeOf(`${this.path}-wal`);
  }

  /** What writing has taken up to now. */
  get writingMs(): number {
    return this.#writingMs;
  }

  close(): void {
    this.#database.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #before(at: number): WayoutError {
    const first = this.beginsAt();
    return new WayoutError({
      code: "before-the-journal",
      kind: "broken",
      doing: `looking how the node was at ${new Date(at).toISOString()}`,
      said:
        first === undefined
          ? "the journal holds no snapshot yet"
          : `the journal begins at ${new Date(first).toISOString()}`,
      ...(first === undefined ? {} : { todo: `Ask for ${new Date(first).toISOString()} or later.` }),
    });
  }

  /** A full disk ends nothing but this one note. */
  #write<T>(work: () => T): T | undefined {
    const began = performance.now();
    try {
      const result = this.#database.transaction(work)();
      this.#tell("");
      return result;
    } catch (error) {
      // What was noted of parts went back with the transaction.
      this.#last = new Map();
      this.#tell(`${this.path} cannot be written: ${messageOf(error)}`);
      return undefined;
    } finally {
      this.#writingMs += performance.now() - began;
    }
  }

  #tell(trouble: string): void {
    if (trouble === this.#trouble) return;
    this.#trouble = trouble;
    this.told(trouble);
  }

  #forgetOldest(): void {
    for (const table of ["event", "snapshot"]) {
      this.#database.run(
        `DELETE FROM ${table} WHERE id <= (SELECT min(id) + ${FORGET_SHARE} * (max(id) - min(id)) FROM ${table})`,
      );
    }
    const { first } = this.#database.query("SELECT coalesce(min(id), 0) AS first FROM snapshot").get() as {
      first: number;
    };
    this.#database.query("DELETE FROM part WHERE held < ?").run(epochOf(first));
    this.#database.run("PRAGMA incremental_vacuum");
  }
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
    ...(culprit === null ? {} : { by: JSON.parse(culprit) as Culprit }),
    ...(effects === null ? {} : { effects: JSON.parse(effects) as readonly Effect[] }),
  };
}

function openOrBegin(path: string, told: (said: string) => void): Database {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    // Made by us, so that it is nobody else's to read from the first moment on; SQLite gives its log the same mode.
    closeSync(openSync(path, "a", 0o600));
    chmodSync(path, 0o600);
  } catch (error) {
    throw notOpened(path, error);
  }
  const opened = open(path);
  if (opened instanceof Database) return opened;
  const aside = `${path}.${new Date().toISOString().replaceAll(":", "")}`;
  told(`${path} was begun anew: ${opened.why}; what it held is in ${aside}`);
  try {
    renameSync(path, aside);
    for (const beside of ["-wal", "-shm"]) rmSync(`${path}${beside}`, { force: true });
    closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    throw notOpened(path, error);
  }
  const fresh = open(path);
  if (fresh instanceof Database) return fresh;
  throw notOpened(path, new Error(fresh.why));
}

function open(path: string, to: "read" | "write" = "write"): Database | { readonly why: string } {
  let database: Database | undefined;
  try {
    database = new Database(path, to === "read" ? { readonly: true } : { readwrite: true, create: true });
    if (to === "read") return readable(database);
    database.run("PRAGMA auto_vacuum = INCREMENTAL");
    database.run("PRAGMA journal_mode = WAL");
    // A power failure may cost the last notes, never the file.
    database.run("PRAGMA synchronous = NORMAL");
    database.run(`PRAGMA wal_autocheckpoint = ${LOG_PAGES}`);
    database.run(`PRAGMA journal_size_limit = ${LOG_PAGES * 4096}`);
    const version = versionOf(database);
    if (version === 0) {
      database.run(SCHEMA);
      database.run(`PRAGMA user_version = ${VERSION}`);
    } else if (version !== VERSION) {
      database.close();
      return otherVersion(version);
    }
    database.run(LAST);
    const { quick_check: said } = database.query("PRAGMA quick_check(1)").get() as { quick_check: string };
    if (said === "ok") return database;
    database.close();
    return { why: `it is damaged (${said})` };
  } catch (error) {
    database?.close();
    return { why: `it is damaged (${messageOf(error)})` };
  }
}

function readable(database: Database): Database | { readonly why: string } {
  const version = versionOf(database);
  if (version === VERSION) return database;
  database.close();
  return otherVersion(version);
}

function versionOf(database: Database): number {
  return (database.query("PRAGMA user_version").get() as { user_version: number }).user_version;
}

function otherVersion(version: number): { readonly why: string } {
  return { why: `it is of version ${version}, and this wayout knows version ${VERSION}` };
}

function notOpened(path: string, error: unknown): WayoutError {
  return new WayoutError({
    code: "journal-not-opened",
    kind: "machine",
    doing: `opening the journal ${path}`,
    said: messageOf(error),
    todo: "Give another path with --journal, or 'none'.",
    cause: error,
  });
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
