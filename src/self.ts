/** Where Bun keeps the code of a single-file build. */
const COMPILED_ROOT = "/$bunfs/";

/**
 * The command that starts this very program again: the single file itself, or Bun with the checkout's main file.
 * wayout starts itself for work that must live in another namespace.
 */
export function selfCommand(): [string, ...string[]] {
  return Bun.main.startsWith(COMPILED_ROOT) ? [process.execPath] : [process.execPath, Bun.main];
}

let callersUmask: number | undefined;

/**
 * Takes a umask of our own: what wayout makes for itself has the modes that the code names, whatever umask a shell or a
 * runtime starts it with.
 */
export function takeOwnUmask(): void {
  callersUmask = process.umask(0o022);
}

/** Runs what is the caller's: files that he asked for, programs that he starts through us. */
export function asCaller<T>(work: () => T): T {
  if (callersUmask === undefined) return work();
  const own = process.umask(callersUmask);
  try {
    return work();
  } finally {
    process.umask(own);
  }
}
