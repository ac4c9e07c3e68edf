/**
 * The engine's optimizing compilers work for programs that run for long. A command that reads a whole node and ends
 * within a second would give them more processor time than they can save it (of 250 pods and 5 000 rules: 80 of 320 ms
 * for a snapshot). The last and dearest of them takes orders only when a process begins (Bun.unsafe.setJITPolicy holds
 * back the others), so the process begins once more, which costs 8 ms.
 */
import { BRIEF_RUN, selfCommand } from "../self.ts";

/** Commands that do much at once and end soon. */
const BRIEF: ReadonlySet<string | undefined> = new Set(["doctor", "snapshot"]);

/**
 * Starts this process again for a command that wants it; does nothing where that is done, or impossible, or
 * where the engine was given options by the user (to profile it, for instance).
 */
export async function holdBackCompilers(command: string | undefined): Promise<void> {
  if (!BRIEF.has(command) || process.execArgv.length > 0) return;
  const names = Object.keys(BRIEF_RUN);
  if (names.some((name) => process.env[name] !== undefined)) {
    // Whom we start may run for long.
    for (const name of names) delete process.env[name];
    return;
  }
  const { execve } = await import("../kernel/libc.ts");
  const self = selfCommand();
  try {
    execve(self[0], [...self, ...process.argv.slice(2)], { ...process.env, ...BRIEF_RUN });
  } catch {
    // It is no slower than it was.
  }
}
