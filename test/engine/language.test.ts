/** Both engines say the same of texts, numbers, hashes and JSON: what one wrote down the other must find. */
import { expect } from "bun:test";
import { testWith, run } from "../support/witness.ts";
import { program } from "./small-program.ts";

const withCompiler = testWith(["musl-gcc"]);

/** What is asked of both: a text, by a function that knows the platform's few functions only. */
type Native = {
  encodeUtf8(text: string): Uint8Array;
  decodeUtf8(bytes: Uint8Array): string;
  hasher(algorithm: string): { update(part: Uint8Array | string): unknown; digestHex(): string };
};

function said(native: Native): string {
  const lines: string[] = [];
  const tell = (name: string, value: unknown): void => {
    lines.push(`${name}: ${typeof value === "bigint" ? `${value}n` : JSON.stringify(value)}`);
  };
  const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16)).join(" ");
  const texts = [
    "",
    "a",
    "nä\u00e9",
    "\u{1f600}",
    "\ud83d",
    "a\ude00b",
    "\ud83d\ud83d\ude00",
    "\0\ufeffx",
    "\uffff\u{10ffff}",
  ];
  for (const text of texts) tell("utf-8", hex(native.encodeUtf8(text)));
  // Two bytes in every pair, and sequences that begin well: each with something behind it.
  for (let first = 0x70; first < 0x100; first++) {
    for (const rest of [
      [],
      [0x80],
      [0xbf, 0x80],
      [0x9f, 0xbf, 0xbf],
      [0xa0, 0x41],
      [0x8f, 0x80, 0x80, 0x80],
      [0xc3],
    ]) {
      const bytes = new Uint8Array([0x41, first, ...rest, 0x42]);
      tell(`decoded ${hex(bytes)}`, native.decodeUtf8(bytes));
    }
  }
  for (const algorithm of ["sha256", "sha512"]) {
    for (const length of [0, 1, 3, 55, 56, 63, 64, 65, 111, 112, 127, 128, 129, 1000]) {
      const whole = native.hasher(algorithm);
      whole.update("x".repeat(length));
      const parts = native.hasher(algorithm);
      for (let at = 0; at < length; at += 37)
        parts.update(native.encodeUtf8("x".repeat(Math.min(37, length - at))));
      tell(`${algorithm} ${length}`, [whole.digestHex(), parts.digestHex()]);
    }
    const odd = native.hasher(algorithm);
    odd.update("ä\ud800");
    tell(`${algorithm} odd`, odd.digestHex());
  }
  const numbers = [
    0,
    -0,
    1e21,
    1e-7,
    0.1 + 0.2,
    2 ** 53,
    2 ** 64,
    -1.5e300,
    5e-324,
    NaN,
    1 / 3,
    123456789012345680000,
  ];
  for (const number of numbers)
    tell("number", [String(number), number.toFixed(2), number.toString(16), number | 0, number >>> 0]);
  let big = 1n;
  for (let at = 0; at < 40; at++) {
    big = big * 0x1_0001n + BigInt(at);
    tell("big", [
      String(big),
      (big >> 7n).toString(16),
      String(BigInt.asUintN(64, big)),
      String(BigInt.asIntN(64, -big)),
      String(big % 97n),
    ]);
  }
  for (const text of [
    '{"a":[1,2.50,1e3,-0,"\\u00e4\\ud800"]}',
    '{"__proto__":1,"a":1,"a":2}',
    "[1e400,1E-400]",
    '"\u2028"',
  ]) {
    tell("json", JSON.stringify(JSON.parse(text)));
  }
  for (const text of [
    "",
    "{",
    "[1,]",
    "01",
    '{"a" 1}',
    "nul",
    '"\n"',
    "\ufeff{}",
    "1 2",
    "[".repeat(40),
    "'a'",
    "+1",
  ]) {
    let outcome = "read";
    try {
      JSON.parse(text);
    } catch (error) {
      outcome = (error as Error).name;
    }
    tell(`json ${text}`, outcome);
  }
  tell(
    "stringified",
    JSON.stringify({ a: undefined, b: "\ud800\u2028\x7f", c: [undefined, NaN], d: new Date(0) }, null, 2),
  );
  tell("sorted", ["b", "a\u0301", "á", "Z", "10", "9"].sort());
  tell("keys", Object.keys({ b: 1, 2: 1, a: 1, 1: 1 }));
  tell("date", [new Date(1e12).toISOString(), Number.isNaN(Date.parse("x")), Date.now() > 1e12]);
  tell("hex", [new Uint8Array([0, 171, 255]).toHex(), hex(Uint8Array.fromHex("00abFF"))]);
  tell("match", [
    "10.0.0.0/33".match(/^(\d+)(?:\.(?<x>\d+))+\/(\d+)$/),
    "a\u{1f600}".replace(/./gu, "-"),
    "é".normalize("NFD").length,
  ]);
  return lines.join("\n");
}

