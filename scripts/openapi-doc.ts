/** Writes docs/openapi.json from the agent's routes. */
import { join } from "node:path";
import { openApiDocument } from "../src/agent/api/openapi.ts";

const path = join(import.meta.dir, "..", "docs", "openapi.json");
await Bun.write(path, `${JSON.stringify(openApiDocument(), null, 2)}\n`);
