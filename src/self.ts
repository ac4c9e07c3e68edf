/** Where Bun keeps the code of a single-file build. */
const COMPILED_ROOT = "/$bunfs/";

/**
 * The command that starts this very program again: the single file itself, or Bun with the checkout's main file.
 * wayout starts itself for work that must live in another namespace.
 */
export function selfCommand(): [string, ...string[]] {
  return Bun.main.startsWith(COMPILED_ROOT) ? [process.execPath] : [process.execPath, Bun.main];
}
