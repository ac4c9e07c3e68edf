/** The registers of a rule while it is read: what each would hold, as text. */
import type { Datatype } from "../datatypes.ts";
import { registerWord } from "../registers.ts";

/** The headers of a packet, from the outermost. */
export type Layer = "link" | "network" | "transport";

/** A place in a packet, in bits, and who knows which fields are there. */
export interface PacketBits {
  readonly offset: number;
  readonly length: number;
  /** The field at exactly these bits. */
  readonly field: (offset: number, length: number) => PlacedField | undefined;
  /** Fields that side by side fill the whole place. */
  readonly cover?: () => readonly PlacedField[] | undefined;
  /** The longer field that begins here. */
  readonly longer?: () => PlacedField | undefined;
}

export interface PlacedField {
  readonly text: string;
  readonly type: Datatype;
  /** Bits. */
  readonly length: number;
  readonly implies?: readonly string[];
}

/** Something that was loaded into a register. */
export interface Value {
  /** As nft writes it. */
  readonly text: string;
  /** What its bytes mean. Several where a map led to a concatenation. */
  readonly types: readonly Datatype[];
  /** Bytes. */
  readonly size: number;
  /** Its numbers are in network order, whatever their type says. */
  readonly bigEndian?: boolean;
  /** Where it lies in a packet, when its bytes are no field of their own or a field may be part of them. */
  readonly place?: PacketBits;
  /** dreg = (value & mask) ^ xor */
  readonly mask?: string;
  readonly xor?: string;
  /** Bytes that stand there as they are (immediate). */
  readonly data?: string;
  /** Conditions that nft puts before this by itself: `meta l4proto` before `tcp dport`. */
  readonly implies?: readonly string[];
  /** Data of a map that are ranges. */
  readonly isRange?: true;
  /** How far its bits stand from the right end of the bytes that were loaded. */
  readonly shift?: number;
}

/** Sixteen words of 4 bytes. */
export class Registers {
  readonly #words: ({ readonly value: Value; readonly first: number } | undefined)[] = [];

  store(register: number, value: Value): void {
    const first = registerWord(register);
    const count = Math.max(1, Math.ceil(value.size / 4));
    for (let word = first; word < first + count && word < 16; word++) this.#words[word] = { value, first };
  }

  /** The value that begins at the register. */
  at(register: number): Value | undefined {
    const word = this.#words[registerWord(register)];
    return word?.first === registerWord(register) ? word.value : undefined;
  }

  /** The value that the register lies in, and at which of its bytes. */
  within(register: number): { readonly value: Value; readonly offset: number } | undefined {
    const word = this.#words[registerWord(register)];
    return word === undefined
      ? undefined
      : { value: word.value, offset: (registerWord(register) - word.first) * 4 };
  }

  /** The values that stand side by side from the register on and fill that many bytes: a concatenation. */
  from(register: number, bytes: number): readonly Value[] | undefined {
    const values: Value[] = [];
    let word = registerWord(register);
    for (let left = bytes; left > 0;) {
      const found = this.#words[word];
      if (found === undefined || found.first !== word) return values.length === 0 ? undefined : values;
      values.push(found.value);
      const words = Math.max(1, Math.ceil(found.value.size / 4));
      word += words;
      left -= words * 4;
    }
    return values;
  }
}

/** `a . b` */
export function concatText(values: readonly Value[]): string {
  return values.map((value) => value.text).join(" . ");
}
