import { expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileLock, lockHolder } from "../../src/kernel/file-lock.ts";
import { queueFor } from "../../src/kernel/lock-queue.ts";
import { WayoutError } from "../../src/error.ts";
import { isStopped } from "../../src/kernel/process.ts";
import { testWith } from "../support/witness.ts";
import { afterThisTest } from "../support/teardown.ts";

function freshPath(): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-lock-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "below", "lock");
}

const briefly = { doing: "trying it", timeoutMs: 30 };

test("one holder at a time, or several who share it; the file is its owner's alone", () => {
  const path = freshPath();
  {
    using _first = FileLock.try(path)!;
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(FileLock.try(path)).toBeUndefined();
    expect(FileLock.try(path, "shared")).toBeUndefined();
  }
  using _second = FileLock.try(path, "shared")!;
  using third = FileLock.try(path, "shared");
  expect(third).toBeDefined();
  expect(FileLock.try(path)).toBeUndefined();
});

test("a wait is bounded, and its error names the holder: by what it wrote, or by what the kernel lists", () => {
  for (const signed of [true, false]) {
    const path = freshPath();
    using lock = FileLock.try(path)!;
    if (signed) lock.sign();
    expect(lockHolder(path)?.pid).toBe(process.pid);
    expect(() => FileLock.take(path, briefly)).toThrow(
      new RegExp(`process ${process.pid} .* has held ${path}`),
    );
  }
});

testWith(["flock", "sleep"])(
  "a holder that was stopped is told as such, with the way to let it go on",
  () => {
    const path = freshPath();
    FileLock.try(path)![Symbol.dispose]();
    const holder = Bun.spawn(["flock", "--no-fork", path, "sleep", "60"]);
    afterThisTest(() => holder.kill("SIGKILL"));
    const refusal = (): WayoutError => {
      try {
        FileLock.take(path, briefly)[Symbol.dispose]();
      } catch (error) {
        if (error instanceof WayoutError) return error;
      }
      throw new Error("the lock is free");
    };
    while (lockHolder(path)?.pid !== holder.pid) Bun.sleepSync(1);
    expect(refusal().todo).toContain(`ps -fp ${holder.pid}`);
    holder.kill("SIGSTOP");
    while (!isStopped(holder.pid)) Bun.sleepSync(1);
    expect(refusal().todo).toContain(`kill -CONT ${holder.pid}`);
  },
);

test("who died is no holder, whatever the file says", () => {
  const path = freshPath();
  FileLock.try(path)![Symbol.dispose]();
  // This very pid, but a process that started at another time.
  writeFileSync(path, `${process.pid} 1`.padEnd(31) + "\n");
  expect(lockHolder(path)).toBeUndefined();
  using lock = FileLock.take(path, briefly);
  expect(lock.path).toBe(path);
});

test("a lock that was taken away with its file is waited for no longer", () => {
  const path = freshPath();
  const lock = FileLock.try(path)!;
  lock.remove();
  using again = FileLock.try(path);
  expect(again).toBeDefined();
});

test("sixty at once are served in the order in which they came, and leave nothing", async () => {
  const path = freshPath();
  const holder = FileLock.try(path)!.sign();
  const served: number[] = [];
  const waiting: Promise<void>[] = [];
  for (let number = 0; number < 60; number++) {
    waiting.push(
      queueFor(path, { doing: "waiting", timeoutMs: 20_000 }).then((lock) => {
        served.push(number);
        lock.remove();
      }),
    );
  }
  holder.remove();
  await Promise.all(waiting);
  expect(served).toEqual(Array.from({ length: 60 }, (_, number) => number));
  expect(readdirSync(join(path, ".."))).toEqual([]);
});

test("a ticket whose holder died holds nobody up, and goes", async () => {
  const path = freshPath();
  FileLock.try(path)!.remove();
  writeFileSync(`${path}.wait-0000000000000001-1`, "");
  const lock = await queueFor(path, briefly);
  lock.remove();
  expect(readdirSync(join(path, ".."))).toEqual([]);
});

test("a signal ends the wait; a holder that goes on for too long, too", async () => {
  const path = freshPath();
  using _holder = FileLock.try(path)!.sign();
  const abort = new AbortController();
  const waiting = queueFor(path, { doing: "waiting", timeoutMs: 20_000, signal: abort.signal });
  abort.abort();
  expect(await waiting.catch((error: unknown) => error)).toMatchObject({ code: "interrupted" });
  const inVain = await queueFor(path, briefly).catch((error: unknown) => error);
  expect(inVain).toMatchObject({ code: "busy", details: { pid: process.pid } });
  expect(readdirSync(join(path, ".."))).toEqual(["lock"]);
});

