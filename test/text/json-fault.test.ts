/** Where a text stops being JSON. */
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { jsonFault } from "../../src/text/json-fault.ts";

test("the place is that of the first character that does not belong there", () => {
  for (const [text, said] of [
    ["", "it is no JSON: it ends too early"],
    [" \n", "it is no JSON: it ends too early"],
    ['{"a": 1, ', "it is no JSON: it ends too early"],
    ['{"a": [1, {"b": "c', 'it is no JSON: "\\"" on line 1, column 17 cannot stand there'],
    ['{"a": 1,}', 'it is no JSON: "}" on line 1, column 9 cannot stand there'],
    ["[1,]", 'it is no JSON: "]" on line 1, column 4 cannot stand there'],
    ['{\n  "a" 1\n}', 'it is no JSON: "1" on line 2, column 7 cannot stand there'],
    ["{'a': 1}", `it is no JSON: "'" on line 1, column 2 cannot stand there`],
    ["01", 'it is no JSON: "1" on line 1, column 2 cannot stand there'],
    ["{} {}", 'it is no JSON: "{" on line 1, column 4 cannot stand there'],
    ["\ufeff{}", 'it is no JSON: "\ufeff" on line 1, column 1 cannot stand there'],
    ["[}", 'it is no JSON: "}" on line 1, column 2 cannot stand there'],
    ["nul", 'it is no JSON: "n" on line 1, column 1 cannot stand there'],
  ] as const) {
    expect([text, jsonFault(text)]).toEqual([text, said]);
  }
  expect(jsonFault("[".repeat(1_000_000))).toBe("it is no JSON: it ends too early");
});

test("what is JSON has no fault but its end; what was changed has one at the change or later", () => {
  fc.assert(
    fc.property(fc.json(), fc.nat(), (text, number) => {
      expect(jsonFault(text)).toMatch(/ends too early/);
      const at = number % (text.length + 1);
      const changed = `${text.slice(0, at)}\u0001${text.slice(at)}`;
      const place = /line 1, column (\d+)/.exec(jsonFault(changed));
      expect(Number(place?.[1])).toBeLessThanOrEqual(at + 1);
    }),
  );
});
