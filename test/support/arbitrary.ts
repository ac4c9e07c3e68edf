/** Random values for any attribute table, drawn from the table itself. */
import * as fc from "fast-check";
import { ipText } from "../../src/address/ip.ts";
import { macText } from "../../src/address/mac.ts";
import type { DescribedCodec, DescribedSet } from "../../src/linux/netlink/codec.ts";

interface TableEntry {
  readonly shape: "single" | "repeated" | "tagged";
  readonly required?: boolean;
  readonly codec?: DescribedCodec & { readonly fields?: Readonly<Record<string, string>> };
  readonly variants?: Readonly<Record<string, DescribedSet>>;
}

/** Arbitraries for codecs that a room made for itself, by their `kind`. `null`: leave the attribute out. */
export type SpecialKinds = Readonly<Record<string, fc.Arbitrary<unknown> | null>>;

const bytes = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length });
const unsigned = (bits: number): fc.Arbitrary<number> => fc.integer({ min: 0, max: 2 ** bits - 1 });
const signed = (bits: number): fc.Arbitrary<number> =>
  fc.integer({ min: -(2 ** (bits - 1)), max: 2 ** (bits - 1) - 1 });
const unsigned64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

export const ipAddress = fc.oneof(bytes(4), bytes(16)).map((address) => ipText(address));
export const macAddress = bytes(6).map((address) => macText(address));
/** Text as the kernel can hold it: no NUL, no lone surrogate. */
export const kernelText = fc
  .string({ unit: "grapheme", maxLength: 40 })
  .filter((text) => !text.includes("\0"));

const KINDS: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  u8: unsigned(8),
  u16: unsigned(16),
  u32: unsigned(32),
  i8: signed(8),
  i32: signed(32),
  be16: unsigned(16),
  be32: unsigned(32),
  u64: unsigned64,
  be64: unsigned64,
  counter64: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  string: kernelText,
  bytes: fc.uint8Array({ maxLength: 60 }),
  flag: fc.constant(true),
  ip: ipAddress,
  mac: macAddress,
};

/** Values of a set: each attribute there or not. `depth` ends sets that hold themselves. */
export function valuesOf(set: DescribedSet, special: SpecialKinds = {}, depth = 3): fc.Arbitrary<object> {
  const fields: Record<string, fc.Arbitrary<unknown>> = {};
  const required: string[] = [];
  for (const [key, entry] of Object.entries(set.table) as [string, TableEntry][]) {
    const value = fieldOf(entry, special, depth);
    if (value === null) continue;
    fields[key] = value;
    if (entry.required === true) required.push(key);
  }
  return fc.record(fields, { requiredKeys: required });
}

function fieldOf(entry: TableEntry, special: SpecialKinds, depth: number): fc.Arbitrary<unknown> | null {
  if (entry.shape === "tagged") {
    if (depth === 0) return null;
    const known = Object.entries(entry.variants!).map(([kind, set]) =>
      valuesOf(set, special, depth - 1).map((data) => ({ kind, data })),
    );
    const other = fc.record({
      kind: fc.constant("other"),
      name: kernelText.filter((name) => !Object.hasOwn(entry.variants!, name) && /^[ -~]*$/.test(name)),
      data: fc.uint8Array({ maxLength: 20 }),
    });
    return fc.oneof(...known, other);
  }
  const value = codecOf(entry.codec!, special, depth);
  if (value === null) return null;
  return entry.shape === "repeated" ? fc.array(value, { minLength: 1, maxLength: 3 }) : value;
}

function codecOf(
  codec: NonNullable<TableEntry["codec"]>,
  special: SpecialKinds,
  depth: number,
): fc.Arbitrary<unknown> | null {
  const made = special[codec.kind];
  if (made !== undefined) return made;
  if (codec.set !== undefined) return depth === 0 ? null : valuesOf(codec.set, special, depth - 1);
  if (codec.element !== undefined) {
    const element = codecOf(codec.element, special, depth);
    return element === null ? null : fc.array(element, { maxLength: 3 });
  }
  if (codec.fields !== undefined) {
    return fc.record(
      Object.fromEntries(Object.entries(codec.fields).map(([key, kind]) => [key, KINDS[kind]!])),
    );
  }
  const known = KINDS[codec.kind];
  if (known === undefined) throw new Error(`no arbitrary for the codec "${codec.kind}": pass one`);
  return known;
}
