/** Properties of every rtnetlink table: what is written is read back; what is no message never does harm. */
import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import type { AttributeSet, AttributeTable } from "../../../src/linux/netlink/attributes.ts";
import {
  decode,
  type MessageSpec,
  readMessages,
  request,
  writeMessage,
} from "../../../src/linux/netlink/message.ts";
import { DecodeError, Wire, Writer } from "../../../src/linux/netlink/wire.ts";
import { RTM_NEWADDR, addressFromMessage } from "../../../src/linux/route/address.ts";
import { linkOf } from "../../../src/linux/route/link.ts";
import { linkAttributes, RTM_NEWLINK, RTM_NEWLINK_BRIDGE } from "../../../src/linux/route/link-attributes.ts";
import { RTM_NEWNSID } from "../../../src/linux/route/namespace-id.ts";
import { forwardingEntryOf, neighbourOf, RTM_NEWNEIGH } from "../../../src/linux/route/neighbour.ts";
import { routeAnswerOf, routeOf } from "../../../src/linux/route/route.ts";
import { nextHopAttributes, RTM_NEWROUTE } from "../../../src/linux/route/route-attributes.ts";
import { RTM_NEWRULE, ruleOf } from "../../../src/linux/route/rule.ts";
import { ipAddress, macAddress, valuesOf, type SpecialKinds } from "../../support/arbitrary.ts";

const counters = fc.array(fc.nat({ max: Number.MAX_SAFE_INTEGER }), { minLength: 25, maxLength: 25 });
const statisticsNames = Object.keys(
  linkAttributes.table.statistics.codec.read(new Wire(new Uint8Array(0)), 0, 0),
);

/** Codecs of this room's own. The interface settings are told one way and set another: not to be round-tripped. */
const SPECIAL: SpecialKinds = {
  ifla_bridge_id: fc
    .tuple(fc.integer({ min: 0, max: 0xffff }), macAddress)
    .map(([priority, mac]) => `${priority.toString(16).padStart(4, "0")}.${mac}`),
  rtnl_link_stats64: counters.map((values) =>
    Object.fromEntries(statisticsNames.map((name, index) => [name, values[index]])),
  ),
  rtvia: ipAddress,
  "rtnexthop[]": fc.array(
    fc.record({
      flags: fc.integer({ min: 0, max: 255 }),
      hops: fc.integer({ min: 0, max: 255 }),
      interface: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
      attributes: valuesOf(nextHopAttributes, { rtvia: ipAddress }),
    }),
    { maxLength: 4 },
  ),
  "ipv4-devconf": null,
  "ipv6-devconf": null,
};

const SPECS: readonly MessageSpec[] = [
  RTM_NEWLINK,
  RTM_NEWLINK_BRIDGE,
  RTM_NEWADDR,
  RTM_NEWROUTE,
  RTM_NEWRULE,
  RTM_NEWNEIGH,
  RTM_NEWNSID,
];

const unknownAttributes = fc.option(
  fc.array(
    fc.record({ number: fc.integer({ min: 200, max: 0x3fff }), bytes: fc.uint8Array({ maxLength: 20 }) }),
    {
      minLength: 1,
      maxLength: 3,
    },
  ),
  { nil: undefined },
);

function encoded(spec: MessageSpec, value: object): Uint8Array {
  const writer = new Writer();
  writeMessage(writer, request(spec, "testing", {}, value as never), 1);
  return writer.done();
}

/** Everything that reads a message, as the room does it. */
const READERS = new Map<MessageSpec, readonly ((message: never) => unknown)[]>([
  [RTM_NEWLINK, [linkOf]],
  [RTM_NEWADDR, [addressFromMessage]],
  [RTM_NEWROUTE, [routeOf, routeAnswerOf]],
  [RTM_NEWRULE, [ruleOf]],
  [RTM_NEWNEIGH, [neighbourOf, forwardingEntryOf]],
]);

function readAll(spec: MessageSpec, datagram: Uint8Array): void {
  for (const raw of readMessages(datagram)) {
    const message = decode(spec, raw) as never;
    for (const read of READERS.get(spec) ?? []) read(message);
  }
}

/** Runs it and says how it ended: "read", "refused" (DecodeError), or the name of any other error. */
function outcome(action: () => void): string {
  try {
    action();
    return "read";
  } catch (error) {
    if (error instanceof DecodeError) return "refused";
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
}

for (const spec of SPECS) {
  const set: AttributeSet<AttributeTable> = spec.attributes;
  describe(`${spec.name}${spec === RTM_NEWLINK_BRIDGE ? " (AF_BRIDGE)" : ""}`, () => {
    test("every value written is read back the same, unknown attributes included", () => {
      fc.assert(
        fc.property(valuesOf(set, SPECIAL), unknownAttributes, (value, unknown) => {
          const whole = unknown === undefined ? value : { ...value, unknown };
          const [raw] = [...readMessages(encoded(spec, whole))];
          expect(decode(spec, raw!).attributes as object).toEqual(whole);
        }),
        { numRuns: 150 },
      );
    });

    test("a message cut off anywhere is read as far as it is one, or refused", () => {
      fc.assert(
        fc.property(valuesOf(set, SPECIAL), fc.double({ min: 0, max: 1, noNaN: true }), (value, where) => {
          const whole = encoded(spec, value);
          const cut = whole.slice(0, Math.floor(whole.length * where));
          // The outer length, too, is made to fit, so that the attributes themselves are what is broken.
          if (cut.length >= 16) new DataView(cut.buffer).setUint32(0, cut.length, true);
          expect(["read", "refused"]).toContain(outcome(() => readAll(spec, cut)));
        }),
        { numRuns: 150 },
      );
    });

    test("flipped bits are read or refused, never anything else", () => {
      const flips = fc.array(fc.nat(), { minLength: 1, maxLength: 8 });
      fc.assert(
        fc.property(valuesOf(set, SPECIAL), flips, (value, places) => {
          const bytes = encoded(spec, value).slice();
          for (const place of places) {
            const bit = place % (bytes.length * 8);
            bytes[bit >> 3]! ^= 1 << (bit & 7);
          }
          expect(["read", "refused"]).toContain(outcome(() => readAll(spec, bytes)));
        }),
        { numRuns: 250 },
      );
    });

    test("random bytes are read or refused", () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 300 }), (body) => {
          const bytes = new Uint8Array(16 + body.length);
          bytes.set(body, 16);
          new DataView(bytes.buffer).setUint32(0, bytes.length, true);
          expect(["read", "refused"]).toContain(outcome(() => readAll(spec, bytes)));
        }),
        { numRuns: 250 },
      );
    });

    test("every offset of a message has a name or none, and asking never fails", () => {
      fc.assert(
        fc.property(valuesOf(set, SPECIAL), (value) => {
          const bytes = encoded(spec, value);
          const wire = new Wire(bytes);
          const start = 16 + ((spec.header.size + 3) & ~3);
          for (let offset = start; offset < bytes.length; offset += 4) {
            expect(set.pathAt(wire, start, bytes.length, offset)).toBeString();
          }
        }),
        { numRuns: 60 },
      );
    });
  });
}
