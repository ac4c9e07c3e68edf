/** The small program's file: what it refuses to start from, what is in it, and that it is the same whoever builds it. */
import { expect } from "bun:test";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { homedir, hostname } from "node:os";
import { findCompiler } from "../../scripts/engine/compile.ts";
import { buildPlugin } from "../../scripts/engine/plugin.ts";
import { run, testWith, type Ran } from "../support/witness.ts";
import { program, scratch, smallPlugin } from "./small-program.ts";

const withCompiler = testWith(["musl-gcc"]);
const ROOT = join(import.meta.dir, "..", "..");

/** Where the image begins: behind the engine, whose length stands behind its mark and hash. */
function imageStart(file: Buffer): number {
  return Number(file.readBigUInt64LE(file.indexOf("wayout-engine-1\0") + 48));
}

/** Runs the plugin from a file with these bytes. */
function version(file: Uint8Array, ...args: string[]): Ran {
  const path = join(scratch(), "damaged");
  writeFileSync(path, file);
  chmodSync(path, 0o755);
  return run(undefined, [path, ...args], "{}", args.length === 0 ? { CNI_COMMAND: "VERSION" } : {});
}

function changedAt(file: Buffer, at: number): Buffer {
  const copy = Buffer.from(file);
  copy[at] = copy[at]! ^ 0x55;
  return copy;
}

withCompiler("as it was built it answers, and stands its examination", () => {
  const file = readFileSync(smallPlugin());
  expect(version(file)).toMatchObject({ exitCode: 0, stderr: "" });
  expect(version(file, "--verify")).toMatchObject({ exitCode: 0, stdout: "", stderr: "" });
});

withCompiler(
  "a file that is not whole, or another's, does not start, and says so as a runtime reads it",
  async () => {
    const file = readFileSync(smallPlugin());
    const start = imageStart(file);
    const other = readFileSync(await program("__wayout.main = async () => 0;", ["-O1"]));
    const otherImage = other.subarray(imageStart(other));
    const damaged: readonly (readonly [string, Buffer, RegExp])[] = [
      ["no image", file.subarray(0, start), /it ends too early/],
      ["half an image", file.subarray(0, start + 100_000), /not the length it was made with/],
      ["a byte less", file.subarray(0, -1), /not the length it was made with/],
      ["a byte more", Buffer.concat([file, Buffer.from([0])]), /not the length it was made with/],
      ["another beginning", changedAt(file, start), /no image where one should be/],
      ["a header that was changed", changedAt(file, start + 96), /its header was changed/],
      [
        "zeros instead of an image",
        Buffer.concat([file.subarray(0, start), Buffer.alloc(file.length - start)]),
        /no image/,
      ],
      ["a blank page", Buffer.from(file).fill(0, start + 65_536, start + 131_072), /its image was changed/],
    ];
    for (const [what, bytes, said] of damaged) {
      const { exitCode, stdout } = version(bytes);
      expect([what, exitCode]).toEqual([what, 1]);
      const answer = JSON.parse(stdout) as { code: number; msg: string; details: string };
      expect([what, answer.code, answer.msg]).toEqual([what, 100, expect.stringMatching(said)]);
      expect(answer.details).toContain("wayout cni install");
      expect(version(bytes, "--verify").exitCode).toBe(1);
    }
    // The other engine's file is well by itself; its image behind this engine is not.
    const mixed = version(Buffer.concat([file.subarray(0, start), otherImage]));
    expect(mixed.stdout).toMatch(/made by another engine|another place/);
  },
);

withCompiler("what ends unexpectedly tells the files and lines of our sources", () => {
  // Nested deeper than there is stack for.
  const input = `{"args":${"[".repeat(200_000)}${"]".repeat(200_000)}}`;
  const { exitCode, stdout } = run(undefined, [smallPlugin()], input, { CNI_COMMAND: "VERSION" });
  const { details } = JSON.parse(stdout) as { details: string };
  const asked = "src/cni/version-answer.ts";
  const lines = readFileSync(join(ROOT, asked), "utf8").split("\n");
  const line = lines.findIndex((text) => text.includes("versionOf(readInput())")) + 1;
  expect(exitCode).toBe(1);
  // The bundler joins statements where it can: a line may be that of the one behind.
  expect(details).toMatch(/at versionOf \(src\/cni\/standard-streams\.ts:\d+\)/);
  expect(details).toContain(`(${asked}:${line})`);
});

withCompiler("one changed byte anywhere behind the engine is found by the examination", () => {
  const file = readFileSync(smallPlugin());
  for (let at = imageStart(file); at < file.length; at += Math.ceil(file.length / 12)) {
    expect([at, version(changedAt(file, at), "--verify").exitCode === 0]).toEqual([at, false]);
  }
});

// Every run of the maker lies elsewhere in memory: an address of its stack or its own would differ.
withCompiler("two builds make the same bytes, and nothing of the machine is in them", async () => {
  const again = join(scratch(), "again");
  await buildPlugin(again, { compiler: findCompiler() });
  const file = readFileSync(smallPlugin());
  expect(readFileSync(again).equals(file)).toBe(true);
  for (const secret of [ROOT, homedir(), process.env["PATH"] ?? "", `${process.env["TMPDIR"]}`]) {
    if (secret.length > 6) expect([secret, file.indexOf(secret)]).toEqual([secret, -1]);
  }
  if (hostname().length > 6) expect(file.indexOf(hostname())).toBe(-1);
});

withCompiler(
  "no part of the engine is both writable and executable; its tables are read-only when it runs",
  () => {
    const file = readFileSync(smallPlugin());
    const types = new Map<number, number>();
    const headers = Number(file.readBigUInt64LE(32));
    for (let number = 0; number < file.readUInt16LE(56); number++) {
      const at = headers + number * file.readUInt16LE(54);
      const flags = file.readUInt32LE(at + 4);
      types.set(file.readUInt32LE(at), flags);
      expect(flags & 3).not.toBe(3);
    }
    const [PT_GNU_STACK, PT_GNU_RELRO, PT_INTERP] = [0x6474e551, 0x6474e552, 3];
    expect(types.get(PT_GNU_STACK)).toBe(6);
    expect(types.has(PT_GNU_RELRO)).toBe(true);
    expect(types.has(PT_INTERP)).toBe(false);
  },
);
