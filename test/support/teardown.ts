/** What a test has to take down again, newest first, whether it passed or not. hooks.ts does it after each test. */
type Teardown = () => unknown;

const teardowns: Teardown[] = [];

/** Runs this after the test that runs now. Teardown collects errors and goes on. */
export function afterThisTest(teardown: Teardown): void {
  teardowns.push(teardown);
}

/** @throws AggregateError of everything that could not be taken down */
export async function tearDown(): Promise<void> {
  const errors: unknown[] = [];
  for (const teardown of teardowns.splice(0).toReversed()) {
    try {
      await teardown();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw new AggregateError(errors, "taking down what the test made");
}
