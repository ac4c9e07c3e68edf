/** Where Bun keeps the code of a single-file build. */
const COMPILED_ROOT = "/$bunfs/";
/** What this process was started from, wherever it lies. */
export const OWN_FILE = "/proc/self/exe";

/**
 * Options of JavaScriptCore, as its environment has them, for a run that does much at once and ends soon: what is hot becomes
 * so ten times later than by default, and is not compiled again.
 */
export const BRIEF_RUN: Readonly<Record<string, string>> = {
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "10000",
  BUN_JSC_useFTLJIT: "0",
};

/**
 * The command that starts this very program again: the single file itself, or Bun with the checkout's main file.
 * wayout starts itself for work that must live in another namespace.
 */
export function selfCommand(): [string, ...string[]] {
  return Bun.main.startsWith(COMPILED_ROOT) ? [ownProgram()] : [ownProgram(), Bun.main];
}

/** The file of this very program, when it is one: a checkout is none. */
export function ownSingleFile(): string | undefined {
  const self = selfCommand();
  return self.length === 1 ? self[0] : undefined;
}

/**
 * The path we were started by, while it leads to us. A mount may cover it (the lab has a /run of its own), and an upgrade
 * put another version there: then the kernel's own link to our file.
 */
function ownProgram(): string {
  // Not imported above: a plugin call never comes here, and must not pay for the module.
  const { statSync } = process.getBuiltinModule("node:fs");
  const running = statSync(OWN_FILE);
  const named = statSync(process.execPath, { throwIfNoEntry: false });
  return named?.ino === running.ino && named.dev === running.dev ? process.execPath : OWN_FILE;
}
