/**
 * What there is to know about an xtables match or target: its name, the revisions of its structure, what the structure
 * says, and how iptables-save writes that. Printing a rule and judging one take the same value.
 */
import type { XtContext, XtInfo, XtOption } from "./info.ts";

export interface XtDescription<V> {
  readonly name: string;
  /** Those whose structure is known; another is not understood, whatever it looks like. */
  readonly revisions: readonly number[];
  /** @throws DecodeError when the structure is shorter than it should be */
  read(info: XtInfo, revision: number, context: XtContext): V;
  options(value: V, context: XtContext): readonly XtOption[];
  /** The name it was written by, for modules that have a second one. */
  writtenAs?(value: V): string;
}

/** For the type alone: the value's type follows from `read`. */
export function describe<V>(description: XtDescription<V>): XtDescription<V> {
  return description;
}

/** Something that can be asked for the other way round. */
export interface Wanted<T> {
  readonly value: T;
  readonly not: boolean;
}

export interface Range {
  readonly first: number;
  readonly last: number;
}

/** What no product's rule can leave out is undefined where the structure says "any". */
export function wantedIf<T>(is: boolean, value: () => T, not: boolean): Wanted<T> | undefined {
  return is ? { value: value(), not } : undefined;
}
