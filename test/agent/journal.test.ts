/** The journal: what it remembers, how much, and what it bears. */
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Journal, type JournalEvent } from "../../src/agent/journal/journal.ts";
import { until } from "../support/until.ts";
import { ask } from "../support/witness.ts";
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
