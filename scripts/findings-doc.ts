/** Writes docs/findings.md from the catalogue. `--print` writes it to standard output instead. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { findingsDocument } from "../src/doctor/document.ts";

const text = findingsDocument();
if (process.argv.includes("--print")) process.stdout.write(text);
else writeFileSync(join(import.meta.dir, "..", "docs", "findings.md"), text);