withCompiler("texts, hashes, numbers, JSON and dates are the same on both engines", async () => {
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const here = said({
    encodeUtf8: (text) => encoder.encode(text),
    decodeUtf8: (bytes) => decoder.decode(bytes),
    hasher(algorithm) {
      const hasher = new Bun.CryptoHasher(algorithm as "sha256");
      return { update: (part) => hasher.update(part), digestHex: () => hasher.digest("hex") };
    },
  });
  const module = `const said = ${said.toString()};
    __wayout.main = async () => { const bytes = __wayout.encodeUtf8(said(__wayout));
      for (let at = 0; at < bytes.length;) at += __wayout.libc.write(1, bytes.subarray(at), bytes.length - at); return 0; };`;
  // A wrong step of C ends the program here.
  const trap = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"];
  const there = run(undefined, [await program(module, trap)], "", {});
  expect(there).toMatchObject({ exitCode: 0, stderr: "" });
  expect(there.stdout.split("\n")).toEqual(here.split("\n"));
});

/** Calls with arguments that no C function may get; each must throw, and none may reach C. */
function misuse(
  native: Native & { libc: Record<string, (...a: unknown[]) => unknown>; addressOf(b: unknown): number },
): string {
  const { libc } = native;
  const bytes = new Uint8Array(8);
  const tries: (() => unknown)[] = [
    () => libc["read"]!(0, bytes, 9),
    () => libc["read"]!(0, bytes, -1),
    () => libc["write"]!(1, null, 1),
    () => libc["write"]!(1, "text", 1),
    () => libc["open"]!(new Uint8Array([0x2f, 0x2f]), 0, 0),
    () => libc["open"]!("/", 0, 0),
    () => libc["open"]!(bytes, 0),
    () => libc["close"]!(2 ** 32),
    () => libc["close"]!(0.5),
    () => libc["close"]!("1"),
    () => libc["poll"]!(bytes, 2, 0),
    () => libc["poll"]!(null, 0, NaN),
    () => libc["getsockopt"]!(0, 1, 1, bytes, new Int32Array([9])),
    () => libc["getsockopt"]!(0, 1, 1, bytes, new Uint8Array(2)),
    () => libc["utimensat"]!(0, bytes, new Uint8Array(31), 0),
    () => libc["syscall"]!(0, 0, 2 ** 40, 1, 0, 0, 0),
    () => libc["syscall"]!(0, 0),
    () => libc["setsockopt"]!(0, 1, 1, bytes.subarray(4), 8),
    () => native.addressOf(new Uint8Array(0)),
    () => native.addressOf(7),
    () => native.hasher("md5"),
    () => native.encodeUtf8(7 as never),
    () => native.decodeUtf8("x" as never),
    () => {
      const hasher = native.hasher("sha256");
      hasher.digestHex();
      hasher.update("more");
    },
    () => {
      const room = new ArrayBuffer(8);
      const view = new Uint8Array(room);
      room.transfer(4);
      return libc["write"]!(1, view, 8);
    },
  ];
  return tries
    .map((attempt, number) => {
      try {
        return `${number} came through: ${String(attempt())}`;
      } catch (error) {
        return (error as Error).name;
      }
    })
    .join("\n");
}

withCompiler("what no C function may get is refused before it gets there", async () => {
  const module = `const misuse = ${misuse.toString()};
    __wayout.main = async () => { const bytes = __wayout.encodeUtf8(misuse(__wayout)); __wayout.libc.write(1, bytes, bytes.length); return 0; };`;
  const { stdout, exitCode } = run(undefined, [await program(module)], "", {});
  expect(exitCode).toBe(0);
  for (const [number, line] of stdout.split("\n").entries()) {
    expect([number, line]).toEqual([number, expect.stringMatching(/^(TypeError|RangeError)$/)]);
  }
  expect(stdout.split("\n")).toHaveLength(25);
});
