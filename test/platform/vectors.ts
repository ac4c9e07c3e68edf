/** What every platform must answer alike: vectors of published standards, and texts that runtimes disagree about. */

/** UTF-16 code units and their UTF-8: a surrogate without its other half is U+FFFD (WHATWG Encoding, `USVString`). */
export const ENCODED: readonly (readonly [units: readonly number[], hex: string])[] = [
  [[], ""],
  [[0x00, 0x7f], "007f"],
  [[0x80, 0x7ff], "c280dfbf"],
  [[0x800, 0xffff], "e0a080efbfbf"],
  [[0xd83d, 0xde00], "f09f9880"],
  [[0xdbff, 0xdfff], "f48fbfbf"],
  [[0xd800], "efbfbd"],
  [[0xdc00], "efbfbd"],
  [[0x61, 0xd83d, 0x62], "61efbfbd62"],
  [[0xdc00, 0xd800], "efbfbdefbfbd"],
  [[0xd800, 0xd800, 0xdc00], "efbfbdf0908080"],
  [[0xfeff, 0x61], "efbbbf61"],
];

/** Bytes and what they decode to: the longest begun sequence becomes one U+FFFD (Unicode 3.9, "maximal subpart"). */
export const DECODED: readonly (readonly [hex: string, text: string])[] = [
  ["", ""],
  ["007f", "\0\x7f"],
  ["efbbbf61", "\ufeff61".replace("61", "a")],
  ["f09f9880", "\u{1f600}"],
  ["80", "\ufffd"],
  ["c080", "\ufffd\ufffd"],
  ["c3", "\ufffd"],
  ["c328", "\ufffd("],
  ["e28241", "\ufffdA"],
  ["e08080", "\ufffd\ufffd\ufffd"],
  ["eda080", "\ufffd\ufffd\ufffd"],
  ["f09f98", "\ufffd"],
  ["f09f9841", "\ufffdA"],
  ["f4908080", "\ufffd\ufffd\ufffd\ufffd"],
  ["f8888080", "\ufffd\ufffd\ufffd\ufffd"],
  ["ff", "\ufffd"],
  ["6180e0a0c3a9", "a\ufffd\ufffd\u00e9"],
];

/** FIPS 180-4's examples, the empty text, and lengths about the edge of a block. */
export const HASHED: readonly (readonly [algorithm: "sha256" | "sha512", text: string, hex: string])[] = [
  ["sha256", "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
  ["sha256", "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"],
  [
    "sha256",
    "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
  ],
  [
    "sha512",
    "",
    "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
  ],
  [
    "sha512",
    "abc",
    "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
  ],
];
