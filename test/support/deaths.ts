/**
 * Commands that die half-way: SIGKILL before each system call by which they change something. Between two of those nothing
 * changes outside of the process, so these are all the states in which a death can leave things.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { run } from "./witness.ts";

/** The n-th call of this name, in whichever thread or process of the command comes to its n-th first. */
export interface Death {
  readonly call: string;
  readonly nth: number;
}

/** What is run, and where. */
export interface Mortal {
  readonly node: NetworkNamespace | undefined;
  readonly command: readonly string[];
  readonly input?: string;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Its own first thread only: what it starts stays up, and the tracer would wait for that. */
  readonly alone?: true;
}

/**
 * System calls that change something outside of the process. Not those by which it only goes elsewhere (setns, unshare,
 * chdir): what they change ends with it, so that a death before one leaves what a death before the next change leaves.
 */
const CHANGING = [
  "write",
  "writev",
  "pwrite64",
  "sendto",
  "sendmsg",
  "ftruncate",
  "fsync",
  "fallocate",
  "copy_file_range",
  "open",
  "openat",
  "openat2",
  "mkdir",
  "mkdirat",
  "rename",
  "renameat",
  "renameat2",
  "link",
  "linkat",
  "symlink",
  "symlinkat",
  "unlink",
  "unlinkat",
  "rmdir",
  "chmod",
  "fchmod",
  "fchmodat",
  "chown",
  "fchown",
  "utimensat",
  "flock",
  "mount",
  "umount2",
  "fork",
  "vfork",
  "clone",
  "kill",
  "pidfd_send_signal",
];

/** Of those that also serve to look: what shows that nothing changes. */
function onlyLooks(call: string, args: string): boolean {
  if (call.startsWith("open")) return !/O_CREAT|O_TRUNC/.test(args) || args.includes('"/dev/null"');
  if (call !== "sendto" && call !== "sendmsg") return false;
  const types = [...args.matchAll(/nlmsg_type=([^,]+),/g)];
  return types.length > 0 && types.every(([, type]) => isQuestion(type!));
}

/**
 * Whether a message of this type only asks. The tracer has names for those of sockets in its own namespace; of others it
 * shows a number, and those of rtnetlink go by fours: new, del, get, set (net/core/rtnetlink.c).
 */
function isQuestion(type: string): boolean {
  const number = /^0x\w+/.exec(type)?.[0];
  if (number === undefined) return /(^|_)GET/.test(type);
  return Number(number) < RTNETLINKS_END && (Number(number) & 3) === 2;
}

/** Above are nfnetlink's, whose subsystem is the upper byte. */
const RTNETLINKS_END = 0x100;

/** The tracer in front of a command that is to live, and to be written down. */
export function recording(log: string, alone = false): string[] {
  // Other spellings are other architectures'.
  return tracer(log, alone, CHANGING.map((call) => `?${call}`).join(","));
}

/** The tracer in front of a command that is to die. */
export function dying({ call, nth }: Death, log: string, alone = false): string[] {
  return [...tracer(log, alone, call), "-e", `inject=${call}:signal=KILL:when=${nth}`];
}

function tracer(log: string, alone: boolean, calls: string): string[] {
  return ["strace", "-o", log, ...(alone ? [] : ["-f"]), "-e", `trace=${calls}`];
}

/** Every place where a command may die, of what was written down while it lived. */
export function deathsIn(log: string): Death[] {
  const counts = new Map<string, number>();
  const deaths = new Map<string, Death>();
  for (const line of log.split("\n")) {
    const [, thread = "", call, args] = /^(\d+ +)?(\w+)\((.*)/.exec(line) ?? [];
    if (call === undefined) continue;
    const nth = (counts.get(thread + call) ?? 0) + 1;
    counts.set(thread + call, nth);
    if (!onlyLooks(call, args!)) deaths.set(`${call} ${nth}`, { call, nth });
  }
  return [...deaths.values()];
}

/** Of each call at most so many, the first and the last among them: for commands that take long, and make dozens alike. */
export function spread(deaths: readonly Death[], most: number): Death[] {
  const byCall = Map.groupBy(deaths, ({ call }) => call);
  return [...byCall.values()].flatMap((ofCall) => {
    const step = Math.max(1, (ofCall.length - 1) / (most - 1));
    return Array.from(
      { length: Math.min(most, ofCall.length) },
      (_, index) => ofCall[Math.round(index * step)]!,
    );
  });
}

export function hasDied(log: string): boolean {
  return log.includes("+++ killed by SIGKILL +++");
}

/** Lets it live once, and finds where it may die. @throws when it does not succeed */
export function deathsOf(mortal: Mortal): Death[] {
  return withLog((log) => {
    const { exitCode, stdout, stderr } = execute(mortal, recording(log, mortal.alone));
    if (exitCode === 0) return deathsIn(readFileSync(log, "utf8"));
    throw new Error(`${mortal.command.join(" ")} ended with ${exitCode}: ${stdout}${stderr}`);
  });
}

/** Whether it died: not every run comes to every call. */
export function dies(mortal: Mortal, death: Death): boolean {
  return withLog((log) => {
    execute(mortal, dying(death, log, mortal.alone));
    return hasDied(readFileSync(log, "utf8"));
  });
}

function execute({ node, command, input, environment }: Mortal, before: readonly string[]) {
  return run(node, [...before, ...command], input, environment);
}

function withLog<T>(use: (log: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), "wayout-deaths-"));
  try {
    return use(join(directory, "log"));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
