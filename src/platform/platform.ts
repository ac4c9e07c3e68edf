/**
 * Room `platform/`: what the plugin needs of the runtime that executes it, beyond the language itself. There are two
 * implementations: Bun's (bun.ts), and that of the small engine (engine.ts), whose own side is written in C. Which one a
 * build gets is a condition of `imports` in package.json. What a plugin call executes uses nothing else of either
 * runtime (test/platform/closure.test.ts): no `Bun`, `Buffer`, `process`, no module of Node.
 *
 * In: numbers, bytes, texts.
 * Out: what the runtime or the C library answered, unchecked: kernel/calls.ts turns a refusal into an error.
 * Touches: what it is told to; nothing when it is loaded, for the small engine does that when it is built.
 */

/** Memory that the kernel reads from or writes to. */
export type Memory = Uint8Array | Int32Array | BigUint64Array | BigInt64Array;

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Functions of the C library by their own names. Each returns what C returns, -1 for a refusal; `errno` says which.
 * A `path` is bytes that end with a NUL. Nothing keeps an address beyond the call.
 */
export interface LibcCalls {
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Memory, length: number): number;
  setsockopt(fd: number, level: number, option: number, value: Memory, length: number): number;
  getsockopt(fd: number, level: number, option: number, value: Memory, length: Memory): number;
  send(fd: number, bytes: Memory, length: number, flags: number): number | bigint;
  recv(fd: number, buffer: Memory, length: number, flags: number): number | bigint;
  poll(entries: Memory | null, count: number, timeoutMs: number): number;
  setns(fd: number, type: number): number;
  flock(fd: number, operation: number): number;
  /** Six arguments always; an address by `addressOf`, a negative number as its two's complement of 32 bits. */
  syscall(number: number, a: number, b: number, c: number, d: number, e: number, f: number): number | bigint;
  open(path: Memory, flags: number, permissions: number): number;
  close(fd: number): number;
  read(fd: number, buffer: Memory, length: number): number | bigint;
  write(fd: number, bytes: Memory, length: number): number | bigint;
  mkdir(path: Memory, permissions: number): number;
  unlink(path: Memory): number;
  rename(from: Memory, to: Memory): number;
  utimensat(directory: number, path: Memory, times: Memory, flags: number): number;
}

/** SHA-2 (FIPS 180-4) of everything it was updated with. */
export interface Hasher {
  /** A text counts as its UTF-8. */
  update(part: Uint8Array | string): unknown;
  /** Lower-case hexadecimal digits. The last thing to ask of it. */
  digestHex(): string;
}

export interface RunOptions {
  /** Its standard input; absent: /dev/null. */
  readonly input?: Uint8Array;
  /** Absent: ours. */
  readonly environment?: Environment;
  /** `inherit`: what it says goes where ours goes. */
  readonly stderr: "capture" | "inherit" | "ignore";
  /** It is ended by SIGTERM after so long. */
  readonly timeoutMs: number;
}

export interface Ran {
  readonly pid: number;
  readonly stdout: Uint8Array;
  /** Empty unless it was captured. */
  readonly stderr: Uint8Array;
  /** null when a signal ended it. */
  readonly exitCode: number | null;
  /** The signal's name, `SIGTERM`. */
  readonly signal: string | undefined;
}

/**
 * Where standard input, output or error was closed when the process began, /dev/null has been opened in its place,
 * close-on-exec: otherwise a file of ours would get that number, and be taken for it.
 */
export interface Platform {
  /** Of the machine code: numbers of system calls differ. */
  readonly arch: "x64" | "arm64";
  readonly libc: LibcCalls;
  /** Of the last call of `libc` that was refused. */
  errno(): number;
  /** Where a buffer begins. It must stay referenced while the address is used. Refuses an empty one. */
  addressOf(buffer: Memory): number;
  /** Room that is not filled with zeros, which would touch its every page. */
  uninitialised(bytes: number): Uint8Array<ArrayBuffer>;
  /** A surrogate without its other half becomes U+FFFD, as in Web's TextEncoder. */
  encodeUtf8(text: string): Uint8Array<ArrayBuffer>;
  /** What is no UTF-8 becomes U+FFFD as in Web's TextDecoder (the longest begun sequence at once); a BOM is kept. */
  decodeUtf8(bytes: Uint8Array): string;
  hasher(algorithm: "sha256" | "sha512"): Hasher;
  environment(): Environment;
  pid(): number;
  /** Lets whatever else waits in this process go on meanwhile, if anything does. */
  pause(ms: number): Promise<void>;
  /**
   * Runs a program by its path to its end. A program that cannot be started is an Error with the kernel's name for why
   * in its message.
   */
  run(argv: readonly [string, ...string[]], options: RunOptions): Ran;
  /** An error's stack with the names of our files in it, where the build made one script of them. */
  placed(stack: string): string;
}
