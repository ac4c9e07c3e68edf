/** Makes the page's files from src/page. Only the build and a run from a checkout come here. */
import { join } from "node:path";
import type { PageFiles } from "./page-files.ts";

const SOURCE = join(import.meta.dir, "..", "..", "page");
/**
 * As its makers packed it: their minifier shortens names that ours must leave alone. A file of its own, which is asked for
 * when a curve is drawn first.
 */
const PLOT = Bun.fileURLToPath(import.meta.resolve("uplot/dist/uPlot.iife.min.js"));

export async function bundlePage(): Promise<PageFiles> {
  const { outputs } = await Bun.build({
    entrypoints: [join(SOURCE, "main.tsx"), join(SOURCE, "page.css")],
    target: "browser",
    minify: true,
    sourcemap: "none",
    external: ["/plot.js"],
    // Otherwise each element says in which file and on which line it was written.
    jsx: { runtime: "automatic", importSource: "preact", development: false },
  });
  const text = async (ending: string): Promise<string> =>
    (await outputs.find(({ path, kind }) => kind !== "sourcemap" && path.endsWith(ending))?.text()) ?? "";
  const file = (name: string): Promise<string> => Bun.file(join(SOURCE, name)).text();
  return {
    "/": { type: "text/html; charset=utf-8", text: await file("page.html") },
    "/page.js": { type: "text/javascript; charset=utf-8", text: await text(".js") },
    "/plot.js": {
      type: "text/javascript; charset=utf-8",
      text: `${await Bun.file(PLOT).text()}\nexport default uPlot;`,
    },
    "/page.css": { type: "text/css; charset=utf-8", text: await text(".css") },
    "/icon.svg": { type: "image/svg+xml", text: await file("icon.svg") },
  };
}
