/** Builds dist/wayout, or the path given: one file that holds Bun, wayout and everything it needs. */
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { BunPlugin } from "bun";
import { bundlePage } from "../src/agent/page/bundle.ts";
import type { PageFiles } from "../src/agent/page/page-files.ts";

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
    plugins: [pluginApart(await bundlePlugin()), pageInside(await bundlePage())],
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
    plugins: [sharedTogether()],
    outdir: directory,
    target: "bun",
    splitting: true,
    format: "esm",
  });
  if (process.env.DBG) for (const o of outputs) await Bun.write("/tmp/lean/bx/" + o.path.split("/").pop(), o);
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

/** Puts the page's finished files in the place of what bundles them. */
function pageInside(files: PageFiles): BunPlugin {
  const contents = `export const pageFiles = async () => (${JSON.stringify(files)});`;
  return {
    name: "page-inside",
    setup(build) {
      build.onLoad({ filter: /\/agent\/page\/files\.ts$/ }, () => ({ contents, loader: "js" }));
    },
  };
}

/**
 * What all calls load becomes one chunk, what all that work on the node load another: each part that is loaded on
 * demand imports both. Otherwise a module that one rare part needs by itself is cut out, and every call loads two chunks.
 */
function sharedTogether(): BunPlugin {
  const source = (...names: string[]): string => join(root, "src", ...names);
  const shared = [
    source("cni", "context.ts"),
    source("cni", "network-state.ts"),
    source("ways-out", "problem.ts"),
  ];
  const without = [
    source("cni", "main.ts"),
    source("cni", "loopback.ts"),
    source("cni", "result.ts"),
    ...shared,
  ];
  const parts = new Set<string>();
  for (const room of ["cni", "flows", "forwarding", "nat"]) {
    for (const path of new Bun.Glob("**/*.ts").scanSync({ cwd: source(room), absolute: true })) {
      const imports = readFileSync(path, "utf8").matchAll(/\bimport\("(\.[^"]+)"\)/g);
      for (const [, target] of imports) parts.add(join(dirname(path), target!));
    }
  }
  const added = shared.map((path) => `import ${JSON.stringify(path)};\n`).join("");
  return {
    name: "shared-together",
    setup(build) {
      build.onLoad({ filter: /\.ts$/ }, ({ path }) => {
        if (!parts.has(path) || without.includes(path)) return undefined;
        return { contents: `${readFileSync(path, "utf8")}\n${added}`, loader: "ts" };
      });
    },
  };
}
