/**
 * Pieces of which the shape of a snapshot is put together. Each is bounded: a stranger's file may not make the reader
 * spend more than the file's own size is worth.
 */
import * as v from "valibot";
import { parseCidr } from "../../address/cidr.ts";
import { isIp } from "../../address/ip.ts";

const MOST_TEXT = 64 * 1024;
const MOST_NAME = 4096;
const MOST_ENTRIES = 1_000_000;

/** A schema whose result is this type, whatever it is given. */
export type Shape<T> = v.GenericSchema<unknown, T>;
/** A field that may be left out. */
export type OptionalShape<T> = v.ExactOptionalSchema<Shape<T>, undefined>;

type Entries<T> = {
  readonly [K in keyof T]-?: object extends Pick<T, K>
    ? OptionalShape<Exclude<T[K], undefined>>
    : Shape<T[K]>;
};

/** An object with exactly the fields of T: one that is forgotten here does not compile, one that T lacks is left out. */
export function object<T>(entries: Entries<T>): Shape<T> {
  return v.object(entries as unknown as v.ObjectEntries) as unknown as Shape<T>;
}

export function optional<T>(shape: Shape<T>): OptionalShape<T> {
  return v.exactOptional(shape);
}

export function list<T>(item: Shape<T>, most = MOST_ENTRIES): Shape<readonly T[]> {
  return v.pipe(v.array(v.unknown()), v.maxLength(most), v.array(item));
}

export function record<T>(value: Shape<T>): Shape<Readonly<Record<string, T>>> {
  return v.record(v.pipe(v.string(), v.maxLength(MOST_NAME)), value);
}

export const flag = v.boolean();
export const yes = v.literal(true);
/** 1e999 is JSON, too. */
export const number = v.pipe(v.number(), v.finite());
export const text = v.pipe(v.string(), v.maxLength(MOST_TEXT));
export const name = v.pipe(v.string(), v.maxLength(MOST_NAME));
export const hex = v.pipe(
  v.string(),
  v.maxLength(2 * MOST_TEXT),
  v.regex(/^(?:[0-9a-f]{2})*$/, "is not lower-case hexadecimal"),
);

export function integer(first: number, last: number): Shape<number> {
  return v.pipe(v.number(), v.integer(), v.minValue(first), v.maxValue(last));
}

export const family = v.picklist([4, 6]);
/** A link's index, a port's number and the like: what the kernel has 32 bits for. */
export const u32 = integer(0, 0xffff_ffff);
export const port = integer(0, 0xffff);

export const ip = v.pipe(v.string(), v.check(isIp, "is no IP address"));
/** Of any length: links other than Ethernet have other addresses, or none. */
export const mac = v.pipe(
  v.string(),
  v.maxLength(128),
  v.regex(/^(?:[0-9a-f]{2}(?::[0-9a-f]{2})*)?$/, "is no link-layer address"),
);
export const prefix = v.pipe(v.string(), v.check(isPrefix, "is no address with its prefix length"));

function isPrefix(value: string): boolean {
  try {
    parseCidr(value, "keep");
    return true;
  } catch {
    return false;
  }
}

/** A closed list of words. */
export function oneOf<const T extends string>(words: readonly T[]): Shape<T> {
  return v.picklist(words);
}

/** A word of which a newer kernel may have more than we know. */
export function word<T extends string>(): Shape<T> {
  return name as unknown as Shape<T>;
}

/** The same with a condition over several of its fields. */
export function where<T>(shape: Shape<T>, holds: (value: T) => boolean, otherwise: string): Shape<T> {
  return v.pipe(shape, v.check(holds, otherwise));
}
