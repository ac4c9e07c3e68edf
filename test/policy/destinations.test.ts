/** The longest prefix around a destination decides whether it is translated. */
import { expect, test } from "bun:test";
import { array, assert, integer, property, record } from "fast-check";
import { cidrContains, cidrOf, cidrText, parseCidr } from "../../src/address/cidr.ts";
import { ipFromNumber } from "../../src/address/ip.ts";
import { untranslatedOf } from "../../src/policy/destinations.ts";

test("one address inside of an excluded network is cut out of it", () => {
  expect(untranslatedOf(["10.0.0.0/30"], ["10.0.0.1/32"])).toEqual(["10.0.0.0/32", "10.0.0.2/31"]);
  const cut = untranslatedOf(["10.0.0.0/8"], ["10.99.0.7/32"]);
  expect(cut).toHaveLength(24);
  expect(cut.some((cidr) => cidrContains(parseCidr(cidr), "10.99.0.7"))).toBe(false);
  expect(cut.some((cidr) => cidrContains(parseCidr(cidr), "10.99.0.6"))).toBe(true);
});

test("a network in an exception is excluded again, and families stay apart", () => {
  expect(untranslatedOf(["10.0.0.0/8", "10.1.1.0/24", "fd00::/8"], ["10.1.0.0/16", "fd00::/9"])).toContain(
    "10.1.1.0/24",
  );
  expect(untranslatedOf(["fd00::/8"], ["10.0.0.0/8"])).toEqual(["fd00::/8"]);
  expect(untranslatedOf(["0.0.0.0/0"], ["0.0.0.0/0"])).toEqual([]);
  expect(untranslatedOf([], ["10.0.0.0/8"])).toEqual([]);
});

test("every address is decided by its longest prefix", () => {
  const prefix = record({ value: integer({ min: 0, max: 255 }), length: integer({ min: 24, max: 32 }) });
  const text = ({ value, length }: { value: number; length: number }): string =>
    cidrText(cidrOf(`10.0.0.${value}`, length));
  assert(
    property(array(prefix, { maxLength: 6 }), array(prefix, { maxLength: 6 }), (kept, translated) => {
      const [keptTexts, translatedTexts] = [kept.map(text), translated.map(text)];
      const found = untranslatedOf(keptTexts, translatedTexts).map((cidr) => parseCidr(cidr));
      for (let last = 0; last < 256; last += 3) {
        const address = ipFromNumber(4, (10n << 24n) + BigInt(last));
        const longest = (texts: readonly string[]): number =>
          Math.max(
            -1,
            ...texts
              .map((one) => parseCidr(one))
              .filter((one) => cidrContains(one, address))
              .map((one) => one.prefixLength),
          );
        const wanted = longest(keptTexts) > longest(translatedTexts);
        expect([address, found.some((one) => cidrContains(one, address))]).toEqual([address, wanted]);
      }
    }),
    { numRuns: 300 },
  );
});

test("ten thousand prefixes are no matter", () => {
  const many = Array.from({ length: 10_000 }, (_, index) => `10.${index >> 8}.${index & 255}.0/24`);
  expect(untranslatedOf(["10.0.0.0/8"], many).length).toBeGreaterThan(0);
});
