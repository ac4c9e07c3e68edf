/** Runs the programs of other products, in the node's namespace, without making the caller wait in its thread. */
import { WayoutError } from "../error.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { noteOwnProgram } from "../kernel/own-programs.ts";

/** Longest that such a program may take: firewalld's and ufw's are Python, and wait for locks. */
const TIMEOUT_MS = 20_000;

export interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export type RunProgram = (argv: readonly string[], input?: string) => Promise<Ran>;

export function programsOf(node: NetworkNamespace): RunProgram {
  return async (argv, input) => {
    const child = node.run(() =>
      Bun.spawn([...argv], {
        stdin: input === undefined ? "ignore" : Buffer.from(input),
        stdout: "pipe",
        stderr: "pipe",
        timeout: TIMEOUT_MS,
        killSignal: "SIGKILL",
        // Their answers are compared with words of theirs.
        env: { ...process.env, LC_ALL: "C" },
      }),
    );
    noteOwnProgram(child.pid);
    const [stdout, stderr, exitCode] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    return { exitCode, stdout, stderr };
  };
}

/** @throws WayoutError `not-admitted` */
export function which(program: string, comesWith: string): string {
  const path = Bun.which(program, {
    PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin:/usr/bin:/usr/local/sbin`,
  });
  if (path !== null) return path;
  throw new WayoutError({
    code: "not-admitted",
    kind: "machine",
    doing: `admitting pods through ${comesWith}`,
    said: `no program ${program} is installed here`,
    todo: `Install it, or leave this door out of the policy's admit.`,
  });
}

export function refused(doing: string, { stdout, stderr, exitCode }: Ran): WayoutError {
  const said = (stderr.trim() || stdout.trim() || `it ended with ${exitCode}`).split("\n").join("; ");
  return new WayoutError({ code: "not-admitted", kind: "broken", doing, said });
}
