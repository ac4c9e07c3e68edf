/** Values that come out of other values: what a mask leaves of a field, what a map leads to. */
import { datatypesLength, datatypesOf, VERDICT_TYPE } from "../datatypes.ts";
import type { NftSet } from "../ruleset.ts";
import { formatNumber, type Names } from "./format.ts";
import { maskedField } from "./matches.ts";
import type { Value } from "./registers.ts";
import { mapDataTypes, mapIsInterval } from "./sets.ts";
import { present } from "../../../present.ts";

/** The field that a mask singles out, in place of the bytes and the mask. */
export function fieldOf(value: Value): Value {
  const isPlain = value.xor === undefined || /^0*$/.test(value.xor);
  const field = value.mask === undefined || !isPlain ? undefined : maskedField(value, value.mask);
  if (field === undefined) return value;
  const { text, type, shift, implies } = field;
  return present({ text, types: [type], size: value.size, shift, implies });
}

/** What a condition on a value implies: of loaded bytes, what the fields there do. */
export function impliedBy(value: Value): Pick<Value, "implies"> {
  if (value.implies !== undefined || value.place === undefined) return value;
  const field =
    (value.mask === undefined ? value.place.cover?.()?.[0] : maskedField(value, value.mask)) ??
    value.place.longer?.();
  return field?.implies === undefined ? {} : { implies: field.implies };
}

/** `ip dscp set cs1`: nft loads whole words, changes some of their bits and writes them back. */
export function fieldAssignment(
  target: Value,
  value: Value | undefined,
  names: Names,
): { readonly text: string; readonly implies?: readonly string[] } | undefined {
  if (target.place === undefined || value?.mask === undefined || value.text !== target.text) return undefined;
  const all = (1n << BigInt(value.mask.length * 4)) - 1n;
  const changed = all ^ BigInt(`0x${value.mask}`);
  const bits = BigInt(`0x${value.xor ?? "0"}`);
  if (changed === 0n || (bits & ~changed) !== 0n) return undefined;
  const field = maskedField(target, changed.toString(16).padStart(value.mask.length, "0"));
  if (field === undefined) return undefined;
  const number = formatNumber(field.type, Number(bits >> BigInt(field.shift)), names, field.type.size);
  return present({
    text: `${field.text} set ${number}`,
    implies: field.implies,
  });
}

/** A value whose text already says what was done to it. */
export function shifted(value: Value, text: string): Value {
  const { mask: _mask, xor: _xor, place: _place, ...rest } = value;
  return { ...rest, text };
}

/** What stands in the registers after a look-up in a map. */
export function mapValue(text: string, set: NftSet | undefined, left: readonly Value[]): Value {
  const implies = left.flatMap((value) => value.implies ?? []);
  if (set === undefined || set.dataType === undefined || set.dataType === VERDICT_TYPE) {
    return { text, types: [], size: 4, implies };
  }
  const types = datatypesOf(set.dataType) ?? [];
  const known = mapDataTypes(set);
  const size = set.dataLength ?? (datatypesLength(types) || 4);
  const range = mapIsInterval(set) ? ({ isRange: true } as const) : {};
  return { text, types: known.length > 0 ? known : types, size, implies, ...range };
}
