/**
 * The journal's file: opened, made, and put aside where it can never be used again. What may pass (a full disk, another
 * program's lock, a directory that is not mounted yet) is no damage, and costs no file.
 */
import { Database } from "bun:sqlite";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { codeOf, messageOf, WayoutError } from "../../error.ts";
import { fileKey } from "../../kernel/file.ts";
import { obstacleAt } from "../../kernel/own-place.ts";

/** Raised when a file of this version cannot be read by the one before. */
const VERSION = 1;
/** The write-ahead log is folded into the file when it has so many pages (of 4 KiB). */
const LOG_PAGES = 256;
/** Another program's lock is waited for so long: the agent does nothing else meanwhile. */
const BUSY_MS = 40;
/** So many that were put aside are kept: each may be as large as a journal. */
const KEPT_ASIDE = 3;

/** Of SQLite, for a file that is none, or no whole one. */
export function isDamage(error: unknown): boolean {
  return /^SQLITE_(CORRUPT|NOTADB)/.test(codeOf(error) ?? "");
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

/** A file that was opened to write, and what had to be done for it. */
export interface OpenedFile {
  readonly database: Database;
  /** Which file it is: another one may have its name by now. */
  readonly id: string | undefined;
  /** Why the file was begun anew, and where the one before is. */
  readonly begun?: string;
}

/**
 * Opens the file to write, or makes it (0600). One that is damaged, or of another version, is put aside under another name.
 * @throws WayoutError `journal-not-opened` for what may pass
 */
export function openOrBegin(path: string): OpenedFile {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const opened = openOwn(path);
    if (opened instanceof Database) return { database: opened, id: fileKey(path) };
    const aside = putAside(path);
    closeSync(openSync(path, "wx", 0o600));
    const fresh = open(path, "write");
    if (!(fresh instanceof Database)) throw new Error(fresh.why);
    const begun = `${path} was begun anew: ${opened.why}; what it held is in ${aside}`;
    return { database: fresh, id: fileKey(path), begun };
  } catch (error) {
    throw notOpened(path, error);
  }
}

/** A database, or why this file will never be ours. */
function openOwn(path: string): ReturnType<typeof open> {
  // A FIFO would be waited for without an end.
  const obstacle = obstacleAt(path, "file");
  if (obstacle !== undefined) throw new Error(obstacle);
  const owner = statSync(path, { throwIfNoEntry: false })?.uid;
  // Its owner may read it, and write to it what he likes, whatever its mode.
  if (owner !== undefined && owner !== process.geteuid?.()) return { why: `it belongs to user ${owner}` };
  // Made by us, so that it is nobody else's to read from the first moment on; SQLite gives its log the same mode.
  closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
  return open(path, "write");
}

/** Under another name, with the log of what is not in the file yet. @returns that name */
function putAside(path: string): string {
  const aside = `${path}.${new Date().toISOString().replaceAll(":", "")}`;
  renameSync(path, aside);
  if (existsSync(`${path}${LOG}`)) renameSync(`${path}${LOG}`, `${aside}${LOG}`);
  rmSync(`${path}-shm`, { force: true });
  const directory = dirname(path);
  const before = readdirSync(directory).filter(
    (name) => name.startsWith(`${basename(path)}.`) && /\.\d{4}-\d\d-\d\dT\d{6}\.\d{3}Z$/.test(name),
  );
  for (const name of before.sort().slice(0, -KEPT_ASIDE))
    for (const ending of ["", LOG]) rmSync(join(directory, `${name}${ending}`), { force: true });
  return aside;
}

/** What SQLite calls its write-ahead log, behind the file's name. */
export const LOG = "-wal";

/** @throws WayoutError `journal-not-opened` */
export function openToRead(path: string): Database {
  let opened: ReturnType<typeof open>;
  try {
    if (!statSync(path).isFile()) throw new Error("it is no regular file");
    opened = open(path, "read");
  } catch (error) {
    throw notOpened(path, error);
  }
  if (opened instanceof Database) return opened;
  throw notOpened(path, new Error(opened.why));
}

/** A database, or why the file will never be one. @throws what may pass */
function open(path: string, to: "read" | "write"): Database | { readonly why: string } {
  let database: Database | undefined;
  try {
    database = new Database(path, to === "read" ? { readonly: true } : { readwrite: true, create: true });
    database.run(`PRAGMA busy_timeout = ${BUSY_MS}`);
    const why = to === "read" ? versionProblem(versionOf(database)) : prepared(database);
    if (why === undefined) return database;
    database.close();
    return { why };
  } catch (error) {
    database?.close();
    if (isDamage(error)) return { why: `it is damaged (${messageOf(error)})` };
    throw error;
  }
}

/** undefined: it can be written to. */
function prepared(database: Database): string | undefined {
  database.run("PRAGMA auto_vacuum = INCREMENTAL");
  database.run("PRAGMA journal_mode = WAL");
  // A power failure may cost the last notes, never the file.
  database.run("PRAGMA synchronous = NORMAL");
  database.run(`PRAGMA wal_autocheckpoint = ${LOG_PAGES}`);
  database.run(`PRAGMA journal_size_limit = ${LOG_PAGES * 4096}`);
  const version = versionOf(database);
  // At once: who finds the tables finds the version, whatever ends us in between.
  if (version === 0)
    database.transaction(() => {
      database.run(SCHEMA);
      database.run(`PRAGMA user_version = ${VERSION}`);
    })();
  else if (version !== VERSION) return versionProblem(version);
  database.run(LAST);
  const { quick_check: said } = database.query("PRAGMA quick_check(1)").get() as { quick_check: string };
  return said === "ok" ? undefined : `it is damaged (${said})`;
}

function versionOf(database: Database): number {
  return (database.query("PRAGMA user_version").get() as { user_version: number }).user_version;
}

function versionProblem(version: number): string | undefined {
  if (version === VERSION) return undefined;
  return `it is of version ${version}, and this wayout knows version ${VERSION}`;
}

export function notOpened(path: string, error: unknown): WayoutError {
  return new WayoutError({
    code: "journal-not-opened",
    kind: "machine",
    doing: `opening the journal ${path}`,
    said: messageOf(error),
    todo: "Give another path with --journal, or 'none'.",
    cause: error,
  });
}
