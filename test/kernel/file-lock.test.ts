import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
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
