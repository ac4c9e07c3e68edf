/** Writes docs/policy.schema.json from the schema by which a policy's file is read. */
import { join } from "node:path";
import { policyJsonSchema } from "../src/policy/json-schema.ts";

const path = join(import.meta.dir, "..", "docs", "policy.schema.json");
await Bun.write(path, `${JSON.stringify(policyJsonSchema(), null, 2)}\n`);
