/** Builds dist/wayout, or the path given: one file that holds Bun, wayout and everything it needs. */
import { mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { BunPlugin } from "bun";

const root = join(import.meta.dir, "..");
const output = process.argv[2] ?? join(root, "dist", "wayout");
mkdirSync(dirname(output), { recursive: true });
const directory = mkdtempSync(join(tmpdir(), "wayout-build-"));
try {
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
    plugins: [pluginApart(await bundlePlugin())],
  });
  for (const log of built.logs) console.error(log.message);
  if (!built.success) process.exit(1);
  // Beside and renamed: somebody may be executing the old one (ETXTBSY).
  renameSync(`${output}.new`, output);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
console.log(`${output}  ${(Bun.file(output).size / 1e6).toFixed(0)} MB`);

/**
 * The plugin's code, bundled for itself first: sharing chunks with the command line would cut it into many small ones,
 * each of which costs a plugin call some time to load. Returns the chunk
 * that it begins in.
 */
async function bundlePlugin(): Promise<string> {
  const { outputs } = await Bun.build({
    entrypoints: [join(root, "src", "cni", "main.ts")],
    outdir: directory,
    target: "bun",
    splitting: true,
    format: "esm",
  });
  return outputs.find(({ kind }) => kind === "entry-point")!.path;
}

/** Puts the bundled plugin in the place of its sources. */
function pluginApart(path: string): BunPlugin {
  return {
    name: "plugin-apart",
    setup(build) {
      build.onResolve({ filter: /^\.\/cni\/main\.ts$/ }, () => ({ path }));
    },
  };
}
