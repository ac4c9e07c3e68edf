/** Waiting for what comes about sooner or later: never for a time. */

/** Longest that anything is waited for; a busy machine needs seconds. */
const LIMIT_MS = 30_000;

/** Asks again and again until it is so. @throws Error with `why` when it does not become so */
export async function until(
  isSo: () => boolean | Promise<boolean>,
  why: string | (() => string),
  limitMs = LIMIT_MS,
): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!(await isSo())) {
    if (performance.now() > deadline)
      throw new Error(`it did not come about: ${typeof why === "string" ? why : why()}`);
    await Bun.sleep(20);
  }
}
