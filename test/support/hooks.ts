/** Preloaded by scripts/test-inside.ts: a hook set in a module counts for the first test file that imports it, and no other. */
import { afterEach } from "bun:test";
import { tearDown } from "./teardown.ts";

afterEach(tearDown);
