/** Compiles the plugin's engine: QuickJS-ng and our side in C, one static program without an interpreter or a library. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { ENGINE_VERSION, pinnedFiles, writeEngineSource } from "./source.ts";

const root = join(import.meta.dir, "..", "..");
const SHIM = join(root, "engine", "shim");
const CACHE = join(root, "node_modules", ".cache", "plugin-engine");

/** The engine's units; the first contains the engine itself and sees inside it. */
const INSIDE = join(SHIM, "quickjs-unit.c");
const ENGINE_UNITS = ["dtoa.c", "libregexp.c", "libunicode.c"];
const SHIM_UNITS = ["calls.c", "digest.c", "heap.c", "image.c", "main.c", "process.c", "text.c"];

/**
 * What upstream compiles it with (-O3, -fwrapv, -funsigned-char), and what makes a mistake of memory harder to use: checks of
 * the stack and of copies, tables of addresses that are read-only before anything runs. It is no position-independent
 * program: the image holds the addresses of its functions.
 */
const FLAGS = [
  "-O3",
  "-std=gnu11",
  "-D_GNU_SOURCE",
  "-DQUICKJS_NG_BUILD",
  // As upstream releases it: otherwise it keeps a list of all strings, to tell which were forgotten, and a call that makes
  // or drops one writes to the pages of others.
  "-DNDEBUG",
  "-fwrapv",
  "-funsigned-char",
  "-fno-strict-aliasing",
  "-fvisibility=hidden",
  "-fno-pie",
  "-fstack-protector-strong",
  "-D_FORTIFY_SOURCE=2",
];
const WARNINGS = ["-Wall", "-Wextra", "-Wno-sign-compare", "-Werror"];
const LINK_FLAGS = ["-static", "-no-pie", "-Wl,-z,relro,-z,now,-z,noexecstack,--build-id=none", "-lm"];

/**
 * Which compilers are looked for; the first that makes a static program is taken. With musl a run begins a third quicker than
 * with a static glibc, and needs less memory: that one sets up tables for locales and for each kind of processor.
 */
const COMPILERS = ["musl-gcc", "gcc", "clang"];

/** Why there can be no engine here: the plugin is then the large program, as everywhere before. */
export class NoCompiler extends Error {}

/** @returns a compiler's name. @throws NoCompiler */
export function findCompiler(): string {
  const directory = join(CACHE, `try-${process.pid}`);
  mkdirSync(directory, { recursive: true });
  try {
    for (const compiler of COMPILERS) {
      if (Bun.which(compiler) === null) continue;
      const argv = [compiler, ...FLAGS, "-x", "c", "-", "-o", join(directory, "tried"), ...LINK_FLAGS];
      const source =
        '#include <math.h>\n#include <stdio.h>\nint main(int n, char **v) { (void)v; return printf("%f", sin(n)) < 0; }\n';
      if (Bun.spawnSync(argv, { stdin: Buffer.from(source), stderr: "ignore" }).exitCode === 0)
        return compiler;
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  throw new NoCompiler(`none of ${COMPILERS.join(", ")} makes a static program here (Debian: musl-tools)`);
}

export interface EngineOptions {
  readonly compiler: string;
  /** What executes the engine here, where it is another machine's. */
  readonly runner?: readonly string[];
  /** For all units and the linker, beside those of every build: with sanitizers. */
  readonly flags?: readonly string[];
  /** A program that needs this machine's libraries, for those of sanitizers. */
  readonly isDynamic?: boolean;
  /** For our own units, beside those of every build: with sanitizers, or with its heap elsewhere. */
  readonly shimFlags?: readonly string[];
}

/** Compiles and links the engine to `output`. The engine's own objects are kept from build to build. @throws Error */
export async function compileEngine(
  output: string,
  { compiler, flags: everywhere = [], isDynamic = false, shimFlags = [] }: EngineOptions,
): Promise<void> {
  const source = join(CACHE, `quickjs-ng-${ENGINE_VERSION}`);
  if (!isReleased(source)) writeEngineSource(source);
  const flags = [
    ...FLAGS,
    ...everywhere,
    "-include",
    join(SHIM, "fortify.h"),
    `-ffile-prefix-map=${root}=.`,
    `-I${source}`,
    `-I${SHIM}`,
  ];
  const objects = join(CACHE, keyOf(compiler, flags));
  mkdirSync(objects, { recursive: true });
  const made = join(objects, `shim-${process.pid}`);
  mkdirSync(made);
  try {
    const kept = [INSIDE, ...ENGINE_UNITS.map((name) => join(source, name))];
    const linked = await Promise.all([
      ...kept.map((unit) => compileOnce(compiler, [...flags, "-w"], unit, objects)),
      ...SHIM_UNITS.map((name) =>
        compile(compiler, [...flags, ...WARNINGS, ...shimFlags], join(SHIM, name), objectIn(made, name)),
      ),
    ]);
    const linking = LINK_FLAGS.filter((flag) => !isDynamic || flag !== "-static");
    await run([compiler, ...linked, "-o", output, ...everywhere, ...shimFlags, "-s", ...linking]);
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
}

function isReleased(directory: string): boolean {
  if (!existsSync(directory)) return false;
  for (const [name, hash] of pinnedFiles()) {
    const path = join(directory, name);
    if (!existsSync(path) || new Bun.CryptoHasher("sha256").update(readFileSync(path)).digest("hex") !== hash)
      return false;
  }
  return true;
}

/** Changes with everything that the kept objects are made of, and not with where this checkout lies: nothing in them says it. */
function keyOf(compiler: string, flags: readonly string[]): string {
  const version = Bun.spawnSync([compiler, "--version"]).stdout.toString();
  const parts = [version, ...flags.map((flag) => flag.replaceAll(root, ".")), ...pinnedFiles().values()];
  for (const name of ["fortify.h", "quickjs-unit.c", "shim.h"])
    parts.push(readFileSync(join(SHIM, name), "utf8"));
  return new Bun.CryptoHasher("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
}

function objectIn(directory: string, unit: string): string {
  return join(directory, `${basename(unit, ".c")}.o`);
}

async function compileOnce(
  compiler: string,
  flags: readonly string[],
  unit: string,
  directory: string,
): Promise<string> {
  const object = objectIn(directory, unit);
  if (existsSync(object)) return object;
  const beside = `${object}.${process.pid}`;
  await compile(compiler, flags, unit, beside);
  renameSync(beside, object);
  return object;
}

async function compile(
  compiler: string,
  flags: readonly string[],
  unit: string,
  object: string,
): Promise<string> {
  await run([compiler, ...flags, "-c", unit, "-o", object]);
  return object;
}

/** @throws Error with what the program said */
async function run(argv: readonly string[]): Promise<void> {
  const child = Bun.spawn([...argv], { stdout: "ignore", stderr: "pipe" });
  const said = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`${argv[0]} ${argv.at(-1)}: ${said.trim().slice(0, 4000)}`);
}
