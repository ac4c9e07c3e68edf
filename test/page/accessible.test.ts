/** The page for other eyes, other hands, other screens: what axe-core finds in each, and that nothing is cut off. */
import { afterAll, beforeAll, expect } from "bun:test";
import type { BrowserContextOptions, Page } from "playwright-core";
import { able, testPage } from "./browser.ts";
import { lab, LabPage, PATIENCE_MS } from "./lab-page.ts";

const AXE = Bun.fileURLToPath(import.meta.resolve("axe-core/axe.min.js"));
const PLACES = [
  "#/",
  "#/?pod=ns-blue",
  "#/connections",
  "#/history",
  "#/explain?src=ns-blue&dst=198.51.100.80",
  "#/figures",
  "#/lab",
];
const EYES: Readonly<Record<string, BrowserContextOptions>> = {
  light: { colorScheme: "light" },
  dark: { colorScheme: "dark" },
  "forced colours": { forcedColors: "active" },
  phone: { viewport: { width: 360, height: 740 }, hasTouch: true },
  "200 % zoom": { viewport: { width: 640, height: 450 }, deviceScaleFactor: 2 },
  "no movement": { reducedMotion: "reduce" },
};

let world: LabPage;

beforeAll(async () => {
  if (!able) return;
  world = await LabPage.open();
  lab("break", "forwarding-off");
}, 180_000);

afterAll(async () => {
  if (able) await world.close();
}, 180_000);

interface Violation {
  readonly id: string;
  readonly impact: string;
  readonly nodes: readonly { readonly html: string; readonly failureSummary: string }[];
}

async function violations(page: Page): Promise<string[]> {
  const { violations: found } = await page.evaluate<{ violations: Violation[] }>("axe.run(document)");
  return found
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(
      ({ id, nodes }) => `${id}: ${nodes[0]!.html.slice(0, 200)} ${nodes[0]!.failureSummary.slice(0, 300)}`,
    );
}

for (const [name, options] of Object.entries(EYES)) {
  testPage(
    `nothing is in the way: ${name}`,
    async () => {
      const page = await world.page({ ...options, bypassCSP: true });
      await page.locator(".verdict.bad").waitFor();
      await page.evaluate(await Bun.file(AXE).text());
      const wrong: string[] = [];
      for (const place of PLACES) {
        await page.evaluate(`location.hash = ${JSON.stringify(place)}`);
        await page.locator("main section").first().waitFor();
        await page.waitForTimeout(700);
        for (const one of await violations(page)) wrong.push(`${place}: ${one}`);
        const beyond = await page.evaluate<number>("document.documentElement.scrollWidth - innerWidth");
        if (beyond > 0) wrong.push(`${place}: ${beyond} pixels are beyond the edge`);
      }
      await page.context().close();
      expect(wrong).toEqual([]);
    },
    6 * PATIENCE_MS,
  );
}
