/** The files that a plugin call may execute: what src/cni/main.ts imports, at once or when it is needed. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

export const SOURCE = join(import.meta.dir, "..", "..", "src");
export const ENTRY = join(SOURCE, "cni", "main.ts");
const ENGINE = join(SOURCE, "platform", "engine.ts");

const transpiler = new Bun.Transpiler({ loader: "ts" });

export interface Closure {
  readonly files: readonly string[];
  /** `file imports what`, of everything that is neither a file of ours nor the platform. */
  readonly foreign: readonly string[];
}

/** As the transpiler sees it: imports of types only are none. */
export function closure(entry: string = ENTRY): Closure {
  const files = new Set<string>();
  const foreign: string[] = [];
  const visit = (path: string): void => {
    if (files.has(path)) return;
    files.add(path);
    if (path.endsWith(".json")) return;
    for (const { path: specifier } of transpiler.scanImports(readFileSync(path, "utf8"))) {
      if (specifier === "#platform") visit(ENGINE);
      else if (specifier.startsWith(".")) visit(join(dirname(path), specifier));
      else foreign.push(`${path.slice(SOURCE.length + 1)} imports ${specifier}`);
    }
  };
  visit(entry);
  return { files: [...files].toSorted(), foreign };
}
