import { expect, test } from "bun:test";
import { assert, property, string } from "fast-check";
import { bytesOfHex, decodeUtf8, encodeUtf8, hexOf, shaHex, utf8Length } from "../../src/platform/bytes.ts";
import { platform } from "#platform";
import { DECODED, ENCODED, HASHED } from "./vectors.ts";

test("text becomes UTF-8, and lone surrogates U+FFFD", () => {
  for (const [units, hex] of ENCODED) {
    const text = String.fromCharCode(...units);
    expect(hexOf(encodeUtf8(text))).toBe(hex);
    expect(utf8Length(text)).toBe(hex.length / 2);
  }
});

test("bytes become text, and what is no UTF-8 becomes U+FFFD", () => {
  for (const [hex, text] of DECODED) expect(decodeUtf8(bytesOfHex(hex))).toBe(text);
});

test("whatever is text comes back", () => {
  assert(
    property(string({ unit: "binary" }), (text) => {
      expect(decodeUtf8(encodeUtf8(text))).toBe(text.toWellFormed());
    }),
  );
});

test("hexadecimal digits are read up to what is none", () => {
  expect(hexOf(bytesOfHex("00ffAb"))).toBe("00ffab");
  for (const [text, hex] of [
    ["abc", "ab"],
    ["ab cd", "ab"],
    ["zz", ""],
    ["", ""],
  ] as const) {
    expect(hexOf(bytesOfHex(text))).toBe(hex);
  }
});

test("hashes are those of the standard, in one piece or many", () => {
  for (const [algorithm, text, hex] of HASHED) {
    expect(shaHex(algorithm, text)).toBe(hex);
    const hasher = platform.hasher(algorithm);
    for (const character of text) hasher.update(encodeUtf8(character));
    expect(hasher.digestHex()).toBe(hex);
  }
});
