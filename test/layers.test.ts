/** Imports go down only. The rooms and their order are those of docs/architecture.md. */
import { expect, test } from "bun:test";
import { Glob } from "bun";
import { join, relative, resolve, dirname } from "node:path";
import { BACKENDS, NAT_BACKENDS } from "../src/nat/backends/backends.ts";

const SOURCE = join(import.meta.dir, "..", "src");

/** From the top down. A room may import rooms further down, and its own files. */
const LAYERS: readonly (readonly string[])[] = [
  ["main.ts"],
  ["cli"],
  ["agent"],
  ["page"],
  ["kubernetes"],
  ["cni"],
  ["lab"],
  ["examination"],
  ["trace"],
  ["doctor"],
  ["causes"],
  ["snapshot"],
  ["attachment"],
  ["ways-out"],
  ["pods", "flows"],
  ["rules", "policy"],
  ["admission"],
  ["nat", "forwarding", "network", "ipam"],
  ["kernel"],
  ["naming"],
  ["linux"],
  ["address", "text"],
  ["platform"],
  ["low-memory-start.ts"],
  ["plugin-program.ts"],
  ["error.ts", "present.ts", "self.ts", "version.ts"],
];

/** Rooms that must not know certain others, although those lie further down. */
const FORBIDDEN: Readonly<Record<string, readonly string[]>> = {
  doctor: ["kernel"],
  cni: ["doctor", "trace"],
};

/**
 * Rooms in which values go in and values come out: nothing is opened, no clock, no environment, no randomness. They
 * import each other and what is written here, nothing else; so they are pure transitively.
 */
const PURE: ReadonlySet<string> = new Set(["linux", "naming", "address", "text", "error.ts", "present.ts"]);

/** Of the platform, what computes only. (It goes with whichever runtime there is, so no browser has it.) */
const PURE_OF_PLATFORM = join(SOURCE, "platform", "bytes.ts");

/** Computing, without opening anything. */
const PURE_MODULES: ReadonlySet<string> = new Set(["node:util"]);

const transpilers = {
  ts: new Bun.Transpiler({ loader: "ts" }),
  tsx: new Bun.Transpiler({ loader: "tsx" }),
};

function transpilerOf(path: string): Bun.Transpiler {
  return path.endsWith(".tsx") ? transpilers.tsx : transpilers.ts;
}

function roomOf(path: string): string {
  return relative(SOURCE, path).split("/")[0]!;
}

function layerOf(room: string): number {
  const layer = LAYERS.findIndex((rooms) => rooms.includes(room));
  if (layer < 0) throw new Error(`src/${room} is in no layer: add it to LAYERS and to docs/architecture.md`);
  return layer;
}

function isForbidden(room: string, other: string): boolean {
  return FORBIDDEN[room]?.includes(other) === true;
}

/** Imports with their kind; `import type` is erased by the transpiler and so does not count. */
async function importsOf(path: string): Promise<string[]> {
  const code = await Bun.file(path).text();
  return transpilerOf(path)
    .scanImports(code)
    .map((found) => found.path)
    .filter((specifier) => specifier.startsWith("."))
    .map((specifier) => resolve(dirname(path), specifier));
}

test("docs/architecture.md draws the same layers", async () => {
  const text = await Bun.file(join(SOURCE, "..", "docs", "architecture.md")).text();
  const drawing = /^```\n(main\.ts [\s\S]*?)^```/m.exec(text)![1]!;
  const drawn = drawing
    .trimEnd()
    .split("\n")
    .map((line) => line.split("│")[0]!.trim().split(/ +/));
  expect(drawn).toEqual(LAYERS.map((rooms) => [...rooms]));
});

test("imports go down only", async () => {
  const wrong: string[] = [];
  for await (const file of new Glob("**/*.{ts,tsx}").scan(SOURCE)) {
    const path = join(SOURCE, file);
    const room = roomOf(path);
    for (const target of await importsOf(path)) {
      if (!target.startsWith(SOURCE)) continue;
      const other = roomOf(target);
      if (other === room) continue;
      if (layerOf(other) <= layerOf(room) || isForbidden(room, other)) {
        wrong.push(`${file} imports ${relative(SOURCE, target)}`);
      }
    }
  }
  expect(wrong).toEqual([]);
});

test("the page runs in a browser: it imports nothing but itself and what is pure", async () => {
  const wrong: string[] = [];
  for await (const file of new Glob("page/**/*.{ts,tsx}").scan(SOURCE)) {
    for (const target of await importsOf(join(SOURCE, file))) {
      const room = roomOf(target);
      if (room !== "page" && !PURE.has(room)) wrong.push(`${file} imports ${relative(SOURCE, target)}`);
    }
  }
  expect(wrong).toEqual([]);
});

