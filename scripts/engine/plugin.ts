/**
 * Builds the plugin as a small program of its own, dist/wayout-cni: the same TypeScript as in the large one, on QuickJS-ng,
 * from an image of its memory. engine/shim/image.c tells what the file consists of.
 */
import { chmodSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { SourceMap, type SourceMapPayload } from "node:module";
import { basename, dirname, join } from "node:path";
import { placesText, type Places } from "../../src/platform/places.ts";
import { compileEngine, type EngineOptions } from "./compile.ts";

const root = join(import.meta.dir, "..", "..");
const PLUGIN = join(root, "src", "cni", "main.ts");
/**
 * What is called most often comes first, and so what it needs lies together: a call copies each page of the image that it
 * writes to, be it for one counter of references.
 */
const FIRST = ["version-answer", "status", "del", "add", "check"].map((name) =>
  join(dirname(PLUGIN), `${name}.ts`),
);
/** What is made ready when the image is. */
const PREPARING = join(root, "src", "cni", "image.ts");
/** What `#platform` leads to in this build (package.json, `imports`). */
const PLATFORM = join(root, "src", "platform", "engine.ts");
/** What engine/shim/image.c calls the module. */
const SCRIPT = "wayout-cni.js";
/** HEAP_ALIGNMENT of engine/shim/heap.h: the image begins at a page of whatever kernel maps it. */
const ALIGNMENT = 65536;
/** `Identity` of engine/shim/image.c: a mark, a hash, the engine's length. */
const MARK = "wayout-engine-1\0";
const HASH_AT = 16;
const LENGTH_AT = 48;
const IDENTITY_BYTES = 56;

/** @throws Error; nothing is left at `output` then but what was there */
export async function buildPlugin(output: string, options: EngineOptions): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "wayout-bundle-"));
  try {
    await buildProgram(output, await bundle(directory), options);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/**
 * A program from any module in JavaScript that hands its main function over as `__wayout.main`.
 * @throws Error; nothing is left at `output` then but what was there
 */
export async function buildProgram(output: string, module: string, options: EngineOptions): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "wayout-engine-"));
  const beside = `${output}.new`;
  try {
    const engine = join(directory, "engine");
    const script = join(directory, "module.js");
    const image = join(directory, "image");
    writeFileSync(script, module);
    await compileEngine(engine, options);
    writeFileSync(engine, identified(readFileSync(engine)));
    chmodSync(engine, 0o755);
    const runner = options.runner ?? [];
    makeImage([...runner, engine], script, image);
    writeFileSync(beside, Buffer.concat([readFileSync(engine), readFileSync(image)]));
    chmodSync(beside, 0o755);
    const verified = Bun.spawnSync([...runner, beside, "--verify"], { stderr: "pipe" });
    if (verified.exitCode !== 0) throw new Error(verified.stderr.toString().trim());
    // Beside and renamed: somebody may be executing the old one (ETXTBSY).
    renameSync(beside, output);
  } finally {
    rmSync(beside, { force: true });
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The engine evaluates modules when the image is made: what the plugin imports when it needs it is there already. */
async function bundle(directory: string): Promise<string> {
  const parts = [...new Set([...FIRST, ...lateParts()])];
  const imports = parts.map((path, number) => `import * as part${number} from ${JSON.stringify(path)};\n`);
  const kept = parts.map((_, number) => `part${number}`).join(", ");
  const entry = join(directory, "entry.ts");
  writeFileSync(
    entry,
    `${imports.join("")}import { platform } from ${JSON.stringify(PLATFORM)};\n` +
      `import { runPlugin } from ${JSON.stringify(PLUGIN)};\n` +
      `import { prepareImage } from ${JSON.stringify(PREPARING)};\nprepareImage();\n` +
      // A person who starts it reads what it is; the large program is a command line as well.
      `__wayout.main = () => runPlugin({ CNI_COMMAND: "", ...platform.environment() });\n` +
      `__wayout.placed = platform.placed;\n__wayout.parts = [${kept}];\n`,
  );
  const built = await Bun.build({
    entrypoints: [entry],
    // No runtime that it knows: whatever it would have to find elsewhere is an error.
    target: "browser",
    format: "esm",
    conditions: ["small-engine"],
    // Names and lines stay, for stacks.
    minify: { whitespace: false, syntax: true, identifiers: false },
    sourcemap: "external",
  });
  const text = async (kind: string): Promise<string> =>
    await built.outputs.find((output) => output.kind === kind)!.text();
  const script = await text("entry-point");
  const places = placesOf(script, JSON.parse(await text("sourcemap")) as SourceMapPayload);
  return `${script}\n__wayout.places = ${JSON.stringify(places)};\n`;
}

/** Where each line of the script comes from. */
function placesOf(script: string, payload: SourceMapPayload): Places {
  const map = new SourceMap(payload);
  const files: string[] = [];
  const places = script.split("\n").map((line, number): readonly [number, number] => {
    const found = map.findEntry(number, line.search(/\S|$/));
    if (!("originalSource" in found)) return [0, 0];
    // No path of the machine that builds it.
    const source = found.originalSource;
    const at = source.lastIndexOf("src/");
    const name = at < 0 ? basename(source) : source.slice(at);
    if (!files.includes(name)) files.push(name);
    return [files.indexOf(name), found.originalLine + 1];
  });
  return { script: SCRIPT, files, lines: placesText(places) };
}

/** Every module that something in the plugin's closure imports only when it needs it. */
function lateParts(): string[] {
  const transpiler = new Bun.Transpiler({ loader: "ts" });
  const seen = new Set<string>();
  const late = new Set<string>();
  const waiting = [PLUGIN];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (seen.has(path)) continue;
    seen.add(path);
    if (!path.endsWith(".ts")) continue;
    for (const found of transpiler.scanImports(readFileSync(path, "utf8"))) {
      if (!found.path.startsWith(".")) continue;
      const imported = join(dirname(path), found.path);
      if (found.kind === "dynamic-import") late.add(imported);
      waiting.push(imported);
    }
  }
  return [...late].sort();
}

/** The engine as it lies in the file: filled up to where the image begins, with its own hash and length in it. */
function identified(linked: Buffer): Buffer {
  const engine = Buffer.alloc(Math.ceil(linked.length / ALIGNMENT) * ALIGNMENT);
  linked.copy(engine);
  const at = engine.indexOf(MARK);
  if (at < 0 || engine.indexOf(MARK, at + 1) >= 0) throw new Error("the engine's mark is not there once");
  engine.fill(0, at + HASH_AT, at + IDENTITY_BYTES);
  const hash = new Bun.CryptoHasher("sha256").update(engine).digest();
  hash.copy(engine, at + HASH_AT);
  engine.writeBigUInt64LE(BigInt(engine.length), at + LENGTH_AT);
  return engine;
}

/** Nothing of the build machine's environment gets in. */
function makeImage(engine: readonly string[], script: string, image: string): void {
  const made = Bun.spawnSync([...engine, "--make-image", script, image], { env: {}, stderr: "pipe" });
  if (made.exitCode === 0) return;
  const how = made.exitCode ?? made.signalCode;
  throw new Error(`making the plugin's image ended with ${how}: ${made.stderr.toString().trim()}`);
}
