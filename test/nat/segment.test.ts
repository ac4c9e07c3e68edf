import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { cidrOf, cidrText, parseCidr } from "../../src/address/cidr.ts";
import { ipFromNumber } from "../../src/address/ip.ts";
import { claimsOf, intentsOfClaims } from "../../src/nat/claim.ts";
import { normalizeIntent, type NatIntent, type NatSource } from "../../src/nat/intent.ts";
import { byPrecedence, coverOf, joinSegments, segmentsOf } from "../../src/nat/segment.ts";

/** Prefixes of a 64-address world, so that they nest often. */
const smallCidr = fc
  .tuple(fc.integer({ min: 0, max: 63 }), fc.integer({ min: 25, max: 32 }))
  .map(([host, length]) => cidrText(cidrOf(`10.0.0.${host}`, length)));

const source = (cidr: fc.Arbitrary<string>): fc.Arbitrary<NatSource> =>
  cidr.map((text) => ({ cidr: text, translation: { fullyRandom: false } }));

const intents = fc
  .uniqueArray(fc.constantFrom("a", "b", "cni/c"), { minLength: 1 })
  .chain((owners) =>
    fc.tuple(
      ...owners.map((owner) =>
        fc
          .uniqueArray(source(smallCidr), { maxLength: 6, selector: ({ cidr }) => cidr })
          .map((sources): NatIntent => ({ owner, sources, untranslated: [] })),
      ),
    ),
  );

test("every address belongs to the segment of the source that has precedence", () => {
  fc.assert(
    fc.property(intents, (wanted) => {
      const segments = segmentsOf(wanted, 4);
      const order = byPrecedence(wanted, 4);
      for (let host = 0; host < 130; host++) {
        const address = parseCidr(`10.0.0.${host}`).first;
        const expected = order.find(({ cidr }) => cidr.first <= address && address <= cidr.last);
        const found = segments.filter(({ first, last }) => first <= address && address <= last);
        expect(found.map(({ owned }) => [owned.owner, owned.source.cidr])).toEqual(
          expected === undefined ? [] : [[expected.owner, expected.source.cidr]],
        );
      }
      // In order, so that neighbours can be joined.
      for (const [index, segment] of segments.entries()) {
        expect(index === 0 || segments[index - 1]!.last < segment.first).toBe(true);
      }
    }),
  );
});

test("joining keeps every address, and leaves no equal neighbours", () => {
  fc.assert(
    fc.property(intents, (wanted) => {
      const segments = segmentsOf(wanted, 4);
      const joined = joinSegments(segments, ({ owned }) => owned.owner);
      const size = (list: typeof segments): bigint =>
        list.reduce((sum, one) => sum + one.last - one.first + 1n, 0n);
      expect(size(joined)).toBe(size(segments));
      for (const [index, segment] of joined.entries()) {
        const before = joined[index - 1];
        expect(before?.owned.owner === segment.owned.owner && before.last + 1n === segment.first).toBe(false);
      }
    }),
  );
});

test("a cover holds the same addresses in as few ranges as can be", () => {
  fc.assert(
    fc.property(fc.array(smallCidr), (cidrs) => {
      const ranges = cidrs.map((text) => parseCidr(text));
      const cover = coverOf(ranges);
      for (let host = 0; host < 130; host++) {
        const address = parseCidr(`10.0.0.${host}`).first;
        const inside = (list: readonly { first: bigint; last: bigint }[]): number =>
          list.filter(({ first, last }) => first <= address && address <= last).length;
        expect(inside(cover)).toBe(inside(ranges) > 0 ? 1 : 0);
      }
      expect(cover.every((range, index) => index === 0 || cover[index - 1]!.last + 1n < range.first)).toBe(
        true,
      );
    }),
  );
});

const v4 = fc.nat({ max: 0xffff_ffff }).map((number) => ipFromNumber(4, BigInt(number)));
const v6 = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((number) => ipFromNumber(6, number));
const anyCidr = (address: fc.Arbitrary<string>, bits: number): fc.Arbitrary<string> =>
  fc
    .tuple(address, fc.integer({ min: 0, max: bits }))
    .map(([text, length]) => cidrText(cidrOf(text, length)));
const anySource = fc
  .oneof(fc.tuple(anyCidr(v4, 32), v4), fc.tuple(anyCidr(v6, 128), v6))
  .chain(([cidr, address]) =>
    fc.record(
      {
        cidr: fc.constant(cidr),
        translation: fc.record(
          {
            snat: fc.constant({ first: address, last: address }),
            ports: fc.constant({ first: 1, last: 65_535 }),
            fullyRandom: fc.boolean(),
          },
          { requiredKeys: ["fullyRandom"] },
        ),
        side: fc.constantFrom({ outInterfaces: ["eth0"] }, { inInterfaces: ["cni0", "vrf-x"] }),
      },
      { requiredKeys: ["cidr", "translation"] },
    ),
  )
  .map(({ side, ...plain }) => ({ ...plain, ...side })) as fc.Arbitrary<NatSource>;

test("claims spell an intent completely, in any order, and fit a comment", () => {
  const intent = fc.record({
    owner: fc.constantFrom("attach", "cni/blue", `cni/${"x".repeat(76)}`),
    sources: fc.uniqueArray(anySource, { minLength: 1, maxLength: 5, selector: ({ cidr }) => cidr }),
    untranslated: fc.array(fc.oneof(anyCidr(v4, 32), anyCidr(v6, 128)), { maxLength: 5 }),
  });
  fc.assert(
    fc.property(intent, fc.boolean(), (given, backward) => {
      const normal = normalizeIntent(given);
      const claims = claimsOf(normal);
      expect(claims.every((claim) => claim.length <= 251)).toBe(true);
      expect(intentsOfClaims(backward ? claims.toReversed() : claims)).toEqual([normal]);
    }),
  );
});

test("comments that are no claims are nobody's", () => {
  fc.assert(
    fc.property(fc.array(fc.string()), (lines) => {
      for (const intent of intentsOfClaims(lines)) expect(normalizeIntent(intent)).toEqual(intent);
    }),
  );
});
