/** `wayout lab up --page` and a headless browser in front of it. Without the test runner, since pictures are taken with it, too. */
import { join } from "node:path";
import { chromium, type Browser, type BrowserContextOptions, type Page } from "playwright-core";

/** The checkout's, unless another one is named: what people install starts in a fraction of the time. */
const WAYOUT = process.env["WAYOUT_PROGRAM"] ?? join(import.meta.dir, "..", "..", "bin", "wayout");
/** The first look at the node, a break, a mend: on a very busy machine. How soon it is belongs to bench/page.ts. */
export const PATIENCE_MS = 60_000;

/** Faults of every part of the way, and what the page must say of them. */
export const FAULTS = [
  "pod-link-down",
  "no-default-route",
  "veth-down",
  "bridge-down",
  "bridge-address-missing",
  "forwarding-off",
  "main-rule-missing",
  "node-offline",
  "forward-policy-drop",
  "legacy-drop",
  "no-masquerade",
  "masquerade-unhooked",
] as const;

function wayout(...words: readonly string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync([WAYOUT, ...words]);
  if (exitCode !== 0) throw new Error(`wayout ${words.join(" ")}: ${stdout.toString()}${stderr.toString()}`);
  return stdout.toString();
}

export function lab(...words: readonly string[]): string {
  return wayout("lab", ...words);
}

export function inLab(namespace: string, ...command: readonly string[]): string {
  return lab("exec", namespace, "--", ...command);
}

/** Until it is closed. What the browser says on its console, or asks elsewhere for, is remembered. */
export class LabPage {
  /** What the browser's console said, errors of scripts included. */
  readonly said: string[] = [];
  /** Addresses that were asked for and are not the agent's. */
  readonly elsewhere: string[] = [];

  private constructor(
    readonly child: Bun.Subprocess<"ignore", "pipe", "inherit">,
    private browser: Browser,
    /** Lets one browser in. */
    readonly url: string,
  ) {}

  static async open(): Promise<LabPage> {
    const { child, url } = await raise("127.0.0.1:0");
    const browser = await chromium.launch({
      executablePath: Bun.which("chromium")!,
      args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
    });
    return new LabPage(child, browser, url);
  }

  /** A page of a browser of its own, that is in. */
  async page(options: BrowserContextOptions = {}, url = this.code()): Promise<Page> {
    const context = await this.browser.newContext({ viewport: { width: 1360, height: 900 }, ...options });
    context.setDefaultTimeout(PATIENCE_MS);
    const page = await context.newPage();
    page.on("console", (message) => {
      // An answer that is a refusal (of a pod that has just gone, say) is no fault of the page, which tells it.
      if (message.type() !== "log" && !message.text().startsWith("Failed to load resource"))
        this.said.push(message.text());
    });
    page.on("pageerror", (error) => this.said.push(error.message));
    page.on("request", (request) => {
      if (!request.url().startsWith(this.origin)) this.elsewhere.push(request.url());
    });
    await page.goto(url);
    return page;
  }

  get origin(): string {
    return new URL(this.url).origin;
  }

  /** Another address that lets a browser in. */
  code(): string {
    return (JSON.parse(wayout("page", "--netns", "wayout-node", "--json")) as { url: string }).url;
  }

  async close(): Promise<void> {
    await this.browser.close();
    this.child.kill("SIGTERM");
    await this.child.exited;
    lab("down");
  }
}

/** Returns when the page can be asked for. */
async function raise(listen: string) {
  const child = Bun.spawn([WAYOUT, "lab", "up", "--page", "--json", "--listen", listen], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
    env: { ...process.env, DISPLAY: undefined, WAYLAND_DISPLAY: undefined },
  });
  const { value } = await child.stdout.getReader().read();
  const { url } = JSON.parse(new TextDecoder().decode(value)) as { url: string };
  return { child, url };
}
