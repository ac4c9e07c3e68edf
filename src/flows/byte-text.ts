/**
 * Text written straight into bytes, for output of hundreds of thousands of lines: no string is made. Each function
 * writes at `at` and returns where it ended; the caller has made room. Up to three bytes behind the end may be
 * overwritten too.
 */
import { ipText } from "../address/ip.ts";

const ZERO = 48;
const encoder = new TextEncoder();

/** "00" to "99", the first digit in the lower byte. */
const TWO_DIGITS = Int32Array.from({ length: 100 }, (_, n) => word(String(n).padStart(2, "0")));

/** "0000" to "9999" as a word, the first digit in the lowest byte. */
function fourDigits(value: number): number {
  const high = (value / 100) | 0;
  return TWO_DIGITS[high]! | (TWO_DIGITS[value - high * 100]! << 16);
}

/** "0." to "255." and their lengths. */
const OCTETS = Int32Array.from({ length: 256 }, (_, n) => word(`${n}.`));
const OCTET_LENGTHS = Uint8Array.from({ length: 256 }, (_, n) => `${n}.`.length);

/** Up to four ASCII characters, the first in the lowest byte. */
function word(text: string): number {
  let value = 0;
  for (let i = 0; i < text.length; i++) value |= text.charCodeAt(i) << (8 * i);
  return value;
}

/**
 * Text that is written often, as words of four bytes. Signed ones: an unsigned word may be a number beyond 31 bits,
 * which the compiler learns only after it has compiled for small ones, again and again.
 */
export interface Phrase {
  readonly words: Int32Array;
  readonly length: number;
}

export function phrase(text: string): Phrase {
  const bytes = encoder.encode(text);
  const padded = new Uint8Array((bytes.length + 3) & ~3);
  padded.set(bytes);
  return { words: new Int32Array(padded.buffer), length: bytes.length };
}

export function writePhrase(view: DataView, at: number, { words, length }: Phrase): number {
  for (let i = 0; i < words.length; i++) view.setInt32(at + 4 * i, words[i]!, true);
  return at + length;
}

/** An unsigned integer up to 2^53. */
export function writeDecimal(view: DataView, at: number, value: number): number {
  if (value < 10_000) {
    const length = value < 10 ? 1 : value < 100 ? 2 : value < 1000 ? 3 : 4;
    view.setInt32(at, fourDigits(value) >>> ((4 - length) * 8), true);
    return at + length;
  }
  const high = value < 0x7fff_ffff ? (value / 10_000) | 0 : Math.floor(value / 10_000);
  const end = writeDecimal(view, at, high);
  view.setInt32(end, fourDigits(value - high * 10_000), true);
  return end + 4;
}

/** How many digits writeDecimal writes. */
export function decimalLength(value: number): number {
  let length = 1;
  for (let limit = 10; value >= limit; limit *= 10) length++;
  return length;
}

/** The four or sixteen bytes at `from` as an address, as ipText has it. */
export function writeAddress(
  view: DataView,
  at: number,
  bytes: Uint8Array,
  from: number,
  v6: boolean,
): number {
  if (!v6) {
    const a = bytes[from]!;
    const b = bytes[from + 1]!;
    const c = bytes[from + 2]!;
    const d = bytes[from + 3]!;
    view.setInt32(at, OCTETS[a]!, true);
    let end = at + OCTET_LENGTHS[a]!;
    view.setInt32(end, OCTETS[b]!, true);
    end += OCTET_LENGTHS[b]!;
    view.setInt32(end, OCTETS[c]!, true);
    end += OCTET_LENGTHS[c]!;
    view.setInt32(end, OCTETS[d]!, true);
    return end + OCTET_LENGTHS[d]! - 1;
  }
  return writeAddress6(view, at, bytes, from);
}

/** RFC 5952, as ipText does it: groups without leading zeros, the first longest run of zero groups as "::". */
function writeAddress6(view: DataView, at: number, bytes: Uint8Array, from: number): number {
  let gapStart = 8;
  let gapEnd = 8;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && bytes[from + 2 * end] === 0 && bytes[from + 2 * end + 1] === 0) end++;
    if (end - i >= 2 && end - i > gapEnd - gapStart) [gapStart, gapEnd] = [i, end];
    if (end > i) i = end;
  }
  // IPv4-mapped addresses have their own form (RFC 5952 5) and are rare enough for a string.
  if (gapStart === 0 && gapEnd === 5 && bytes[from + 10] === 0xff && bytes[from + 11] === 0xff) {
    return writeAscii(view, at, ipText(bytes, from, from + 16));
  }
  let end = at;
  for (let i = 0; i < 8; i++) {
    if (i === gapStart) {
      view.setUint16(end, 0x3a3a, true);
      end += 2;
      i = gapEnd - 1;
      continue;
    }
    if (i > 0 && i !== gapEnd) view.setUint8(end++, 0x3a);
    end = writeHex(view, end, (bytes[from + 2 * i]! << 8) | bytes[from + 2 * i + 1]!);
  }
  return end;
}

function writeHex(view: DataView, at: number, value: number): number {
  let end = at;
  for (let shift = value > 0xfff ? 12 : value > 0xff ? 8 : value > 0xf ? 4 : 0; shift >= 0; shift -= 4) {
    const digit = (value >>> shift) & 15;
    view.setUint8(end++, digit < 10 ? ZERO + digit : 87 + digit);
  }
  return end;
}

function writeAscii(view: DataView, at: number, text: string): number {
  for (let i = 0; i < text.length; i++) view.setUint8(at + i, text.charCodeAt(i));
  return at + text.length;
}

/** Bytes as they are. */
export function writeBytes(view: DataView, at: number, bytes: Uint8Array, from: number, to: number): number {
  for (let i = from; i < to; i++) view.setUint8(at + i - from, bytes[i]!);
  return at + to - from;
}
