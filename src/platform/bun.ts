/** The platform on Bun. This file is the only one that imports bun:ffi, which is experimental by its own documentation. */
import { dlopen, FFIType, ptr, read as peek, toArrayBuffer, type FFIFunction, type Pointer } from "bun:ffi";
import { messageOf } from "../error.ts";
import type { Platform, Ran, RunOptions } from "./platform.ts";
import { present } from "../present.ts";

export { cc, FFIType } from "bun:ffi";

const { i32, u32, u64, i64_fast, pointer, cstring } = FFIType;

/** Looking up a symbol costs a plugin call as much as calling it: hence no others than those of LibcCalls. */
const SYMBOLS = {
  __errno_location: { args: [], returns: pointer },
  socket: { args: [i32, i32, i32], returns: i32 },
  bind: { args: [i32, pointer, u32], returns: i32 },
  setsockopt: { args: [i32, i32, i32, pointer, u32], returns: i32 },
  getsockopt: { args: [i32, i32, i32, pointer, pointer], returns: i32 },
  send: { args: [i32, pointer, u64, i32], returns: i64_fast },
  recv: { args: [i32, pointer, u64, i32], returns: i64_fast },
  poll: { args: [pointer, u64, i32], returns: i32 },
  setns: { args: [i32, i32], returns: i32 },
  flock: { args: [i32, i32], returns: i32 },
  syscall: { args: [u64, u64, u64, u64, u64, u64, u64], returns: i64_fast },
  open: { args: [cstring, i32, u32], returns: i32 },
  close: { args: [i32], returns: i32 },
  read: { args: [i32, pointer, u64], returns: i64_fast },
  write: { args: [i32, pointer, u64], returns: i64_fast },
  mkdir: { args: [cstring, u32], returns: i32 },
  unlink: { args: [cstring], returns: i32 },
  rename: { args: [cstring, cstring], returns: i32 },
  utimensat: { args: [i32, cstring, pointer, i32], returns: i32 },
} as const;

/** Functions of the C library that this process runs on. @throws Error when neither kind of it can be loaded */
export function loadLibc<const S extends Readonly<Record<string, FFIFunction>>>(symbols: S) {
  const failures: string[] = [];
  for (const library of ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`]) {
    try {
      return dlopen(library, symbols).symbols;
    } catch (error) {
      // Mostly it is not this C library: try the next name.
      failures.push(messageOf(error));
    }
  }
  throw new Error(`neither glibc (libc.so.6) nor musl can be loaded on this machine: ${failures.join("; ")}`);
}

/** Where functions of the C library lie in memory, in this order, for code that calls them itself. */
export function functionAddresses(names: readonly string[]): BigUint64Array {
  const found = loadLibc(
    Object.fromEntries(names.map((name) => [name, { args: [], returns: i32 } as const])),
  );
  // Bun's type does not tell of it: a loaded function carries the address of the one it calls.
  const address = (name: string): number => (found[name] as unknown as { readonly ptr: number }).ptr;
  return BigUint64Array.from(names, (name) => BigInt(address(name)));
}

/** For the text of a thread that imports none of our files: functions and memory of this process by their addresses. */
export const FFI_OF_THREADS = `import { CFunction, ptr, toArrayBuffer } from "bun:ffi";`;

/** Memory that this process has at an address, as it is there; it must stay for as long as this is used. */
export function memoryAt(address: number, bytes: number): ArrayBuffer {
  return toArrayBuffer(address, 0, bytes);
}

const libc = loadLibc(SYMBOLS);

/** Thread-local, hence constant for this thread; a Worker loads its own copy of this module. */
const errnoPointer = libc.__errno_location() as Pointer;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export const platform: Platform = {
  arch: process.arch === "arm64" ? "arm64" : "x64",
  libc,
  errno: () => peek.i32(errnoPointer, 0),
  addressOf: (buffer) => ptr(buffer),
  uninitialised: (bytes) => Bun.allocUnsafe(bytes),
  encodeUtf8: (text) => encoder.encode(text),
  decodeUtf8: (bytes) => decoder.decode(bytes),
  hasher(algorithm) {
    const hasher = new Bun.CryptoHasher(algorithm);
    return { update: (part) => hasher.update(part), digestHex: () => hasher.digest("hex") };
  },
  environment: () => process.env,
  pid: () => process.pid,
  pause: (ms) => Bun.sleep(ms),
  run,
  placed: (stack) => stack,
};

function run(argv: readonly [string, ...string[]], options: RunOptions): Ran {
  const { input, environment, stderr, timeoutMs } = options;
  const ran = Bun.spawnSync(
    [...argv],
    present({
      stdin: input ?? "ignore",
      stdout: "pipe",
      stderr: stderr === "capture" ? "pipe" : stderr,
      timeout: timeoutMs,
      env: environment === undefined ? undefined : { ...environment },
    }),
  );
  return {
    pid: ran.pid,
    stdout: ran.stdout,
    stderr: ran.stderr ?? new Uint8Array(0),
    exitCode: ran.exitCode,
    signal: ran.signalCode === undefined ? undefined : String(ran.signalCode),
  };
}
