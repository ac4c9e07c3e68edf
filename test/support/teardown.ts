/** What a test has to take down again, newest first, whether it passed or not. scripts/test-inside.ts preloads the hook. */
import { afterEach } from "bun:test";

type Teardown = () => unknown;

const teardowns: Teardown[] = [];

/** Runs this after the test that runs now. Teardown collects errors and goes on. */
export function afterThisTest(teardown: Teardown): void {
  teardowns.push(teardown);
}

// A hook set in a module counts for the first test file that imports it, and no other; a preloaded one for all.
afterEach(async () => {
  const errors: unknown[] = [];
  for (const teardown of teardowns.splice(0).toReversed()) {
    try {
      await teardown();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw new AggregateError(errors, "taking down what the test made");
});
