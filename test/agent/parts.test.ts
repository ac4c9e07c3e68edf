/** Versions of a value, cut into parts and put together again. */
import { expect, test } from "bun:test";
import { assert, jsonValue, property } from "fast-check";
import { getValue, namesIn, putValue, type PartName } from "../../src/agent/journal/parts.ts";

class Store {
  readonly parts = new Map<PartName, string>();
  readonly put = (name: PartName, text: string): void => void this.parts.set(name, text);
  readonly get = (name: PartName): string | undefined => this.parts.get(name);

  bytes(): number {
    return [...this.parts.values()].reduce((sum, text) => sum + text.length, 0);
  }
}

const route = (index: number) => ({
  destination: `10.${index >> 8}.${index & 255}.0/24`,
  gateway: `203.0.113.${index % 250}`,
  table: 254,
  flags: ["onlink"],
});

test("what was put comes back, whatever it is", () => {
  assert(
    property(jsonValue({ maxDepth: 6 }), (value) => {
      const store = new Store();
      const name = putValue(value, store.put);
      expect(getValue(name, store.get)).toEqual(JSON.parse(JSON.stringify(value)));
    }),
    { numRuns: 300 },
  );
});

test("a change in a long list costs its neighbourhood, not the list", () => {
  const list = Array.from({ length: 5000 }, (_, index) => route(index));
  const store = new Store();
  putValue({ node: { routes: list } }, store.put);
  const whole = store.bytes();
  for (const at of [0, 2500, 4999]) {
    const before = store.bytes();
    const changed = list.toSpliced(at, 1, { ...route(at), gateway: "198.51.100.1" }, route(9000));
    const name = putValue({ node: { routes: changed } }, store.put);
    expect(getValue(name, store.get)).toEqual({ node: { routes: changed } });
    expect(store.bytes() - before).toBeLessThan(whole / 10);
  }
});

test("an equal value is the same part, and every part is named by the one around it", () => {
  const store = new Store();
  const value = {
    pods: Array.from({ length: 200 }, (_, index) => ({ name: `pod-${index}`, routes: [route(index)] })),
  };
  const name = putValue(value, store.put);
  const count = store.parts.size;
  expect(putValue(structuredClone(value), store.put)).toBe(name);
  expect(store.parts.size).toBe(count);
  const reached = new Set<PartName>();
  const visit = (part: PartName): void => {
    reached.add(part);
    for (const inside of namesIn(store.get(part)!)) visit(inside);
  };
  visit(name);
  expect(reached.size).toBe(count);
});

test("a lost part is told", () => {
  const store = new Store();
  const name = putValue({ text: "x".repeat(5000) }, store.put);
  for (const part of store.parts.keys()) if (part !== name) store.parts.delete(part);
  expect(() => getValue(name, store.get)).toThrow("a part of it is lost");
});
