/** What the page costs: the browser that shows it, the wire, and the agent behind it. Promises, not peers. */
import { gzipSync } from "node:zlib";
import { chromium, type Browser, type CDPSession, type Page } from "playwright-core";
import { pageFiles } from "../src/agent/page/files.ts";
import { prepareNode, run, RunningAgent } from "./agent.ts";
import type { Benchmark, BenchmarkContext, Measurement } from "./benchmark.ts";
import { BINARY, buildBinary } from "./binary.ts";
import { fillTable } from "./conntrack.ts";

const PODS = 250;
/** Pods that have a connection, so that something moves. */
const TALKING = 40;
const MINUTE_MS = 60_000;
const BROWSER_MS = 2_000;
const NEEDS = ["real-root", "ip", "nft", "conntrack", "chromium"];
const BEYOND = `with ${PODS} pods and a table of 240 000 flows`;
const TARGET = (of: string) => ({ ratio: 1, of });

export const benchmarks: readonly Benchmark[] = [
  {
    name: "page/code",
    what: "the page's files, packed as they are sent",
    target: TARGET("60 kB"),
    run: codeRow,
  },
  {
    name: "page/first-paint",
    what: `from the request for the page until the picture is painted, ${BEYOND}`,
    target: TARGET("300 ms"),
    needs: NEEDS,
    run: paintRow,
  },
  {
    name: "page/first-view",
    what: `bytes that came over the wire in the first two seconds of a view, ${BEYOND}`,
    target: TARGET("1 MB"),
    needs: NEEDS,
    run: bytesRow,
  },
  {
    name: "page/frames",
    what: `the longest piece of work between two frames during a minute, ${BEYOND}`,
    target: TARGET("50 ms"),
    needs: NEEDS,
    run: framesRow,
  },
  {
    name: "page/finding",
    what: "from a fault's cause until the page tells it, and from its end until it is gone: the slowest of twelve faults of a lab",
    target: TARGET("2 s"),
    needs: NEEDS,
    run: findingRow,
  },
  {
    name: "page/agent",
    what: `processor time of the agent and what it asks of itself while a page is open, as milliseconds a second, ${BEYOND}`,
    target: TARGET("2 % of a core"),
    needs: NEEDS,
    run: agentRow,
  },
];

async function codeRow(): Promise<Measurement> {
  const files = await pageFiles();
  const packed = Object.values(files).map(({ text }) => gzipSync(text, { level: 9 }).length);
  const bytes = packed.reduce((sum, size) => sum + size, 0);
  return {
    unit: "MB",
    ours: { name: "wayout", values: [bytes / 1e6] },
    reference: { name: "60 kB", values: [0.06] },
    facts: { bytes },
  };
}

/** The node of the promises, its agent, and a browser that is in. Made once for all rows. */
class World {
  static #made: Promise<World> | undefined;

  private constructor(
    readonly agent: RunningAgent,
    readonly browser: Browser,
    readonly origin: string,
    private readonly cookies: Awaited<ReturnType<ReturnType<Page["context"]>["cookies"]>>,
  ) {}

  static get(): Promise<World> {
    return (this.#made ??= this.#make());
  }

  static async #make(): Promise<World> {
    prepareNode();
    raiseOutside();
    for (let pod = 0; pod < PODS; pod++) run([BINARY, "attach", `page-${pod}`, "--create"]);
    fillTable();
    for (let pod = 0; pod < TALKING; pod++) talk(`page-${pod}`);
    const agent = await RunningAgent.start("--listen", "127.0.0.1:7070");
    // Until it has looked at the node for the first time.
    await fetch("http://agent/v1/picture?age=999999", { unix: agent.socket }).then((answer) => answer.text());
    const browser = await chromium.launch({
      executablePath: Bun.which("chromium")!,
      args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
    });
    const first = await browser.newContext();
    const page = await first.newPage();
    const { url } = JSON.parse(Bun.spawnSync([BINARY, "page", "--json"]).stdout.toString()) as {
      url: string;
    };
    await page.goto(url);
    await page.locator(".verdict").waitFor({ timeout: MINUTE_MS });
    const cookies = await first.cookies();
    await first.close();
    return new World(agent, browser, new URL(url).origin, cookies);
  }

  /** A browser that was in before, and has nothing in its cache. */
  async page(): Promise<Page> {
    const context = await this.browser.newContext({ viewport: { width: 1360, height: 900 } });
    await context.addCookies(this.cookies);
    const page = await context.newPage();
    page.setDefaultTimeout(MINUTE_MS);
    await page.addInitScript(WATCH);
    // The browser opens a page of its own first, which takes more of its time than ours.
    await Bun.sleep(BROWSER_MS);
    return page;
  }
}

/** A router that answers for itself: without one nobody would have a way out, and nothing would move. */
function raiseOutside(): void {
  run(["ip", "netns", "add", "outside"]);
  run(["ip", "link", "set", "out0", "netns", "outside"]);
  run(["ip", "-n", "outside", "address", "add", "203.0.113.1/24", "dev", "out0"]);
  run(["ip", "-n", "outside", "link", "set", "out0", "up"]);
}

/** An entry of the pod's own in the table, which nobody answers. */
function talk(pod: string): void {
  run(["ip", "netns", "exec", pod, "bash", "-c", "echo > /dev/udp/198.51.100.80/53"]);
}

