/**
 * The platform on the small engine: QuickJS-ng in a static program, whose own side in C hands in one object. It is there
 * before any module is evaluated, and none of its functions is called by that: modules are evaluated when the program is
 * built.
 */
import { inSources, type Places } from "./places.ts";
import type { Environment, Platform, Ran, RunOptions } from "./platform.ts";

/**
 * What the C side hands in: a plain object, all of whose functions work without a receiver. The kind and range of every
 * argument is checked there, a wrong one is a TypeError. An argument of type Memory is the address of its first byte, null
 * is NULL.
 */
interface Native extends Omit<Platform, "environment" | "pause" | "run" | "placed"> {
  /** Put there by the build. */
  readonly places?: Places;
  /** `NAME=value` each, as the process got them. */
  environmentLines(): readonly string[];
  /**
   * fork and execve with stdin, stdout and stderr alone. `environment` undefined: ours. `stderr` 0 captured, 1 ours,
   * 2 /dev/null. A negative `status` is an errno for why it could not be started, otherwise it is that of waitpid(2).
   */
  runProgram(
    argv: readonly string[],
    input: Uint8Array | undefined,
    environment: readonly string[] | undefined,
    stderr: 0 | 1 | 2,
    timeoutMs: number,
  ): {
    readonly pid: number;
    readonly status: number;
    readonly stdout: Uint8Array;
    readonly stderr: Uint8Array;
  };
}

declare const __wayout: Native;

const native = __wayout;
const STDERR = { capture: 0, inherit: 1, ignore: 2 } as const;

export const platform: Platform = {
  ...native,
  environment,
  // Nothing else waits: there are no signals to hear and no other threads.
  async pause(ms) {
    native.libc.poll(null, 0, ms);
  },
  run,
  placed: (stack) => (native.places === undefined ? stack : inSources(stack, native.places)),
};

let known: Environment | undefined;

/** Read once: nothing in this process changes it. */
function environment(): Environment {
  return (known ??= readEnvironment());
}

function readEnvironment(): Environment {
  // Without a prototype: a variable may be called __proto__.
  const found = Object.create(null) as Record<string, string>;
  for (const line of native.environmentLines()) {
    const at = line.indexOf("=");
    if (at > 0) found[line.slice(0, at)] ??= line.slice(at + 1);
  }
  return found;
}

function run(argv: readonly [string, ...string[]], options: RunOptions): Ran {
  const { input, environment: given, stderr, timeoutMs } = options;
  const lines = given === undefined ? undefined : linesOf(given);
  const ran = native.runProgram(argv, input, lines, STDERR[stderr], timeoutMs);
  if (ran.status < 0) throw new Error(`errno ${-ran.status}, posix_spawn '${argv[0]}'`);
  const signal = ran.status & 0x7f;
  return {
    pid: ran.pid,
    stdout: ran.stdout,
    stderr: ran.stderr,
    exitCode: signal === 0 ? (ran.status >> 8) & 0xff : null,
    signal: signal === 0 ? undefined : (SIGNALS[signal] ?? `SIG${signal}`),
  };
}

function linesOf(given: Environment): string[] {
  const lines: string[] = [];
  for (const [name, value] of Object.entries(given)) if (value !== undefined) lines.push(`${name}=${value}`);
  return lines;
}

/** include/uapi/asm-generic/signal.h; the same on x86-64 and arm64. */
const SIGNALS: readonly (string | undefined)[] =
  "- HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
    .split(" ")
    .map((name) => (name === "-" ? undefined : `SIG${name}`));