function untilHeld(path: string, pid: number): void {
  for (let left = 10_000; lockHolder(path)?.pid !== pid; left--) {
    if (left === 0) throw new Error(`${pid} does not get the lock`);
    Bun.sleepSync(1);
  }
}

testWith(["mkfifo"])("a FIFO in its place is taken away", () => {
  const path = freshPath();
  mkdirSync(join(path, ".."), { recursive: true });
  expect(Bun.spawnSync(["mkfifo", "-m", "600", path]).exitCode).toBe(0);
  using lock = FileLock.take(path, briefly);
  expect(statSync(lock.path).isFile()).toBe(true);
});

/** What may stand where a lock belongs, and must hold nobody up: others may open it, or it is no file at all. */
const STRANGE: Readonly<Record<string, (path: string) => void>> = {
  "that every user may open": (path) => {
    writeFileSync(path, "");
    chmodSync(path, 0o666);
  },
  "of another user": (path) => {
    writeFileSync(path, "", { mode: 0o600 });
    chownSync(path, 4711, 4711);
  },
};

for (const [what, make] of Object.entries(STRANGE)) {
  testWith(["real-root", "flock"])(`a lock ${what} is made anew, whoever holds the old one`, () => {
    const path = freshPath();
    FileLock.try(path)!.remove();
    mkdirSync(join(path, ".."), { recursive: true });
    make(path);
    const holder = Bun.spawn(["flock", "--no-fork", path, "sleep", "60"]);
    afterThisTest(() => holder.kill("SIGKILL"));
    untilHeld(path, holder.pid);
    for (const lasts of [undefined, true] as const) {
      using lock = FileLock.take(path, { ...briefly, ...(lasts === undefined ? {} : { lasts }) });
      const { mode, uid } = statSync(path);
      expect([mode & 0o7777, uid, statSync(path).isFile()]).toEqual([0o600, 0, true]);
      expect(FileLock.try(path)).toBeUndefined();
      expect(lock.sign().path).toBe(path);
    }
  });
}

testWith(["real-root", "flock"])("a lock of another program is taken as it is, and waited for", () => {
  const path = freshPath();
  FileLock.try(path)!.remove();
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, "");
  chmodSync(path, 0o644);
  const holder = Bun.spawn(["flock", "--no-fork", path, "sleep", "60"]);
  afterThisTest(() => holder.kill("SIGKILL"));
  untilHeld(path, holder.pid);
  const others = { permissions: 0o600 };
  expect(() => FileLock.take(path, { ...briefly, others })).toThrow(`process ${holder.pid} `);
  expect(statSync(path).mode & 0o777).toBe(0o644);
});

test("a link or a directory in its place is named, and nothing behind it is touched", () => {
  const path = freshPath();
  const victim = join(path, "..", "..", "victim");
  FileLock.try(path)!.remove();
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(victim, "its own");
  symlinkSync(victim, path);
  expect(() => FileLock.try(path)).toThrow(path);
  expect([readFileSync(victim, "utf8"), statSync(victim).mode & 0o777]).toEqual(["its own", 0o644]);
  rmSync(path);
  mkdirSync(path);
  expect(() => FileLock.take(path, briefly)).toThrow(path);
});

test("what is no ticket holds nobody up: a link, a directory, the file of a process that was killed", async () => {
  const path = freshPath();
  FileLock.try(path)!.remove();
  mkdirSync(`${path}.wait-0000000000000001-1`, { recursive: true });
  symlinkSync("/dev/zero", `${path}.wait-0000000000000002-1`);
  const lock = await queueFor(path, briefly);
  lock.remove();
});

testWith(["real-root"])(
  "a holder that is killed lets go at once, and its signature speaks for nobody",
  async () => {
    const path = freshPath();
    const program = `
    import { FileLock } from ${JSON.stringify(join(import.meta.dir, "../../src/kernel/file-lock.ts"))};
    const lock = FileLock.try(${JSON.stringify(path)}).sign();
    console.log("held");
    setInterval(() => lock, 1000);`;
    const child = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe", stderr: "inherit" });
    afterThisTest(() => child.kill("SIGKILL"));
    for await (const chunk of child.stdout) if (Buffer.from(chunk).toString().includes("held")) break;
    expect(lockHolder(path)?.pid).toBe(child.pid);
    expect(() => FileLock.take(path, briefly)).toThrow(`process ${child.pid} `);
    child.kill("SIGKILL");
    await child.exited;
    expect(lockHolder(path)).toBeUndefined();
    FileLock.take(path, briefly).remove();
  },
);
