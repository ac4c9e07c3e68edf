import { afterEach, expect } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GenerationMemory } from "../../src/nat/generation-memory.ts";
import { freshNamespace } from "../support/world.ts";
import { testWith } from "../support/witness.ts";

const test = testWith(["root", "ip"]);
const directory = mkdtempSync(join(tmpdir(), "wayout-memory-"));

afterEach(() => {
  for (const name of readdirSync(directory)) rmSync(join(directory, name));
});

test("holds what was noted, at that generation, in that namespace, for everybody who asks", () => {
  const [namespace, other] = [freshNamespace(), freshNamespace()];
  const memory = new GenerationMemory(namespace, directory);
  expect(memory.holds(7, "a")).toBe(false);
  memory.note(7, undefined, "a");
  memory.note(7, undefined, "b");
  const again = new GenerationMemory(namespace, directory);
  expect([again.holds(7, "a"), again.holds(7, "b"), again.holds(7, "c")]).toEqual([true, true, false]);
  expect(again.holds(8, "a")).toBe(false);
  expect(new GenerationMemory(other, directory).holds(7, "a")).toBe(false);
});

test("a new generation forgets the old one's findings", () => {
  const memory = new GenerationMemory(freshNamespace(), directory);
  memory.note(7, undefined, "a");
  memory.note(8, undefined, "b");
  expect([memory.holds(7, "a"), memory.holds(8, "a"), memory.holds(8, "b")]).toEqual([false, false, true]);
});

test("what was found of a table holds while the table does, whatever others do to theirs", () => {
  const memory = new GenerationMemory(freshNamespace(), directory);
  memory.note(7, "table", "a");
  expect(memory.carries(8, "other", "a")).toBe(false);
  expect(memory.carries(8, undefined, "a")).toBe(false);
  expect(memory.carries(8, "table", "b")).toBe(false);
  expect(memory.holds(8, "a")).toBe(false);
  expect(memory.carries(8, "table", "a")).toBe(true);
  expect([memory.holds(7, "a"), memory.holds(8, "a")]).toEqual([false, true]);
  memory.note(9, "table", "b");
  expect([memory.holds(9, "a"), memory.holds(9, "b")]).toEqual([true, true]);
  memory.note(10, "other", "b");
  expect([memory.carries(10, "other", "a"), memory.holds(10, "b")]).toEqual([false, true]);
});

test("a table that nobody looked at is no table to carry a finding", () => {
  const memory = new GenerationMemory(freshNamespace(), directory);
  memory.note(7, undefined, "a");
  expect(memory.carries(8, "", "a")).toBe(false);
});

test("forgets everything, and leaves no directory behind", () => {
  const place = join(directory, "place");
  const [memory, other] = [
    new GenerationMemory(freshNamespace(), place),
    new GenerationMemory(freshNamespace(), place),
  ];
  memory.note(7, undefined, "a");
  other.note(7, undefined, "a");
  memory.forget();
  expect([memory.holds(7, "a"), other.holds(7, "a")]).toEqual([false, true]);
  other.forget();
  expect(readdirSync(directory)).toEqual([]);
});

test("where nothing can be kept, nothing is held and nothing fails", () => {
  writeFileSync(join(directory, "file"), "");
  const memory = new GenerationMemory(freshNamespace(), join(directory, "file", "below"));
  memory.note(7, undefined, "a");
  expect(memory.holds(7, "a")).toBe(false);
});

test("a damaged file holds nothing", () => {
  const memory = new GenerationMemory(freshNamespace(), directory);
  memory.note(7, undefined, "a");
  const [name] = readdirSync(directory);
  writeFileSync(join(directory, name!), "\u0000nonsense");
  expect(memory.holds(7, "a")).toBe(false);
});

test("traces of dead namespaces do not pile up", () => {
  for (let index = 0; index < 300; index++) {
    writeFileSync(join(directory, `${index}`), "");
    utimesSync(join(directory, `${index}`), index, index);
  }
  const memory = new GenerationMemory(freshNamespace(), directory);
  memory.note(7, undefined, "a");
  const left = readdirSync(directory);
  expect(left.length).toBeLessThan(256);
  expect(left).toContain("299");
  expect(memory.holds(7, "a")).toBe(true);
});