/** In the browser: when the picture was first painted, and how long the longest piece of work took since it was asked. */
const WATCH = `
globalThis.painted = new Promise((resolve) => {
  const seen = () => document.querySelector(".picture svg .box") !== null && document.querySelector(".verdict h1") !== null;
  const watch = new MutationObserver(() => {
    if (!seen()) return;
    watch.disconnect();
    // The frame after the one that is being made: then it has been painted.
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now())));
  });
  watch.observe(document, { childList: true, subtree: true });
});
globalThis.worst = { work: 0, frame: 0, frames: 0 };
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) worst.work = Math.max(worst.work, duration);
}).observe({ type: "long-animation-frame", buffered: true });
let last = performance.now();
const tick = (now) => {
  worst.frame = Math.max(worst.frame, now - last);
  worst.frames++;
  last = now;
  requestAnimationFrame(tick);
};
requestAnimationFrame(tick);
`;

async function paintRow(context: BenchmarkContext): Promise<Measurement> {
  const world = await World.get();
  const values: number[] = [];
  const works: number[] = [];
  for (let round = 0; round < 9; round++) {
    const page = await world.page();
    const work = await page.context().newCDPSession(page);
    await work.send("Performance.enable", { timeDomain: "threadTicks" });
    const before = await workMs(work);
    await page.goto(`${world.origin}/#/`, { waitUntil: "commit" });
    values.push(await page.evaluate<number>("painted"));
    works.push((await workMs(work)) - before);
    await page.context().close();
    await Bun.sleep(1000);
  }
  return {
    unit: "ms",
    ours: { name: "wayout", values },
    reference: context.budget("300 ms", 300),
    // What it took of the page's own thread, which other programs on the machine change less.
    facts: { threadMs: works.toSorted((a, b) => a - b)[works.length >> 1]! },
  };
}

/** The processor time of the page's thread. */
async function workMs(work: CDPSession): Promise<number> {
  const { metrics } = await work.send("Performance.getMetrics");
  return Math.round((metrics.find(({ name }) => name === "TaskDuration")?.value ?? 0) * 1000);
}

async function bytesRow(): Promise<Measurement> {
  const world = await World.get();
  const page = await world.page();
  const wire = await page.context().newCDPSession(page);
  await wire.send("Network.enable");
  let bytes = 0;
  wire.on("Network.dataReceived", ({ encodedDataLength }) => (bytes += encodedDataLength));
  await page.goto(`${world.origin}/#/`);
  await page.evaluate("painted");
  await Bun.sleep(2000);
  await page.context().close();
  return {
    unit: "MB",
    ours: { name: "wayout", values: [bytes / 1e6] },
    reference: { name: "1 MB", values: [1] },
    facts: { bytes },
  };
}

/** Each fault is made and undone by a process, whose end is when the clock starts. */
async function findingRow(context: BenchmarkContext): Promise<Measurement> {
  buildBinary();
  run(["ip", "link", "set", "lo", "up"]);
  process.env["WAYOUT_PROGRAM"] = BINARY;
  const { FAULTS, lab, LabPage } = await import("../test/page/lab-page.ts");
  const world = await LabPage.open();
  const page = await world.page();
  const until = async (verdict: "good" | "bad"): Promise<number> => {
    const began = performance.now();
    await page.locator(`.verdict.${verdict}`).waitFor({ timeout: MINUTE_MS });
    return performance.now() - began;
  };
  await until("good");
  const told: { readonly what: string; readonly ms: number }[] = [];
  for (const fault of FAULTS) {
    lab("break", fault);
    told.push({ what: fault, ms: await until("bad") });
    lab("mend");
    told.push({ what: `${fault} mended`, ms: await until("good") });
  }
  await world.close();
  const inOrder = told.toSorted((a, b) => a.ms - b.ms);
  const [middle, slowest] = [inOrder[told.length >> 1]!, inOrder.at(-1)!];
  return {
    unit: "ms",
    ours: { name: "wayout", values: [slowest.ms] },
    reference: context.budget("2 s", 2000),
    facts: { slowest: slowest.what, p50Ms: Math.round(middle.ms) },
  };
}

/** A page that has been open for a while, whose picture moves, and which goes on asking. */
async function framesRow(context: BenchmarkContext): Promise<Measurement> {
  const world = await World.get();
  const page = await world.page();
  await page.goto(`${world.origin}/#/`);
  await page.evaluate("painted");
  // The table is read when the picture is there: then something moves.
  await page.locator(".flow.moving").first().waitFor({ timeout: MINUTE_MS });
  await Bun.sleep(3000);
  await page.evaluate("Object.assign(worst, { work: 0, frame: 0, frames: 0 })");
  await Bun.sleep(MINUTE_MS);
  const { work, frame, frames } = await page.evaluate<Record<"work" | "frame" | "frames", number>>("worst");
  const moving = await page.locator(".flow.moving").count();
  await page.context().close();
  return {
    unit: "ms",
    // The browser tells of nothing shorter than 50 ms.
    ours: { name: "wayout", values: [Math.max(work, 1)] },
    reference: context.budget("50 ms", 50),
    facts: { moving, frames, longestBetweenFramesMs: Math.round(frame) },
  };
}

async function agentRow(context: BenchmarkContext): Promise<Measurement> {
  const world = await World.get();
  const page = await world.page();
  await page.goto(`${world.origin}/#/`);
  await page.evaluate("painted");
  // What was saved up for changes is spent on the beginning.
  await Bun.sleep(30_000);
  const values: number[] = [];
  for (let sample = 0; sample < 2; sample++) {
    const before = world.agent.cpuMs();
    await Bun.sleep(MINUTE_MS);
    values.push((world.agent.cpuMs() - before) / (MINUTE_MS / 1000));
  }
  await page.context().close();
  return { unit: "ms", ours: { name: "wayout", values }, reference: context.budget("2 % of a core", 20) };
}
