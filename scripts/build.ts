/** Builds dist/wayout, or the path given: one file that holds Bun, wayout and everything it needs. */
import { mkdirSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";

const root = join(import.meta.dir, "..");
const output = process.argv[2] ?? join(root, "dist", "wayout");
mkdirSync(dirname(output), { recursive: true });
const built = await Bun.build({
  entrypoints: [join(root, "src", "main.ts")],
  compile: {
    outfile: `${output}.new`,
    // Whatever lies in the directory we are started in is none of our business, and looking costs a millisecond.
    autoloadDotenv: false,
    autoloadBunfig: false,
    // A plugin call is over before compiled code pays. The command line sets the usual policy when it starts.
    jitPolicy: 16,
  },
  minify: true,
  bytecode: true,
  // One chunk for each lazily imported part: otherwise every run, a CNI call above all, reads in the code of all others.
  splitting: true,
  format: "esm",
  sourcemap: "none",
});
for (const log of built.logs) console.error(log.message);
if (!built.success) process.exit(1);
// Beside and renamed: somebody may be executing the old one (ETXTBSY).
renameSync(`${output}.new`, output);
console.log(`${output}  ${(Bun.file(output).size / 1e6).toFixed(0)} MB`);
