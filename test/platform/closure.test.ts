/**
 * A plugin call executes the language and platform/, and nothing else of a runtime. (That no file names Bun, Buffer,
 * process and their like is held by the compiler, which checks the plugin without any runtime's types: scripts/check.ts.)
 */
import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { createContext, Script } from "node:vm";
import { platform } from "#platform";
import { closure, ENTRY, SOURCE } from "./closure.ts";

const { files, foreign } = closure();
const sources = files.filter((path) => path.endsWith(".ts"));

test("the plugin imports nothing but our own files", () => {
  expect(foreign).toEqual([]);
  const names = files.map((path) => relative(SOURCE, path));
  // Each command, each backend, and what only some calls need.
  for (const name of [
    "cni/add.ts",
    "cni/gc.ts",
    "cni/mac-spoofing.ts",
    "nat/backends/iptables/iptables.ts",
  ]) {
    expect(names).toContain(name);
  }
  expect(names).toContain("platform/engine.ts");
  expect(names).not.toContain("platform/bun.ts");
});

test("the compiler checks the plugin as the small engine gets it, without a runtime's types", () => {
  const { compilerOptions, files: checked } = JSON.parse(
    readFileSync(join(SOURCE, "platform", "tsconfig.json"), "utf8"),
  ) as { compilerOptions: Record<string, unknown>; files: string[] };
  expect(compilerOptions).toMatchObject({ types: [], lib: ["ESNext"], customConditions: ["small-engine"] });
  expect(checked.map((path) => join(SOURCE, "platform", path))).toEqual([ENTRY]);
});

/** What the small engine hands in, as `__wayout`: the functions of Bun's platform, each behind `before`. */
function natives(before: (name: string) => void): Record<string, unknown> {
  const wrap = (object: object): Record<string, unknown> =>
    Object.fromEntries(
      Object.entries(object).map(([name, value]: [string, unknown]) => {
        if (typeof value === "object" && value !== null) return [name, wrap(value)];
        if (typeof value !== "function") return [name, value];
        return [
          name,
          (...args: unknown[]): unknown => {
            before(name);
            return Reflect.apply(value, undefined, args) as unknown;
          },
        ];
      }),
    );
  return { ...wrap(platform), environmentLines: () => before("environmentLines") };
}

/** Of the platform, what only computes: the same at any time and on any machine. */
const COMPUTES: ReadonlySet<string> = new Set(["encodeUtf8", "decodeUtf8", "hasher"]);

/** The whole plugin as one script, every module of it evaluated when the script is. */
async function bundled(): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "wayout-closure-"));
  try {
    const entry = join(directory, "entry.ts");
    const imports = sources.map((path, index) => `import * as part${index} from ${JSON.stringify(path)};`);
    const kept = sources.map((_, index) => `part${index}`).join(", ");
    writeFileSync(
      entry,
      `${imports.join("\n")}\nimport { runPlugin } from ${JSON.stringify(ENTRY)};\n(globalThis as any).plugin = { runPlugin, parts: [${kept}] };`,
    );
    const built = await Bun.build({
      entrypoints: [entry],
      target: "browser",
      format: "iife",
      conditions: ["small-engine"],
    });
    return await built.outputs[0]!.text();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

interface Realm {
  readonly plugin: { runPlugin(environment: object): Promise<number>; readonly parts: readonly object[] };
}

/** A realm that has the language, `__wayout`, and a clock and dice that are watched as well. */
function evaluate(script: string, before: (name: string) => void): Realm {
  const realm = createContext({ __wayout: natives(before), before });
  new Script(`
    const RealDate = Date;
    globalThis.Date = class extends RealDate {
      constructor(...args) { if (args.length === 0) before("new Date"); super(...args); }
      static now() { before("Date.now"); return RealDate.now(); }
    };
    Math.random = () => { before("Math.random"); return 0.5; };
  `).runInContext(realm);
  new Script(script).runInContext(realm);
  return realm as unknown as Realm;
}

test("nothing is asked of the platform, a clock or dice when modules are loaded: that happens at build time", async () => {
  const asked: string[] = [];
  let isLoaded = false;
  const realm = evaluate(await bundled(), (name) => {
    if (COMPUTES.has(name)) return;
    asked.push(name);
    if (!isLoaded) throw new Error(`${name} at the top level: ${new Error().stack}`);
    // The call's own: it must neither read nor write what is the test's.
    if (["read", "write", "syscall"].includes(name)) throw new Error(`asked for ${name}`);
  });
  expect(asked).toEqual([]);
  expect(realm.plugin.parts).toHaveLength(sources.length);
  isLoaded = true;
  // The traps are live: a call does ask, and a realm without a runtime is enough for it to get there.
  const call = realm.plugin.runPlugin({ CNI_COMMAND: "STATUS" });
  const failure = await call.catch((error: unknown) => error);
  expect(String(failure)).toMatch(/asked for (syscall|write)/);
  expect(asked).not.toEqual([]);
});

test("whoever goes on after an error has looked at it: a mistake of ours must not pass for a missing file", () => {
  const blind = sources.flatMap((path) => {
    const code = readFileSync(path, "utf8");
    return [...code.matchAll(/\bcatch\b(?: \((\w+)\))? \{/g)].flatMap((found) => {
      const block = blockFrom(code, found.index + found[0].length);
      const name = found[1];
      const looks = name !== undefined && new RegExp(`\\b${name}\\b`).test(block);
      return looks ? [] : [`${relative(SOURCE, path)}: ${found[0]}${block}`];
    });
  });
  expect(blind).toEqual([]);
});

/** The text from here to the brace that closes the block. */
function blockFrom(code: string, start: number): string {
  let depth = 1;
  let at = start;
  for (; depth > 0 && at < code.length; at++) depth += { "{": 1, "}": -1 }[code[at]!] ?? 0;
  return code.slice(start, at);
}
