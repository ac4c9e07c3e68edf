/** The journal: what it remembers, how much, and what it bears. */
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Journal, type JournalEvent } from "../../src/agent/journal/journal.ts";
import { until } from "../support/until.ts";
import { ask, testWith } from "../support/witness.ts";
import { afterThisTest } from "../support/teardown.ts";

const MODULE = join(import.meta.dir, "..", "..", "src", "agent", "journal", "journal.ts");

function freshPath(): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-journal-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "state", "journal.db");
}

const change = (at: number, object = "table inet wayout"): JournalEvent => ({
  at,
  kind: "rules",
  object,
  text: `${object} is missing`,
  by: { process: "nft", pid: 42, parents: ["firewalld"], certainty: "told" },
  effects: [{ pod: "blue", became: "broken", text: "no rule translates it" }],
});

const node = (version: number) => ({
  format: "wayout-snapshot",
  node: {
    routes: Array.from({ length: 400 }, (_, index) => ({
      destination: `10.0.${index}.0/24`,
      gateway: `203.0.113.${index % 200}`,
    })),
    version,
  },
});

test("events come back as they were, in order, and by time and pod", () => {
  using journal = Journal.write(freshPath());
  const events = [1000, 2000, 3000].map((at) => change(at));
  for (const event of events) journal.record(event);
  journal.record({ at: 4000, kind: "agent", object: "agent", text: "stopped" });
  const stored = journal.events();
  expect(stored.slice(0, 3)).toMatchObject(events);
  expect(journal.events({ since: 2000, until: 3000 }).map(({ at }) => at)).toEqual([2000, 3000]);
  expect(journal.events({ pod: "blue" })).toHaveLength(3);
  expect(journal.events({ pod: "red" })).toEqual([]);
  expect(journal.events({ after: stored[2]!.id }).map(({ text }) => text)).toEqual(["stopped"]);
  expect(journal.events({ limit: 1 }).map(({ at }) => at)).toEqual([4000]);
});

