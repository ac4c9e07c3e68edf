/**
 * The engine reserves a gigabyte of addresses for compiled code when it starts, and does without it where a limit
 * (`ulimit -v`, LimitAS= of systemd) forbids that; but then nothing can call the C library. A smaller reservation is all
 * that we need, and can only be asked for at the start: the process is started once more. Uses nothing of ours that needs
 * the C library itself.
 */
import { readFileSync } from "node:fs";
import { messageOf } from "./error.ts";
import { selfCommand } from "./self.ts";

const RESERVATION = "BUN_JSC_jitMemoryReservationSize";
const BYTES = 16 * 1024 * 1024;

/** What the engine says when it has no room for compiled code, and what the C library's loader says when it has none. */
const NO_ROOM = /requires the JIT|cannot allocate memory|out of memory|ENOMEM/i;

/**
 * Answers for a run that could not even begin: starts it again with less, or tells why it cannot be.
 * @param isPlugin whether a container runtime waits for the answer: it reads JSON on standard output
 * @returns the exit code
 */
export function answerWithLess(failure: unknown, isPlugin: boolean): number {
  const message = messageOf(failure);
  if (!NO_ROOM.test(message) || process.env[RESERVATION] !== undefined) return tell(message, isPlugin);
  const [program, ...args] = selfCommand();
  const child = Bun.spawnSync([program, ...args, ...process.argv.slice(2)], {
    env: { ...process.env, [RESERVATION]: String(BYTES) },
    stdio: ["inherit", "inherit", isPlugin ? "ignore" : "inherit"],
  });
  if (child.exitCode !== null && child.exitCode < 128) return child.exitCode;
  return tell(`${message}; with less it ended by ${child.signalCode ?? child.exitCode}`, isPlugin);
}

function tell(said: string, isPlugin: boolean): number {
  const hasNoRoom = NO_ROOM.test(said);
  const msg = `starting wayout: ${hasNoRoom ? `${tooSmall()} (${said})` : said}`;
  const todo = "Raise the limit of address space (ulimit -v, LimitAS=) to 1 GiB or more.";
  if (isPlugin) {
    const details = hasNoRoom ? { details: todo } : {};
    process.stdout.write(`${JSON.stringify({ cniVersion: "1.1.0", code: 100, msg, ...details }, null, 2)}\n`);
  } else {
    process.stderr.write(`error: ${msg}\n${hasNoRoom ? `  → ${todo}\n` : ""}`);
  }
  return isPlugin ? 1 : 3;
}

/** With the limit as the kernel has it; without one it is the machine that has no memory left. */
function tooSmall(): string {
  try {
    const limits = readFileSync("/proc/self/limits", "utf8");
    const bytes = /^Max address space +(\d+)/m.exec(limits)?.[1];
    if (bytes !== undefined)
      return `this process may have ${Math.floor(Number(bytes) / 2 ** 20)} MiB of addresses, which is too little`;
  } catch {
    // Then the failure itself has to do.
  }
  return "this process got no memory";
}
