/**
 * Independent witnesses: the programs that people trust (ip, nft, iptables, conntrack), run in a namespace to say
 * what is really there. wayout itself never calls them.
 */
import { test } from "bun:test";
import { isUserNamespace } from "../../scripts/isolation.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";

/** Longest that any program in a test may run. */
const TIMEOUT_MS = 150_000;

export interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program in a namespace (the test's own when undefined) and waits for it.
 * @throws when it runs into the time limit, or something that it started holds its output for so long
 */
export function run(
  namespace: NetworkNamespace | undefined,
  command: readonly string[],
  input?: string,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Ran {
  const spawn = (): Ran => {
    const child = Bun.spawnSync([...command], {
      stdin: input === undefined ? "ignore" : Buffer.from(input),
      stdout: "pipe",
      stderr: "pipe",
      timeout: TIMEOUT_MS,
      env: { ...environment },
    });
    if (child.exitedDueToTimeout === true) {
      throw new Error(
        `${command.join(" ")} ran into its limit of ${TIMEOUT_MS} ms. It said: ${child.stdout.toString()}${child.stderr.toString()}`,
      );
    }
    return {
      exitCode: child.exitCode ?? -1,
      stdout: child.stdout.toString(),
      stderr: child.stderr.toString(),
    };
  };
  return namespace === undefined ? spawn() : namespace.run(spawn);
}

/** Runs a program that must succeed and returns its stdout. */
export function ask(
  namespace: NetworkNamespace | undefined,
  command: readonly string[],
  input?: string,
): string {
  const ran = run(namespace, command, input);
  if (ran.exitCode !== 0) {
    throw new Error(`${command.join(" ")} ended with ${ran.exitCode}: ${ran.stderr.trim()}`);
  }
  return ran.stdout;
}

/** The same, for programs that print JSON. */
export function askJson<T>(namespace: NetworkNamespace | undefined, command: readonly string[]): T {
  const text = ask(namespace, command);
  return JSON.parse(text === "" ? "[]" : text) as T;
}

/** Whether we are root over our own network namespace (really, or in a user namespace). */
export const isRoot = process.getuid?.() === 0;
/** Root of the machine, not of a user namespace: the id map covers every id. */
export const isRealRoot = isRoot && !isUserNamespace();

/**
 * `test`, for tests that need programs (their names) or "root" / "real-root". A skip states its reason in the test's
 * name, and scripts/test.ts turns skips into failures when CI=true.
 */
export function testWith(needs: readonly string[]): typeof test {
  const missing = needs.filter((need) => {
    if (need === "root") return !isRoot;
    if (need === "real-root") return !isRealRoot;
    return Bun.which(need) === null;
  });
  if (missing.length === 0) return test;
  const skip = (name: string, ...rest: unknown[]): void => {
    (test.skip as (...args: unknown[]) => void)(`${name} [needs ${missing.join(", ")}]`, ...rest);
  };
  return skip as unknown as typeof test;
}
