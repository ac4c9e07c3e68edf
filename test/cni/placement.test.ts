/** A configuration that is written anew while runtimes read it: nobody ever reads half of one. */
import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CONFLIST_NAME, putConflist } from "../../src/cni/placement.ts";
import { afterThisTest } from "../support/teardown.ts";

const READS = 10_000;

/** Reads as a runtime does: the directory, then each file that counts; the sum of what was seen, or what was wrong. */
const READER = `
const { readdirSync, readFileSync } = require("node:fs");
const [directory] = process.argv.slice(-1);
const seen = new Set();
for (let read = 0; read < ${READS}; read++) {
  const names = readdirSync(directory).filter((name) => /\\.(conf|conflist|json)$/.test(name));
  if (names.length !== 1) throw new Error("files: " + names);
  const { plugins } = JSON.parse(readFileSync(directory + "/" + names[0], "utf8"));
  if (plugins[0].filling.length !== plugins[0].length) throw new Error("half of it");
  seen.add(plugins[0].length);
}
process.stdout.write(String(seen.size));`;

test("is whole at each of ten thousand reads", async () => {
  const directory = mkdtempSync(join(tmpdir(), "wayout-conf-"));
  afterThisTest(() => rmSync(directory, { recursive: true }));
  const write = (length: number): unknown =>
    putConflist(directory, {
      name: "pods",
      plugins: [{ type: "wayout", length, filling: "x".repeat(length) }],
    });
  write(1);
  const reader = Bun.spawn([process.execPath, "-e", READER, directory], { stdout: "pipe", stderr: "pipe" });
  let writes = 1;
  // Longer than a page and shorter, so that a file that is overwritten in place would be seen torn or with a tail.
  while (reader.exitCode === null) {
    write(1 + ((writes * 7919) % 60_000));
    writes++;
    await Bun.sleep(0);
  }
  expect([await reader.stderr.text(), reader.exitCode]).toEqual(["", 0]);
  expect(Number(await reader.stdout.text())).toBeGreaterThan(1);
  expect(readdirSync(directory)).toEqual([CONFLIST_NAME]);
});
