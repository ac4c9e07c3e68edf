/** A table with one of everything: every codec, alone, nested, repeated, listed and tagged. */
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import {
  attribute,
  AttributeSet,
  listOf,
  nested,
  repeated,
  tagged,
} from "../../../src/linux/netlink/attributes.ts";
import * as codec from "../../../src/linux/netlink/codec.ts";
import { DecodeError, EncodeError, Wire, Writer } from "../../../src/linux/netlink/wire.ts";
import { valuesOf } from "../../support/arbitrary.ts";

const everyWidth = codec.struct("every_width", {
  a: "u8",
  b: "be16",
  c: "u32",
  d: "i8",
  e: "u64",
  f: "be32",
  g: "i32",
  h: "u16",
});
const inner = new AttributeSet(() => ({
  number: attribute("INNER_NUMBER", 1, codec.u16),
  text: attribute("INNER_TEXT", 2, codec.string),
}));
const everything = new AttributeSet(() => ({
  u8: attribute("E_U8", 1, codec.u8),
  u16: attribute("E_U16", 2, codec.u16),
  u32: attribute("E_U32", 3, codec.u32),
  i8: attribute("E_I8", 4, codec.i8),
  i32: attribute("E_I32", 5, codec.i32),
  be16: attribute("E_BE16", 6, codec.be16),
  be32: attribute("E_BE32", 7, codec.be32),
  u64: attribute("E_U64", 8, codec.u64),
  be64: attribute("E_BE64", 9, codec.be64),
  counter: attribute("E_COUNTER", 10, codec.counter64),
  string: attribute("E_STRING", 11, codec.string),
  bytes: attribute("E_BYTES", 12, codec.bytes),
  flag: attribute("E_FLAG", 13, codec.flag),
  ip: attribute("E_IP", 14, codec.ip),
  mac: attribute("E_MAC", 15, codec.mac),
  struct: attribute("E_STRUCT", 16, everyWidth),
  nested: attribute("E_NESTED", 17, nested(inner)),
  list: attribute("E_LIST", 18, listOf(nested(inner), { name: "ELEMENT", number: 1 })),
  numbered: attribute("E_NUMBERED", 19, listOf(codec.be32)),
  repeated: repeated("E_REPEATED", 20, codec.u16),
  tagged: tagged("E_KIND", 21, "E_DATA", 22, {
    one: inner,
    two: new AttributeSet(() => ({ x: attribute("X", 1, codec.u8) })),
  }),
}));

type Everything = Parameters<typeof everything.write>[1];
const values = valuesOf(everything) as fc.Arbitrary<Everything>;

function bytesOf(value: Everything): Uint8Array {
  const writer = new Writer(8);
  everything.write(writer, value);
  return writer.done().slice();
}

test("what is written is read back the same", () => {
  fc.assert(
    fc.property(values, (value) => {
      const bytes = bytesOf(value);
      expect(bytes.length % 4).toBe(0);
      expect(everything.read(new Wire(bytes), 0, bytes.length)).toEqual(value as never);
    }),
    { numRuns: 500 },
  );
});

test("what was read and written again is the same bytes", () => {
  fc.assert(
    fc.property(values, (value) => {
      const bytes = bytesOf(value);
      expect(bytesOf(everything.read(new Wire(bytes), 0, bytes.length))).toEqual(bytes);
    }),
    { numRuns: 200 },
  );
});

test("cut, flipped and random bytes are read or refused with DecodeError, in bounded time", () => {
  const damage = fc.record({
    value: values,
    cut: fc.double({ min: 0, max: 1, noNaN: true }),
    flips: fc.array(fc.nat(), { maxLength: 10 }),
    tail: fc.uint8Array({ maxLength: 40 }),
  });
  fc.assert(
    fc.property(damage, ({ value, cut, flips, tail }) => {
      const whole = bytesOf(value);
      const bytes = new Uint8Array([...whole.subarray(0, Math.ceil(whole.length * cut)), ...tail]);
      for (const flip of flips) if (bytes.length > 0) bytes[(flip >> 3) % bytes.length]! ^= 1 << (flip & 7);
      try {
        everything.read(new Wire(bytes), 0, bytes.length);
      } catch (error) {
        expect(error).toBeInstanceOf(DecodeError);
      }
    }),
    { numRuns: 1000 },
  );
});

test("a reader never looks behind the end it is given", () => {
  fc.assert(
    fc.property(values, fc.uint8Array({ minLength: 1, maxLength: 30 }), (value, behind) => {
      const bytes = bytesOf(value);
      const longer = new Uint8Array([...bytes, ...behind]);
      expect(everything.read(new Wire(longer), 0, bytes.length)).toEqual(value as never);
    }),
    { numRuns: 200 },
  );
});

test("numbers that do not fit are refused, by both ends of every width", () => {
  const limits: [keyof typeof everything.table, number, number][] = [
    ["u8", 0, 2 ** 8 - 1],
    ["u16", 0, 2 ** 16 - 1],
    ["u32", 0, 2 ** 32 - 1],
    ["i8", -(2 ** 7), 2 ** 7 - 1],
    ["i32", -(2 ** 31), 2 ** 31 - 1],
    ["be16", 0, 2 ** 16 - 1],
    ["be32", 0, 2 ** 32 - 1],
  ];
  for (const [key, low, high] of limits) {
    for (const value of [low, high]) expect(() => bytesOf({ [key]: value })).not.toThrow();
    for (const value of [low - 1, high + 1, low + 0.5, Number.NaN]) {
      expect(() => bytesOf({ [key]: value })).toThrow(EncodeError);
    }
  }
  expect(() => bytesOf({ u64: 2n ** 64n })).toThrow(EncodeError);
  expect(() => bytesOf({ be64: -1n })).toThrow(EncodeError);
});

test("an error names the field by its whole path", () => {
  const bytes = bytesOf({ list: [{ number: 1 }, { number: 2 }] });
  // The second element's number is cut to one byte.
  new DataView(bytes.buffer).setUint16(bytes.length - 8, 5, true);
  expect(() => everything.read(new Wire(bytes), 0, bytes.length)).toThrow(
    expect.objectContaining({ path: "E_LIST.ELEMENT[1].INNER_NUMBER" }),
  );
});
