/** Each room of src/ has a page at the head of its main file, and docs/architecture.md leads there. */
import { expect, test } from "bun:test";
import { Glob } from "bun";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

const ROOT = join(import.meta.dir, "..");
const SOURCE = join(ROOT, "src");

/** Main files by room, as the table of docs/architecture.md has them. */
const PAGES = new Map(
  [
    ...readFileSync(join(ROOT, "docs", "architecture.md"), "utf8").matchAll(
      /^\| `([^`]+)` +\| \[([^\]]+)\]\(\.\.\/src\/([^)]+)\)/gm,
    ),
  ].map(([, room, name, path]) => [room!, { name: name!, path: path! }] as const),
);

function pageOf(path: string): string {
  return /^\/\*\*\n([\s\S]*?)\n \*\//.exec(readFileSync(join(SOURCE, path), "utf8"))?.[1] ?? "";
}

test("docs/architecture.md lists every room with its main file", () => {
  const rooms = readdirSync(SOURCE, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
  expect([...PAGES.keys()].toSorted()).toEqual(rooms.toSorted());
  for (const [room, { name, path }] of PAGES) expect(path).toBe(`${room}/${name}`);
});

test("each main file begins with the room's page: in, out, what it touches", () => {
  const poor = [...PAGES].flatMap(([room, { path }]) => {
    const page = pageOf(path);
    const missing = [`Room \`${room}/\`: `, "\n * In: ", "\n * Out: ", "\n * Touches: "].filter(
      (part) => !page.includes(part),
    );
    return missing.map((part) => `src/${path} lacks "${part.trim()}"`);
  });
  expect(poor).toEqual([]);
});

const transpiler = new Bun.Transpiler({ loader: "ts" });

test("a room that touches nothing imports nothing of kernel/", async () => {
  const quiet = [...PAGES].filter(([, { path }]) => / \* Touches: nothing[.:]/.test(pageOf(path)));
  expect(quiet.map(([room]) => room).toSorted()).toEqual(
    ["address", "causes", "doctor", "linux", "naming", "text"].toSorted(),
  );
  const loud: string[] = [];
  for (const [room] of quiet) {
    for await (const file of new Glob(`${room}/**/*.ts`).scan(SOURCE)) {
      const path = join(SOURCE, file);
      for (const { path: specifier } of transpiler.scanImports(await Bun.file(path).text())) {
        const imported = relative(SOURCE, resolve(dirname(path), specifier));
        if (imported.startsWith("kernel/")) loud.push(`${file} imports ${imported}`);
      }
    }
  }
  expect(loud).toEqual([]);
});
