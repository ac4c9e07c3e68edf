/** Files of CNI put where runtimes look for them: beside and renamed, so that nobody ever sees half of one. */
import { isNetworkFile } from "../naming/cni-places.ts";
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { sweepBeside } from "../kernel/durable-file.ts";
import { examinationOf, isThisPlugin, trialOf } from "../kernel/plugin-file.ts";
import { BESIDE } from "../naming/names.ts";
import { smallProgram } from "../plugin-program.ts";

/** Runtimes take the file whose name sorts first. */
export const CONFLIST_NAME = "10-wayout.conflist";
const PROGRAM = "wayout";
/** Without a plugin of this name no runtime starts a sandbox; ours answers to it, too. */
const LOOPBACK = "loopback";

export function programPath(binDirectory: string): string {
  return join(binDirectory, PROGRAM);
}

export function loopbackPath(binDirectory: string): string {
  return join(binDirectory, LOOPBACK);
}

/** The plugin, and `loopback` where there is no other. Returns why the plugin is the large program, when it is. */
export function putProgram(source: string, binDirectory: string): string | undefined {
  mkdirSync(binDirectory, { recursive: true, mode: 0o755 });
  let largeBecause: string | undefined;
  replace(programPath(binDirectory), (beside) => (largeBecause = putSmallOrLarge(beside, source)), 0o755);
  const loopback = loopbackPath(binDirectory);
  if (existsSync(loopback)) return largeBecause;
  // A link that leads nowhere is in the way.
  rmSync(loopback, { force: true });
  symlinkSync(PROGRAM, loopback);
  return largeBecause;
}

/**
 * The small program where it runs on this machine: its whole file is looked at, and it answers a call. Otherwise the
 * large one. Returns why it is the large one.
 */
function putSmallOrLarge(path: string, large: string): string | undefined {
  const small = smallProgram();
  const refusal = small === undefined ? "it was built without the small one" : putSmall(path, small);
  if (refusal !== undefined) copyFileSync(large, path);
  return refusal;
}

function putSmall(path: string, small: string): string | undefined {
  // It lies inside our own file, where only reading works.
  writeFileSync(path, readFileSync(small), { mode: 0o755 });
  chmodSync(path, 0o755);
  const fault = examinationOf(path);
  if (fault !== undefined) return `the small one does not stand its examination: ${fault}`;
  const refusal = trialOf(path);
  return refusal === undefined ? undefined : `the small one does not run here: ${refusal}`;
}

/** The temporary file lies in the directory itself: containerd hears of the renaming, and of no file from elsewhere. */
export function putConflist(directory: string, conflist: object): string {
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const path = join(directory, CONFLIST_NAME);
  replace(path, (beside) => writeFileSync(beside, conflistText(conflist)), 0o644);
  return path;
}

export function conflistText(conflist: object): string {
  return `${JSON.stringify(conflist, null, 2)}\n`;
}

/** Files that runtimes would take before ours. */
export function shadowedBy(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => name < CONFLIST_NAME && isNetworkFile(name))
    .sort();
}

export function isOurLoopback(path: string): boolean {
  try {
    return readlinkSync(path) === PROGRAM;
  } catch {
    return false;
  }
}

/** Whether the plugin that is there is this very program. */
export function hasProgram(large: string, binDirectory: string): boolean {
  return isThisPlugin(large, programPath(binDirectory));
}

/** Beside and renamed: a runtime may be executing, or reading, the old one. On disk before it has its name. */
function replace(path: string, write: (beside: string) => void, mode: number): void {
  sweepBeside(path);
  const beside = `${path}${BESIDE}${process.pid}`;
  try {
    write(beside);
    const fd = openSync(beside, "r+");
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    chmodSync(beside, mode);
    renameSync(beside, path);
  } catch (error) {
    rmSync(beside, { force: true });
    throw error;
  }
}
