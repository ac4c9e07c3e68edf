/** The token's file: made whole or not at all, and nothing else in its place is taken, waited for, or told without its path. */
import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readToken } from "../../src/agent/token.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";

function freshPath(): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-token-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "state", "token");
}

test("it is made when it is not there, for its owner alone, and is the same the next time", () => {
  const path = freshPath();
  const token = readToken(path);
  expect(token).toMatch(/^[0-9a-f]{64}$/);
  expect(readToken(path)).toBe(token);
  expect(readFileSync(path, "utf8")).toBe(`${token}\n`);
  expect([statSync(path).mode & 0o777, statSync(join(path, "..")).mode & 0o777]).toEqual([0o600, 0o700]);
  expect(readdirSync(join(path, ".."))).toEqual(["token"]);
});

test("where no file can be, the next step is another place", () => {
  const path = freshPath();
  readToken(path);
  for (const one of [join(path, "below-a-file"), `${path}${"x".repeat(300)}`])
    expect(refusal(one)).toMatchObject({
      code: "bad-token-file",
      todo: expect.stringContaining("--token-file"),
    });
});

test("what somebody else made meanwhile is taken, and not written over", () => {
  const path = freshPath();
  const first = readToken(path);
  // What one that was killed had begun to write.
  writeFileSync(`${path}.new-${process.pid}`, "half");
  expect(readToken(path)).toBe(first);
  rmSync(path);
  expect(readToken(path)).not.toBe(first);
  expect(existsSync(`${path}.new-${process.pid}`)).toBe(false);
});

for (const [what, make, said] of [
  ["a directory", (path: string) => ask(undefined, ["mkdir", path]), "it is no regular file"],
  ["a FIFO", (path: string) => ask(undefined, ["mkfifo", "-m", "600", path]), "it is no regular file"],
  ["a link", (path: string) => ask(undefined, ["ln", "-s", "/etc/hostname", path]), "ELOOP"],
  ["a link to nowhere", (path: string) => ask(undefined, ["ln", "-s", "/nowhere", path]), "ELOOP"],
  [
    "a file that others read",
    (path: string) => put(path, "x".repeat(32), 0o640),
    "others may read it (mode 640",
  ],
  ["an empty file", (path: string) => put(path, ""), "it holds no token of at least 16 characters"],
  ["too short a token", (path: string) => put(path, "secret"), "it holds no token of at least 16 characters"],
  ["two words", (path: string) => put(path, `${"x".repeat(20)} ${"y".repeat(20)}`), "it holds no token"],
  ["letters that no header carries", (path: string) => put(path, "ü".repeat(32)), "beyond letters, digits"],
  ["zeros", (path: string) => put(path, "\0".repeat(32)), "beyond letters, digits"],
  ["a file without an end", (path: string) => put(path, "x".repeat(100_000)), "it has 100000 bytes"],
] as const) {
  test(`${what} in its place is refused with its path, and left as it is`, () => {
    const path = freshPath();
    ask(undefined, ["mkdir", "-p", join(path, "..")]);
    make(path);
    const before = ask(undefined, ["ls", "-ld", path]);
    expect(refusal(path)).toMatchObject({
      code: "bad-token-file",
      doing: `reading the agent's token ${path}`,
      said: expect.stringContaining(said),
    });
    expect(ask(undefined, ["ls", "-ld", path])).toBe(before);
  });
}

testWith(["real-root"])("a file of another user is refused", () => {
  const path = freshPath();
  readToken(path);
  ask(undefined, ["chown", "1234", path]);
  expect(refusal(path)).toMatchObject({ said: expect.stringContaining("owner 1234") });
});

testWith(["root"])("a disk without room leaves no half of it: the next start makes it", () => {
  const directory = mkdtempSync(join(tmpdir(), "wayout-full-"));
  ask(undefined, ["mount", "-t", "tmpfs", "-o", "size=16k", "full", directory]);
  afterThisTest(() => {
    ask(undefined, ["umount", "-l", directory]);
    rmSync(directory, { recursive: true, force: true });
  });
  const [path, ballast] = [join(directory, "token"), join(directory, "ballast")];
  try {
    writeFileSync(ballast, Buffer.alloc(1024 * 1024));
  } catch {
    // As much as there was room for.
  }
  expect(refusal(path)).toMatchObject({ code: "bad-token-file", said: expect.stringContaining("ENOSPC") });
  expect(readdirSync(directory)).toEqual(["ballast"]);
  rmSync(ballast);
  expect(readToken(path)).toMatch(/^[0-9a-f]{64}$/);
});

function put(path: string, text: string, mode = 0o600): void {
  writeFileSync(path, text, { mode });
}

function refusal(path: string): unknown {
  try {
    return readToken(path);
  } catch (error) {
    return error;
  }
}
