/** What stands where a file should be holds nobody up. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readText, readTextIfThere } from "../../src/kernel/file.ts";
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
