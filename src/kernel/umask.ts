import { umask } from "./calls.ts";

let callersUmask: number | undefined;

/**
 * Takes a umask of our own: what wayout makes for itself has the modes that the code names, whatever umask a shell or a
 * runtime starts it with.
 */
export function takeOwnUmask(): void {
  callersUmask = umask(0o022);
}

/** Runs what is the caller's: files that he asked for, programs that he starts through us. */
export function asCaller<T>(work: () => T): T {
  if (callersUmask === undefined) return work();
  const own = umask(callersUmask);
  try {
    return work();
  } finally {
    umask(own);
  }
}