test("linux, naming, address and text open nothing", async () => {
  const wrong: string[] = [];
  for await (const file of new Glob("**/*.{ts,tsx}").scan(SOURCE)) {
    if (!PURE.has(file.split("/")[0]!)) continue;
    const code = await Bun.file(join(SOURCE, file)).text();
    for (const target of await neighboursOf(join(SOURCE, file))) {
      if (!PURE.has(roomOf(target)) && target !== PURE_OF_PLATFORM)
        wrong.push(`${file} imports ${relative(SOURCE, target)}`);
    }
    for (const { path } of transpilers.ts.scanImports(code)) {
      if (!path.startsWith(".") && !PURE_MODULES.has(path)) wrong.push(`${file} imports ${path}`);
    }
    const globals = /\b(?:Bun\.|process\.|Date\.now|Math\.random|performance\.|fetch\()/.exec(
      transpilers.ts.transformSync(code),
    );
    if (globals !== null) wrong.push(`${file} uses ${globals[0]}`);
  }
  expect(wrong).toEqual([]);
});

/** All imports, those of types as well. */
async function neighboursOf(path: string): Promise<string[]> {
  const code = await Bun.file(path).text();
  return [...code.matchAll(/(?:from|import\()\s*"(\.[^"]+)"/g)].map((found) =>
    resolve(dirname(path), found[1]!),
  );
}

/** Files that import each other in a circle, each circle as the way around it. */
async function circlesOf(pattern: string): Promise<string[]> {
  const graph = new Map<string, string[]>();
  for await (const file of new Glob(pattern).scan(SOURCE)) {
    graph.set(join(SOURCE, file), await neighboursOf(join(SOURCE, file)));
  }
  const circles = new Set<string>();
  const done = new Set<string>();
  const visit = (path: string, way: readonly string[]): void => {
    const at = way.indexOf(path);
    if (at >= 0) {
      const round = way.slice(at).map((one) => relative(SOURCE, one));
      circles.add(round.toSorted().join(" ⟲ "));
      return;
    }
    if (done.has(path)) return;
    for (const next of graph.get(path) ?? []) visit(next, [...way, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return [...circles];
}

test("no file imports itself by way of others", async () => {
  expect(await circlesOf("**/*.{ts,tsx}")).toEqual([]);
});

/**
 * What lies in a backend's folder and is about more than it: what the kernel says where it lacks nf_tables, the host's
 * iptables programs, and the agent's twin, which is there whichever backend has the rules.
 */
const ABOUT_MORE: Readonly<Record<string, readonly string[]>> = {
  "nftables/refusal.ts": ["rules/read-listing.ts"],
  "nftables/twin.ts": ["agent/agent.ts"],
  "nftables/names.ts": ["agent/reconcile/nat-step.ts"],
  "iptables/program.ts": ["admission/iptables-door.ts", "cni/reference-rules.ts"],
};

test("nobody but nat/ knows a backend by its folder, or its table by its name", async () => {
  const wrong: string[] = [];
  const folder = join(SOURCE, "nat", "backends");
  const names = NAT_BACKENDS.flatMap((backend) => BACKENDS[backend].table ?? []).map(
    ({ family, table }) => new RegExp(`${family} ${table}\\b|family: "${family}", table: "${table}"`),
  );
  for await (const file of new Glob("**/*.{ts,tsx}").scan(SOURCE)) {
    if (file.startsWith("nat/backends/")) continue;
    for (const target of await importsOf(join(SOURCE, file))) {
      const inside = relative(folder, target);
      if (inside.startsWith("..") || !inside.includes("/")) continue;
      if (ABOUT_MORE[inside]?.includes(file) !== true) wrong.push(`${file} imports ${inside}`);
    }
    // Without its comments, which may say it as an example.
    const code = transpilerOf(file).transformSync(await Bun.file(join(SOURCE, file)).text());
    for (const name of names) if (name.test(code)) wrong.push(`${file} says ${name.source}`);
  }
  expect(wrong).toEqual([]);
});

test("only the platform on Bun imports bun:ffi", async () => {
  const importers: string[] = [];
  for await (const file of new Glob("**/*.{ts,tsx}").scan(SOURCE)) {
    const code = await Bun.file(join(SOURCE, file)).text();
    if (/from "bun:ffi"/.test(code)) importers.push(file);
  }
  expect(importers).toEqual(["platform/bun.ts"]);
});

test("the command line tells everything through output.ts, which knows what to spell out", async () => {
  const wrong: string[] = [];
  for await (const file of new Glob("cli/**/*.ts").scan(SOURCE)) {
    const code = transpilers.ts.transformSync(await Bun.file(join(SOURCE, file)).text());
    const past = /(?:stdout|stderr)\.write|\bconsole\.|Bun\.(?:stdout|stderr|write)|\bwriteSync\b/.exec(code);
    if (past !== null) wrong.push(`${file}: ${past[0]}`);
  }
  // byte-sink.ts writes flows by the hundred thousand; the names in them are spelled out where they are encoded.
  expect(wrong.sort()).toEqual(["cli/byte-sink.ts: writeSync", "cli/output.ts: stdout.write"]);
});
