/**
 * XXH64 (github.com/Cyan4973/xxHash, doc/xxhash_spec.md), with seed 0, of a text's UTF-8. Names of things that outlive a
 * version are made of it, so it is written down here: of a runtime's own hash nobody promises that the next release has
 * the same. (Halves of 32 bits instead of BigInt are three times the code and no cheaper in a run that hashes once.)
 */
import { encodeUtf8 } from "../platform/bytes.ts";

const PRIME_1 = 0x9e3779b185ebca87n;
const PRIME_2 = 0xc2b2ae3d27d4eb4fn;
const PRIME_3 = 0x165667b19e3779f9n;
const PRIME_4 = 0x85ebca77c2b2ae63n;
const PRIME_5 = 0x27d4eb2f165667c5n;
const MASK = 0xffff_ffff_ffff_ffffn;
/** Four lanes of eight bytes. */
const STRIPE = 32;

export function xxHash64(text: string): bigint {
  const bytes = encodeUtf8(text);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stripes = bytes.length - (bytes.length % STRIPE);
  let hash = (stripes === 0 ? PRIME_5 : hashStripes(view, stripes)) + BigInt(bytes.length);
  hash = hashRest(hash & MASK, view, stripes);
  hash = ((hash ^ (hash >> 33n)) * PRIME_2) & MASK;
  hash = ((hash ^ (hash >> 29n)) * PRIME_3) & MASK;
  return hash ^ (hash >> 32n);
}

function hashStripes(view: DataView, end: number): bigint {
  let a = (PRIME_1 + PRIME_2) & MASK;
  let b = PRIME_2;
  let c = 0n;
  let d = MASK + 1n - PRIME_1;
  for (let at = 0; at < end; at += STRIPE) {
    a = round(a, view.getBigUint64(at, true));
    b = round(b, view.getBigUint64(at + 8, true));
    c = round(c, view.getBigUint64(at + 16, true));
    d = round(d, view.getBigUint64(at + 24, true));
  }
  const hash = (rotate(a, 1n) + rotate(b, 7n) + rotate(c, 12n) + rotate(d, 18n)) & MASK;
  return merge(merge(merge(merge(hash, a), b), c), d);
}

/** What is left behind the stripes: words, a half, single bytes. */
function hashRest(begin: bigint, view: DataView, from: number): bigint {
  let hash = begin;
  let at = from;
  for (; at + 8 <= view.byteLength; at += 8) {
    hash = (rotate(hash ^ round(0n, view.getBigUint64(at, true)), 27n) * PRIME_1 + PRIME_4) & MASK;
  }
  if (at + 4 <= view.byteLength) {
    const half = (BigInt(view.getUint32(at, true)) * PRIME_1) & MASK;
    hash = (rotate(hash ^ half, 23n) * PRIME_2 + PRIME_3) & MASK;
    at += 4;
  }
  for (; at < view.byteLength; at++) {
    const byte = (BigInt(view.getUint8(at)) * PRIME_5) & MASK;
    hash = (rotate(hash ^ byte, 11n) * PRIME_1) & MASK;
  }
  return hash;
}

function round(lane: bigint, input: bigint): bigint {
  return (rotate((lane + input * PRIME_2) & MASK, 31n) * PRIME_1) & MASK;
}

function merge(hash: bigint, lane: bigint): bigint {
  return ((hash ^ round(0n, lane)) * PRIME_1 + PRIME_4) & MASK;
}

function rotate(value: bigint, bits: bigint): bigint {
  return ((value << bits) | (value >> (64n - bits))) & MASK;
}
