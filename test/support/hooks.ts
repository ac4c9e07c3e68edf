/** Preloaded by scripts/test-inside.ts: a hook set in a module counts for the first test file that imports it, and no other. */
import { afterEach } from "bun:test";
import { configureGlobal } from "fast-check";
import { tearDown } from "./teardown.ts";

// The same cases in every run, so that a red one can be run again; WAYOUT_SEED tries others.
configureGlobal({ seed: Number(process.env["WAYOUT_SEED"] ?? 1) });

afterEach(tearDown);