test("a snapshot is the last one up to the time asked for, and is there after the file was closed", () => {
  const path = freshPath();
  {
    using journal = Journal.write(path);
    journal.keep(1000, node(1));
    journal.keep(2000, node(2));
  }
  using journal = Journal.write(path);
  expect(journal.snapshotAt(1999)).toEqual({ at: 1000, snapshot: node(1) });
  expect(journal.snapshotAt(2_000_000)).toEqual({ at: 2000, snapshot: node(2) });
  expect(() => journal.snapshotAt(999)).toThrow("the journal begins at 1970-01-01T00:00:01.000Z");
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("a day at a change a minute fits, and what is older is forgotten whole", () => {
  const path = freshPath();
  using journal = Journal.write(path);
  // Incompressible, so that the bound is met soon.
  const noise = (): string => Buffer.from(crypto.getRandomValues(new Uint8Array(48_000))).toString("hex");
  for (let minute = 0; minute < 1440; minute++) {
    journal.record(change(minute * 60_000));
    if (minute % 2 === 0) journal.keep(minute * 60_000, { ...node(minute), noise: noise() });
  }
  expect(journal.bytes()).toBeLessThan(20 * 1024 * 1024 * 1.1);
  const first = journal.beginsAt()!;
  expect(first).toBeGreaterThan(0);
  for (const at of [first, 1438 * 60_000]) {
    expect(journal.snapshotAt(at).snapshot).toMatchObject(node(at / 60_000));
  }
});

test("without noise a day fits whole", () => {
  using journal = Journal.write(freshPath());
  for (let minute = 0; minute < 1440; minute++) {
    journal.record(change(minute * 60_000));
    journal.keep(minute * 60_000, node(minute));
  }
  expect(journal.beginsAt()).toBe(0);
  expect(journal.events({ limit: 2000 })).toHaveLength(1440);
});

test("a damaged file is put aside and told, and a newer one, too", () => {
  for (const [damage, why] of [
    [
      (path: string) =>
        writeFileSync(path, "no database at all, but long enough to look like one".repeat(100)),
      "damaged",
    ],
    [(path: string) => truncateSync(path, 5000), "damaged"],
    [(path: string) => setVersion(path, 99), "version 99"],
  ] as const) {
    const path = freshPath();
    {
      using journal = Journal.write(path);
      for (let at = 0; at < 200; at++) journal.keep(at, { ...node(at), at: "x".repeat(3000) + at });
    }
    damage(path);
    const said: string[] = [];
    using journal = Journal.write(path, (trouble) => said.push(trouble));
    expect(said.join()).toContain(why);
    expect(journal.record(change(1))).toBe(1);
    expect(readdirSync(join(path, "..")).filter((name) => name.startsWith("journal.db.2"))).toHaveLength(1);
  }
});

test("where there is no room it says so once, goes on, and writes again when there is", () => {
  const path = join(mounted("256k"), "journal.db");
  const said: string[] = [];
  using journal = Journal.write(path, (trouble) => said.push(trouble));
  journal.record(change(1));
  const ballast = join(path, "..", "ballast");
  fill(ballast);
  const ids = Array.from({ length: 200 }, (_, at) =>
    journal.record({ ...change(at), text: "x".repeat(4000) }),
  );
  expect(ids).toContain(undefined);
  expect(said).toHaveLength(1);
  expect(said[0]).toContain("cannot be written");
  rmSync(ballast);
  expect(journal.record(change(300))).toBeNumber();
  expect(said.at(-1)).toBe("");
});

test("what may pass is no damage: a full disk and another program's lock at the start cost no file", () => {
  const path = join(mounted("256k"), "journal.db");
  {
    using before = Journal.write(path);
    before.record(change(1));
  }
  const ballast = join(path, "..", "ballast");
  fill(ballast);
  const said: string[] = [];
  {
    using journal = Journal.write(path, (trouble) => said.push(trouble));
    expect(journal.record(change(2))).toBeUndefined();
    expect(journal.beginsAt()).toBeUndefined();
  }
  rmSync(ballast);
  const other = new Database(path);
  other.run("BEGIN EXCLUSIVE");
  {
    using journal = Journal.write(path, (trouble) => said.push(trouble));
    expect(journal.record(change(3))).toBeUndefined();
  }
  other.run("ROLLBACK");
  other.close();
  expect(said).toHaveLength(2);
  expect(said.join()).not.toContain("begun anew");
  using journal = Journal.write(path);
  journal.record(change(4));
  expect(journal.events().map(({ at }) => at)).toEqual([1, 4]);
});

test("one that cannot be opened now is opened when it can be, and one that was taken away is begun anew", async () => {
  const path = freshPath();
  writeFileSync(join(path, "..", "..", "state"), "no directory");
  const said: string[] = [];
  using journal = Journal.write(path, (trouble) => said.push(trouble));
  expect(journal.record(change(1))).toBeUndefined();
  expect(said).toHaveLength(1);
  rmSync(join(path, "..", "..", "state"));
  await until(() => journal.record(change(2)) !== undefined, "it can be opened again");
  expect(said.at(-1)).toBe("");
  for (const ending of ["", "-wal", "-shm"]) rmSync(`${path}${ending}`, { force: true });
  expect(journal.record(change(3))).toBe(1);
  expect(said.at(-1)).toContain("was taken away");
  using reader = Journal.read(path);
  expect(reader.events().map(({ at }) => at)).toEqual([3]);
});

test("a clock that was set back mixes nothing up: events stay in order, and the last snapshot is the last", () => {
  using journal = Journal.write(freshPath());
  for (const at of [5_000_000, 6_000_000, 1_000_000, 1_001_000]) {
    journal.record(change(at));
    journal.keep(at, node(at));
  }
  expect(journal.events().map(({ at }) => at)).toEqual([5_000_000, 6_000_000, 1_000_000, 1_001_000]);
  expect(journal.snapshotAt().at).toBe(1_001_000);
  expect(journal.snapshotAt(1_000_500).at).toBe(1_000_000);
  expect(journal.snapshotAt(7_000_000).at).toBe(6_000_000);
});

test("whoever only reads changes nothing, and is told when there is none", () => {
  const path = freshPath();
  expect(() => Journal.read(path)).toThrow("there is none");
  using writer = Journal.write(path);
  writer.record(change(1));
  using reader = Journal.read(path);
  expect(reader.events()).toHaveLength(1);
  writer.record(change(2));
  expect(reader.events()).toHaveLength(2);
});

/** A small file system of its own. */
function mounted(size: string): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-small-"));
  ask(undefined, ["mount", "-t", "tmpfs", "-o", `size=${size}`, "small", directory]);
  afterThisTest(() => {
    ask(undefined, ["umount", "-l", directory]);
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

function fill(path: string): void {
  try {
    writeFileSync(path, Buffer.alloc(1024 * 1024));
  } catch {
    // As much as there was room for.
  }
}

test("a clock that was set forward, and back again, hides nothing of now", () => {
  using journal = Journal.write(freshPath());
  const year = 365 * 86_400_000;
  for (const at of [1_000_000, 1_000_000 + 10 * year, 1_000_000 + 10 * year + 1, 1_100_000, 1_200_000, 5]) {
    journal.record(change(at));
    journal.keep(at, node(at % 1000));
  }
  expect(journal.snapshotAt(1_150_000).at).toBe(1_100_000);
  expect(journal.snapshotAt(1_250_000).at).toBe(1_200_000);
  expect(journal.snapshotAt().at).toBe(5);
  expect(journal.beginsAt()).toBe(5);
  expect(journal.events({ since: 1_050_000, until: 1_300_000 }).map(({ at }) => at)).toEqual([
    1_100_000, 1_200_000,
  ]);
});

test("events alone are bounded, too: nobody need look at the node for that", () => {
  const path = freshPath();
  using journal = Journal.write(path);
  for (let at = 0; at < 1500; at++) journal.record({ ...change(at), text: `${at} ${"x".repeat(20_000)}` });
  expect(journal.bytes()).toBeLessThan(MOST_BYTES);
  const left = journal.events();
  expect(left.at(-1)!.at).toBe(1499);
  expect(left[0]!.at).toBeGreaterThan(0);
  // A tenth is forgotten at a time.
  expect(left.length).toBeGreaterThan(600);
});

test("somebody who reads for long costs no memory of the journal: it forgets no more than it must", () => {
  const path = freshPath();
  using journal = Journal.write(path);
  const write = (at: number): void =>
    void journal.record({ ...change(at), text: `${at} ${"x".repeat(20_000)}` });
  for (let at = 0; at < 1000; at++) write(at);
  // Holds the log: nothing of it gets into the file meanwhile.
  const reader = new Database(path, { readonly: true });
  reader.run("BEGIN");
  reader.query("SELECT count(*) FROM event").get();
  for (let at = 1000; at < 1200; at++) write(at);
  expect(journal.events().length).toBeGreaterThan(600);
  reader.run("COMMIT");
  reader.close();
});

test("a disk that is full in the middle of forgetting: nothing is lost but what could not be written", () => {
  const path = join(mounted("24m"), "journal.db");
  const said: string[] = [];
  using journal = Journal.write(path, (trouble) => said.push(trouble));
  const write = (at: number) => journal.record({ ...change(at), text: `${at} ${"x".repeat(20_000)}` });
  let at = 0;
  while (journal.bytes() < 17 * 1024 * 1024) write(at++);
  const ballast = join(path, "..", "ballast");
  // So little room is left that events find it for a while, and what is written to forget them does not.
  writeFileSync(ballast, Buffer.alloc(23 * 1024 * 1024 - journal.bytes() - 700 * 1024));
  fill(join(path, "..", "more"));
  rmSync(join(path, "..", "more"));
  for (let more = 0; more < 200; more++) write(at++);
  expect(said.filter((one) => one !== "").length).toBeGreaterThan(0);
  expect(said.join()).not.toContain("begun anew");
  expect(isWhole(path)).toBe(true);
  rmSync(ballast);
  const before = said.length;
  for (let more = 0; more < 100; more++) expect(write(at++)).toBeNumber();
  expect(said.slice(before).filter((one) => one !== "")).toEqual([]);
  expect(said.at(-1)).toBe("");
  expect(journal.events().at(-1)!.at).toBe(at - 1);
  expect(journal.bytes()).toBeLessThan(MOST_BYTES);
});

test("what stands in its place and is no file is told at once, and nobody waits for it", () => {
  for (const [make, why] of [
    [(path: string) => ask(undefined, ["mkdir", "-p", path]), "is a directory, not a file"],
    [(path: string) => ask(undefined, ["mkfifo", path]), "is a FIFO, not a file"],
    [(path: string) => ask(undefined, ["ln", "-s", "/dev/null", path]), "is a symbolic link, not a file"],
  ] as const) {
    const path = join(freshPath(), "..", "..", "journal.db");
    make(path);
    const said: string[] = [];
    using journal = Journal.write(path, (trouble) => said.push(trouble));
    expect(journal.record(change(1))).toBeUndefined();
    expect(said).toHaveLength(1);
    expect(said[0]).toContain(path);
    expect(said[0]).toContain(why);
    expect(() => Journal.read(path)).toThrow("it is no regular file");
  }
});

testWith(["real-root"])("a file of another user is not written to, and not believed", () => {
  const path = freshPath();
  {
    using journal = Journal.write(path);
    journal.record(change(1));
  }
  ask(undefined, ["chown", "1234", path]);
  const said: string[] = [];
  using journal = Journal.write(path, (trouble) => said.push(trouble));
  expect(said.join()).toContain("it belongs to user 1234");
  expect(journal.record(change(2))).toBe(1);
  expect(journal.events().map(({ at }) => at)).toEqual([2]);
  expect([statSync(path).uid, statSync(path).mode & 0o777]).toEqual([process.geteuid!(), 0o600]);
  expect(statSync(asides(path)[0]!).uid).toBe(1234);
});

test("a log that was left over is of no harm: of a file that is gone, of another file, and of one that is put aside", () => {
  const path = freshPath();
  const [log, other] = [`${path}-wal`, freshPath()];
  const leaveLog = (from: string): void => {
    // While a reader is there, the log stays when the writer ends.
    using journal = Journal.write(from);
    journal.record(change(1));
    copyFileSync(`${from}-wal`, `${from}.log`);
  };
  leaveLog(path);
  renameSync(`${path}.log`, log);
  rmSync(path);
  {
    using journal = Journal.write(path);
    expect(journal.events()).toEqual([]);
    expect(journal.record(change(2))).toBe(1);
  }
  leaveLog(other);
  copyFileSync(`${other}.log`, log);
  {
    const said: string[] = [];
    using journal = Journal.write(path, (trouble) => said.push(trouble));
    expect(journal.record(change(3))).toBeNumber();
    expect(isWhole(path)).toBe(true);
  }
  // A newer version's, whose last events are in the log alone.
  const reader = new Database(path, { readonly: true });
  reader.query("SELECT count(*) FROM event").get();
  setVersion(path, 99);
  const newer = new Database(path);
  newer.run("INSERT INTO event (at, kind, object, text) VALUES (99, 'agent', 'o', 'of a newer version')");
  const said: string[] = [];
  {
    using journal = Journal.write(path, (trouble) => said.push(trouble));
    expect(journal.record(change(4))).toBe(1);
  }
  reader.close();
  expect(said.join()).toContain("version 99");
  const [aside] = asides(path);
  newer.close();
  const kept = new Database(aside);
  expect(kept.query("SELECT text FROM event WHERE at = 99").all()).toEqual([{ text: "of a newer version" }]);
  kept.close();
});

test("a journal that is damaged again and again does not fill the disk with what is put aside", async () => {
  const path = freshPath();
  for (let round = 0; round < 6; round++) {
    using journal = Journal.write(path);
    expect(journal.record(change(round))).toBeNumber();
    journal.close();
    writeFileSync(path, `no database ${round} `.repeat(1000));
    // They go by the time in their names.
    await Bun.sleep(2);
  }
  using journal = Journal.write(path);
  expect(journal.record(change(9))).toBe(1);
  const kept = asides(path);
  expect(kept).toHaveLength(3);
  expect(kept.map((name) => readFileSync(name, "utf8").slice(0, 13))).toEqual(
    [3, 4, 5].map((round) => `no database ${round}`),
  );
});

test("a file that is damaged while it is open is put aside as soon as that shows, and a reader is told", async () => {
  const path = freshPath();
  const said: string[] = [];
  using journal = Journal.write(path, (trouble) => said.push(trouble));
  // More than SQLite keeps in memory, so that it has to look.
  for (let at = 0; at < 400; at++) journal.record({ ...change(at), text: `${at} ${"x".repeat(20_000)}` });
  using reader = Journal.read(path);
  writeFileSync(path, "no database ".repeat(700_000));
  rmSync(`${path}-wal`, { force: true });
  expect(() => reader.events()).toThrow(`reading the journal ${path}`);
  await until(() => {
    try {
      journal.events();
    } catch {
      // That is what shows it.
    }
    journal.record(change(1));
    return said.join().includes("was begun anew");
  }, "it is begun anew");
  expect(said.join()).toContain("was begun anew: it is damaged");
  expect(journal.record(change(2))).toBeNumber();
  expect(isWhole(path)).toBe(true);
});

const MOST_BYTES = 20 * 1024 * 1024 * 1.1;

function isWhole(path: string): boolean {
  const database = new Database(path, { readonly: true });
  const { quick_check: said } = database.query("PRAGMA quick_check(1)").get() as { quick_check: string };
  database.close();
  return said === "ok";
}

/** What was put aside of it, the oldest first. */
function asides(path: string): string[] {
  const names = readdirSync(join(path, "..")).filter((name) => /\.\d{4}-.*Z$/.test(name));
  return names.sort().map((name) => join(path, "..", name));
}

test("a process that is killed while it forgets, again and again, leaves a whole file each time", async () => {
  const path = freshPath();
  const script = `const { Journal } = await import(${JSON.stringify(MODULE)});
    const journal = Journal.write(${JSON.stringify(path)}, (trouble) => trouble && console.log(trouble));
    const filled = () => journal.bytes() > 16 * 1024 * 1024;
    for (let at = 1; ; at++) {
      journal.record({ at, kind: "agent", object: "o", text: at + "x".repeat(200_000) });
      if (filled()) console.log("full");
    }`;
  for (const lines of [1, 2, 5, 9, 14]) {
    const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
    let text = "";
    for await (const chunk of child.stdout) {
      text += new TextDecoder().decode(chunk);
      if (text.split("\n").length > lines) break;
    }
    child.kill("SIGKILL");
    await child.exited;
    expect(text.replaceAll("full\n", "")).toBe("");
    expect(isWhole(path)).toBe(true);
  }
  const said: string[] = [];
  using journal = Journal.write(path, (trouble) => said.push(trouble));
  expect(journal.record(change(1))).toBeNumber();
  expect(said).toEqual([]);
  expect(journal.bytes()).toBeLessThan(MOST_BYTES);
}, 180_000);

test("a process that is killed while it writes leaves a whole file", async () => {
  const path = freshPath();
  const script = `const { Journal } = await import(${JSON.stringify(MODULE)});
    const journal = Journal.write(${JSON.stringify(path)});
    for (let at = 1; ; at++) {
      journal.keep(at, { list: Array.from({ length: 300 }, (_, i) => ({ i, at: at * i % 7 })) , at });
      journal.record({ at, kind: "agent", object: "o", text: String(at) });
      if (at === 20) console.log("ready");
    }`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
  await child.stdout[Symbol.asyncIterator]().next();
  child.kill("SIGKILL");
  await child.exited;
  const said: string[] = [];
  using journal = Journal.write(path, (trouble) => said.push(trouble));
  expect(said).toEqual([]);
  const last = journal.events().at(-1)!;
  expect(journal.snapshotAt(last.at).snapshot).toMatchObject({ at: last.at });
  expect(existsSync(path)).toBe(true);
});

function setVersion(path: string, version: number): void {
  const database = new Database(path);
  database.run(`PRAGMA user_version = ${version}`);
  database.close();
}
