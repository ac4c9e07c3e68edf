/** What nobody would see in a text is spelled out for people, and escaped for programs. */
import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { escapeText } from "../../src/trace/show/picture.ts";
import { jsonText } from "../../src/text/json.ts";
import { isVisible, visible, visibleLines, visibleValue } from "../../src/text/visible.ts";

/** Every character on which a terminal or an editor acts, or which nobody sees. */
const UNSEEN = [
  ...Array.from({ length: 0x20 }, (_, code) => code),
  ...Array.from({ length: 0x21 }, (_, index) => 0x7f + index),
  0xad,
  0x61c,
  0x180e,
  0x200b,
  0x200e,
  0x200f,
  0x2028,
  0x2029,
  0x202a,
  0x202e,
  0x2060,
  0x2066,
  0x2069,
  0xfeff,
  0xfff9,
  0xe0001,
  0xe0041,
].map((code) => String.fromCodePoint(code));

describe("a text for people", () => {
  test("spells out what would act on a terminal", () => {
    expect(visible("a\u001b[2Jb\n✓ c\t\u0007\u009b\u202ed\u007f")).toBe(
      "a\\x1b[2Jb\\n✓ c\\t\\x07\\x9b\\u202ed\\x7f",
    );
  });

  test("has none of it left, whatever it was made of", () => {
    for (const character of UNSEEN) {
      const shown = visible(`a${character}b`);
      expect(shown).toMatch(/^a\\[xunrt]?[\da-fu\\]*b$/);
      expect(isVisible(shown)).toBe(true);
    }
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => isVisible(visible(text))));
  });

  test("stays as it is in any language", () => {
    for (const text of ["", "eth0", "größe", "имя-пода", "ポッド", "שלום", "مرحبا", "🦊 fox", "a b'\"\\$;"]) {
      expect(visible(text)).toBe(text);
    }
  });

  test("keeps its own line breaks where it has several lines", () => {
    expect(visibleLines("one\n\u001b[1mtwo\r\n")).toBe("one\n\\x1b[1mtwo\\r\n");
  });
});

describe("a value for people", () => {
  test("is gone through whole, keys and all", () => {
    const value: unknown = {
      names: ["a\n", "b"],
      deep: { "k\u202e": new Map([["x\u001b", new Set(["y\u0007"])]]) },
      number: 1,
      none: undefined,
    };
    expect(visibleValue(value)).toEqual({
      names: ["a\\n", "b"],
      deep: { "k\\u202e": new Map([["x\\x1b", new Set(["y\\x07"])]]) },
      number: 1,
      none: undefined,
    });
  });

  test("is the same object where nothing is to be done", () => {
    const value = { names: ["a", "b"], bytes: new Uint8Array(2) };
    expect(visibleValue(value)).toBe(value);
  });
});

describe("JSON", () => {
  test("holds the exact value, and nothing that a terminal would act on", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const json = jsonText({ text });
        expect(isVisible(json)).toBe(true);
        expect(JSON.parse(json)).toEqual({
          text: text.toWellFormed() === text ? text : JSON.parse(JSON.stringify(text)),
        });
      }),
    );
    expect(jsonText("\u202e\u009b\n")).toBe('"\\u202e\\u009b\\n"');
  });

  test("keeps the line breaks between its values", () => {
    expect(jsonText({ a: "\u007f" }, 2)).toBe('{\n  "a": "\\u007f"\n}');
  });
});

test("a page shows the same as a terminal, and no markup of others", () => {
  expect(escapeText(`<b onx='1' y="2">\u202e\u001b`)).toBe(
    "&lt;b onx=&#39;1&#39; y=&quot;2&quot;&gt;\\u202e\\x1b",
  );
});
