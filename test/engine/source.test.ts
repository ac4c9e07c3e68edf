/** The engine that is compiled is the one upstream released, whoever carries it here. */
import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  changed,
  pinnedFiles,
  readChanges,
  requireHash,
  writeEngineSource,
} from "../../scripts/engine/source.ts";

test("what the package carries and what upstream changed since make the released files", () => {
  const directory = mkdtempSync(join(tmpdir(), "wayout-engine-source-"));
  try {
    // Each file's hash is compared there.
    writeEngineSource(join(directory, "source"));
    expect(readdirSync(join(directory, "source")).sort()).toEqual([...pinnedFiles().keys()].sort());
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a file that differs in one byte is refused, and named", () => {
  const hash = new Bun.CryptoHasher("sha256").update("int x;\n").digest("hex");
  requireHash("x.c", "int x;\n", hash);
  expect(() => requireHash("x.c", "int y;\n", hash)).toThrow(/the engine's x\.c is not that of QuickJS-ng/);
});

test("a difference is only applied where it belongs", () => {
  const text =
    "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -2 +2,2 @@ f\n-two\n+2\n+2½\n@@ -3,0 +5 @@ f\n+four\n";
  const changes = readChanges(text).get("f")!;
  expect(changed("one\ntwo\nthree\n", changes)).toBe("one\n2\n2½\nthree\nfour\n");
  expect(() => changed("one\n2\nthree\n", changes)).toThrow(/line 2 .* is not what upstream changed/);
});
