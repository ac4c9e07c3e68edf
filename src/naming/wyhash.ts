/**
 * Wyhash, final version 3 (github.com/wangyi-fudan/wyhash), with seed 0, of a text's UTF-8: what version 0.1.0 had from its
 * runtime under the name of "hash". Only to find what that version made.
 */
import { encodeUtf8 } from "../platform/bytes.ts";

const SECRET_0 = 0xa0761d6478bd642fn;
const SECRET_1 = 0xe7037ed1a0b428dbn;
const SECRET_2 = 0x8ebc6af09c88c6e3n;
const SECRET_3 = 0x589965cc75374cc3n;
const MASK = 0xffff_ffff_ffff_ffffn;
/** Three lanes of sixteen bytes. */
const STRIPE = 48;
const HALF_LANE = 8;

export function wyhash(text: string): bigint {
  const bytes = encodeUtf8(text);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const word = (at: number): bigint => view.getBigUint64(at, true);
  const length = bytes.length;
  let state = mix(SECRET_0, SECRET_1);
  let [a, b] = [0n, 0n];
  if (length > 2 * HALF_LANE) {
    let at = 0;
    if (length >= STRIPE) {
      let [second, third] = [state, state];
      for (; at + STRIPE < length; at += STRIPE) {
        state = mix(word(at) ^ SECRET_1, word(at + 8) ^ state);
        second = mix(word(at + 16) ^ SECRET_2, word(at + 24) ^ second);
        third = mix(word(at + 32) ^ SECRET_3, word(at + 40) ^ third);
      }
      state ^= second ^ third;
    }
    for (; at + 16 < length; at += 16) state = mix(word(at) ^ SECRET_1, word(at + 8) ^ state);
    [a, b] = [word(length - 16), word(length - 8)];
  } else {
    [a, b] = shortWords(view);
  }
  const product = (a ^ SECRET_1) * (b ^ state);
  return mix((product & MASK) ^ SECRET_0 ^ BigInt(length), (product >> 64n) ^ SECRET_1);
}

/** At most sixteen bytes as two words: four halves that overlap, or three bytes. */
function shortWords(view: DataView): [bigint, bigint] {
  const length = view.byteLength;
  if (length === 0) return [0n, 0n];
  if (length < 4) {
    const [first, middle, last] = [view.getUint8(0), view.getUint8(length >> 1), view.getUint8(length - 1)];
    return [BigInt((first << 16) | (middle << 8) | last), 0n];
  }
  const half = (at: number): bigint => BigInt(view.getUint32(at, true));
  const [end, step] = [length - 4, (length >> 3) << 2];
  return [(half(0) << 32n) | half(step), (half(end) << 32n) | half(end - step)];
}

function mix(a: bigint, b: bigint): bigint {
  const product = a * b;
  return (product & MASK) ^ (product >> 64n);
}
