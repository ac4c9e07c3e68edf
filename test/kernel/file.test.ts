/** What stands where a file should be holds nobody up. */
import { expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileLock } from "../../src/kernel/file-lock.ts";
import { makeDirectory, readText, readTextIfThere } from "../../src/kernel/file.ts";
import { afterThisTest } from "../support/teardown.ts";
import { run } from "../support/witness.ts";

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-file-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

test("a FIFO is not waited for, a file is read whole", () => {
  const directory = scratch();
  const fifo = join(directory, "fifo");
  expect(run(undefined, ["mkfifo", fifo]).exitCode).toBe(0);
  expect(readText(fifo)).toBe("");
  expect(readTextIfThere(fifo)).toBe("");
  const file = join(directory, "file");
  const text = "ü".repeat(100_000);
  writeFileSync(file, text);
  expect(readText(file)).toBe(text);
});

test("a device without an end is given up", () => {
  expect(() => readText("/dev/zero")).toThrow("EFBIG");
});

test("a directory that is removed while something leads to it: nothing is made in it, and nobody tries for ever", () => {
  const directory = mkdtempSync(join(tmpdir(), "wayout-removed-"));
  const fd = openSync(directory, "r");
  try {
    rmdirSync(directory);
    for (const inside of [`/proc/self/fd/${fd}`, "/proc"]) {
      expect(() => makeDirectory(`${inside}/network`)).toThrow("ENOENT");
      expect(() => makeDirectory(`${inside}/network/below`)).toThrow("ENOENT");
      expect(() => FileLock.take(`${inside}/network.lock`, { doing: "waiting", timeoutMs: 100 })).toThrow(
        "ENOENT",
      );
    }
  } finally {
    closeSync(fd);
  }
});
