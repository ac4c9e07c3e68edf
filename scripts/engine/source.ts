/**
 * The source of the plugin's engine, QuickJS-ng as it was released. An npm package carries it as it was some days before
 * the release; what upstream changed since then lies beside us as upstream's own difference. What comes out must have
 * the hashes of the released files, which stand in our repository: nothing else is compiled.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const root = join(import.meta.dir, "..", "..");
const CARRIER = join(root, "node_modules", "@scriptc", "runtime", "vendor", "quickjs-ng");
const PINNED = join(root, "engine", "quickjs-ng");
/** The release whose hashes are pinned. */
export const ENGINE_VERSION = "0.16.2";

/** Name and SHA-256 of each file, as `sha256sum` writes them. */
export function pinnedFiles(): ReadonlyMap<string, string> {
  const lines = readFileSync(join(PINNED, "SHA256SUMS"), "utf8").trimEnd().split("\n");
  return new Map(lines.map((line) => [line.slice(66), line.slice(0, 64)]));
}

/**
 * Writes the engine's files into a directory, unless they are there.
 * @throws Error naming a file that is missing in the carrier, or is not the released one
 */
export function writeEngineSource(directory: string): void {
  const changes = readChanges(readFileSync(join(PINNED, `v${ENGINE_VERSION}.diff`), "utf8"));
  const made = `${directory}.new-${process.pid}`;
  rmSync(made, { recursive: true, force: true });
  mkdirSync(made, { recursive: true });
  for (const [name, hash] of pinnedFiles()) {
    const carried = readFileSync(join(CARRIER, name), "utf8");
    const text = changed(carried, changes.get(name) ?? []);
    requireHash(name, text, hash);
    writeFileSync(join(made, name), text);
  }
  mkdirSync(dirname(directory), { recursive: true });
  rmSync(directory, { recursive: true, force: true });
  renameSync(made, directory);
}

/** @throws Error */
export function requireHash(name: string, text: string, hash: string): void {
  const found = new Bun.CryptoHasher("sha256").update(text).digest("hex");
  if (found === hash) return;
  throw new Error(
    `the engine's ${name} is not that of QuickJS-ng ${ENGINE_VERSION}: its SHA-256 is ${found}, not ${hash}`,
  );
}

/** Some lines of a file, and what stands in their place. */
interface Change {
  /** The first line that goes, from 0; where none goes, the line before which others come. */
  readonly from: number;
  readonly removed: readonly string[];
  readonly added: readonly string[];
}

/** Reads `diff -U0` by file. Lines keep what ends them out. */
export function readChanges(text: string): ReadonlyMap<string, readonly Change[]> {
  const files = new Map<string, Change[]>();
  for (const part of text.split(/^diff --git .*\n/m).slice(1)) {
    const name = /^\+\+\+ b\/(.*)$/m.exec(part)![1]!;
    files.set(
      name,
      part
        .split(/^(?=@@ )/m)
        .slice(1)
        .map(readChange),
    );
  }
  return files;
}

function readChange(hunk: string): Change {
  const [head = "", ...lines] = hunk.trimEnd().split("\n");
  const [, line = "", count = "1"] = /^@@ -(\d+)(?:,(\d+))? /.exec(head) ?? [];
  const marked = (mark: string): string[] =>
    lines.filter((text) => text.startsWith(mark)).map((text) => text.slice(1));
  return { from: Number(line) - (count === "0" ? 0 : 1), removed: marked("-"), added: marked("+") };
}

/** @throws Error when what should go does not stand there */
export function changed(text: string, changes: readonly Change[]): string {
  const lines = text.split("\n");
  for (const { from, removed, added } of changes.toReversed()) {
    const found = lines.splice(from, removed.length, ...added);
    if (found.join("\n") !== removed.join("\n")) {
      throw new Error(`line ${from + 1} of a carried file is not what upstream changed`);
    }
  }
  return lines.join("\n");
}
