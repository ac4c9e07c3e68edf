/** The file that serves as our plugin, compared with this very program, and examined by itself. */
import { closeSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import { messageOf } from "../error.ts";
import { fileVersion } from "./file.ts";
import { smallProgram } from "../plugin-program.ts";

/** Longer than any machine needs for a call that does nothing. */
const TRIAL_MS = 10_000;
const COMPARED_BYTES = 1024 * 1024;

/** Whether a plugin is this very program, byte for byte: the small one, or else the large one. */
export function isThisPlugin(large: string, there: string): boolean {
  return isSmallProgram(there) || isSame(large, there, haveSameParts);
}

function isSmallProgram(there: string): boolean {
  const small = smallProgram();
  // It lies inside our own file, where it can only be read as a whole.
  const areEqual: Comparison = (own, other) => readFileSync(own).equals(readFileSync(other));
  return small !== undefined && isSame(small, there, areEqual);
}

type Comparison = (own: string, there: string) => boolean;

/** What bytes said, and the versions of the two files of which they said it. */
const compared = new Map<string, { readonly versions: string; readonly same: boolean }>();

/** Lengths first; bytes only where those are equal, and once for two files that stay as they are. */
function isSame(own: string, there: string, compare: Comparison): boolean {
  if (statSync(own).size !== statSync(there, { throwIfNoEntry: false })?.size) return false;
  const [pair, versions] = [`${own}\0${there}`, `${fileVersion(own)}\0${fileVersion(there)}`];
  const known = compared.get(pair);
  if (known?.versions === versions) return known.same;
  const same = compare(own, there);
  compared.set(pair, { versions, same });
  return same;
}

/** Part by part: the large program is a hundred megabytes, and who asks may be the agent. */
function haveSameParts(one: string, other: string): boolean {
  const files = [openSync(one, "r"), openSync(other, "r")];
  const parts = files.map(() => Buffer.alloc(COMPARED_BYTES));
  try {
    for (;;) {
      const lengths = files.map((fd, index) => readSync(fd, parts[index]!));
      if (lengths[0] !== lengths[1] || !parts[0]!.equals(parts[1]!)) return false;
      if (lengths[0] === 0) return true;
    }
  } finally {
    for (const fd of files) closeSync(fd);
  }
}

/** Of a small program (engine/shim/image.c), in the engine itself: a large one has none. */
const MARK = "wayout-engine-1\0";
const MOST_SMALL_BYTES = 64 * 1024 * 1024;

/** What a plugin of ours is: this program's, another build's, or damaged; `said` is what speaks for it. */
export type PluginJudgement =
  | { readonly is: "ours" }
  | { readonly is: "of-another-build" | "damaged"; readonly said: string };

/**
 * Quick enough to be asked often: a large program is compared by its length, a small one of ours by its bytes.
 * @param large this very program's own file; a checkout has none, with which nothing could be compared
 */
export function judgePlugin(large: string | undefined, there: string): PluginJudgement {
  if (isSmallProgram(there)) return { is: "ours" };
  const { size } = statSync(there);
  if (size <= MOST_SMALL_BYTES && readFileSync(there).includes(MARK)) {
    const refusal = examinationOf(there);
    if (refusal !== undefined) return { is: "damaged", said: refusal };
  }
  if (large === undefined || size === statSync(large).size) return { is: "ours" };
  const made = (file: string): string => statSync(file).mtime.toISOString();
  return { is: "of-another-build", said: `written ${made(there)}; this program is of ${made(large)}` };
}

/** Has a small program look at every byte of itself. Returns what is wrong with it, as it says. */
export function examinationOf(path: string): string | undefined {
  return refusalOf([path, "--verify"], undefined);
}

/** Has a program answer a call that changes nothing. Returns why it did not. */
export function trialOf(path: string): string | undefined {
  return refusalOf([path], { CNI_COMMAND: "VERSION" });
}

function refusalOf(argv: string[], env: Record<string, string> | undefined): string | undefined {
  const options = { stdin: Buffer.from("{}"), stdout: "pipe", stderr: "pipe", timeout: TRIAL_MS } as const;
  try {
    const ran = Bun.spawnSync(argv, { ...options, env: env ?? {} });
    return ran.exitCode === 0 ? undefined : saidBy(ran);
  } catch (error) {
    return messageOf(error);
  }
}

function saidBy({ stdout, stderr, exitCode, signalCode }: Bun.SyncSubprocess<"pipe", "pipe">): string {
  const said = `${stderr.toString()} ${stdout.toString()}`.replace(/\s+/g, " ").trim();
  return said === "" ? `it ended with ${exitCode ?? signalCode}` : said;
}
