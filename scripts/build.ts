/**
 * Builds dist/wayout, or the path given: one file that holds Bun, wayout and everything it needs; and beside it
 * dist/wayout-cni, the plugin as a small program, which lies in the large one as well. Without a compiler for C there is
 * none, and the large program is the plugin.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import type { BunPlugin } from "bun";
import { bundlePage } from "../src/agent/page/bundle.ts";
import type { PageFiles } from "../src/agent/page/page-files.ts";
import { findCompiler, NoCompiler } from "./engine/compile.ts";
import { buildPlugin } from "./engine/plugin.ts";

const root = join(import.meta.dir, "..");
/** Imports each command of the plugin. */
const PLUGIN = join(root, "src", "cni", "main.ts");
const output = process.argv[2] ?? join(root, "dist", "wayout");
mkdirSync(dirname(output), { recursive: true });
const directory = mkdtempSync(join(tmpdir(), "wayout-build-"));
try {
  const small = await buildSmall(`${output}-cni`);
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
    plugins: [pluginApart(await bundlePlugin()), pageInside(await bundlePage()), smallInside(small)],
  });
  for (const log of built.logs) console.error(log.message);
  if (!built.success) process.exit(1);
  // Beside and renamed: somebody may be executing the old one (ETXTBSY).
  renameSync(`${output}.new`, output);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
console.log(`${output}  ${(Bun.file(output).size / 1e6).toFixed(0)} MB`);

/** Returns its path; undefined where no compiler is. What was built before is not left beside a newer program. */
async function buildSmall(path: string): Promise<string | undefined> {
  try {
    await buildPlugin(path, { compiler: findCompiler() });
    console.log(`${path}  ${(Bun.file(path).size / 1e6).toFixed(1)} MB`);
    return path;
  } catch (error) {
    if (!(error instanceof NoCompiler)) throw error;
    rmSync(path, { force: true });
    console.log(`no small plugin: ${error.message}`);
    return undefined;
  }
}

/**
 * Each command of the plugin is bundled for itself first: sharing chunks with the other commands and the command line
 * would cut it into many small ones, each of which costs a call some fifty thousand instructions to load, and would have
 * it load what only others need. Returns where each begins, by the path of its source.
 */
async function bundlePlugin(): Promise<ReadonlyMap<string, string>> {
  const source = readFileSync(PLUGIN, "utf8");
  const parts = [...source.matchAll(/\bimport\("(\.[^"]+)"\)/g)].map(([, path]) =>
    join(dirname(PLUGIN), path!),
  );
  const bundled = await Promise.all(parts.map(async (part) => [part, await bundlePart(part)] as const));
  return new Map(bundled);
}

async function bundlePart(part: string): Promise<string> {
  const { outputs } = await Bun.build({
    entrypoints: [part],
    outdir: join(directory, basename(part, ".ts")),
    // With its hash in the name an entry point may take up what it shares with what it imports later: one chunk less.
    naming: "[name]-[hash].[ext]",
    target: "bun",
    splitting: true,
    format: "esm",
  });
  return outputs.find(({ kind }) => kind === "entry-point")!.path;
}

/** Puts the bundled parts in the place of their sources, where the plugin imports them. */
function pluginApart(parts: ReadonlyMap<string, string>): BunPlugin {
  return {
    name: "plugin-apart",
    setup(build) {
      build.onResolve({ filter: /^\.\/[a-z-]+\.ts$/ }, ({ path, importer }) => {
        const part = importer === PLUGIN ? parts.get(join(dirname(importer), path)) : undefined;
        return part === undefined ? undefined : { path: part };
      });
    },
  };
}

/** Puts the page's finished files in the place of what bundles them. */
function pageInside(files: PageFiles): BunPlugin {
  return inPlaceOf(
    join("agent", "page", "files.ts"),
    `export const pageFiles = async () => (${JSON.stringify(files)});`,
  );
}

/** Puts the small program into the large one, where `cni install` finds it. */
function smallInside(path: string | undefined): BunPlugin {
  return inPlaceOf(
    "plugin-program.ts",
    path === undefined
      ? "export const smallProgram = () => undefined;"
      : `import path from ${JSON.stringify(path)} with { type: "file" };\nexport const smallProgram = () => path;`,
  );
}

/** @param module below src/; @throws Error where there is none, for nothing else would tell */
function inPlaceOf(module: string, contents: string): BunPlugin {
  const path = join(root, "src", module);
  if (!existsSync(path)) throw new Error(`there is no module ${path}`);
  return {
    name: `in place of ${module}`,
    setup(build) {
      build.onLoad({ filter: new RegExp(`^${RegExp.escape(path)}$`) }, () => ({ contents, loader: "js" }));
    },
  };
}
