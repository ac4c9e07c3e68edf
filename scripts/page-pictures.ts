/**
 * Takes the pictures of the page that docs/page/ shows, over a real lab in a network and mount namespace of its own. Needs
 * root, Debian's chromium, cwebp, and the fonts Inter and JetBrains Mono (fonts-inter, fonts-jetbrains-mono), in which the
 * page is set where they are there. WAYOUT_PROGRAM names the program to show. `bin/bun scripts/page-pictures.ts [NAME …]`
 */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BrowserContextOptions, Page } from "playwright-core";
import { Rtnetlink } from "../src/kernel/route/rtnetlink.ts";
import { inLab, lab, LabPage } from "../test/page/lab-page.ts";
import { makePlacesPrivate, runIsolated } from "./isolation.ts";

const OUTPUT = join(import.meta.dir, "..", "docs", "page");
const INSIDE = "--inside";

interface Picture {
  readonly name: string;
  readonly fault?: string;
  readonly at?: string;
  readonly options?: BrowserContextOptions;
  /** What is done before it is taken. */
  readonly before?: (page: Page) => Promise<void>;
}

const explained = async (page: Page): Promise<void> => {
  await page.keyboard.press("b");
  await page.locator(".lines .finding").first().waitFor();
  await page.evaluate("scrollTo(0, 0)");
};

/** A checklist fits in with the picture. */
const TALL: BrowserContextOptions = { viewport: { width: 1360, height: 1240 } };

const PICTURES: readonly Picture[] = [
  { name: "healthy", before: (page) => page.locator(".flow.moving").first().waitFor() },
  {
    name: "connection",
    before: async (page) => {
      await page.locator(".flow.moving").first().dispatchEvent("click");
      await page.locator(".translation").waitFor();
    },
  },
  {
    name: "connections",
    at: "connections",
    before: (page) => page.locator(".virtual [role=rowgroup] code").first().waitFor(),
  },
  {
    name: "explain",
    at: "explain?src=ns-blue&dst=198.51.100.80&port=80",
    before: (page) => page.locator(".explained section").nth(1).waitFor(),
  },
  ...[
    "forwarding-off",
    "pod-link-down",
    "no-default-route",
    "bridge-down",
    "docker-user-drop",
    "no-masquerade",
  ].map((fault): Picture => ({ name: fault, fault, options: TALL, before: explained })),
  { name: "dark", fault: "no-masquerade", options: { ...TALL, colorScheme: "dark" }, before: explained },
  {
    name: "phone",
    fault: "forwarding-off",
    options: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true },
  },
  {
    name: "trace",
    fault: "no-masquerade",
    options: TALL,
    before: async (page) => {
      await explained(page);
      await page.keyboard.press("t");
      await page.locator(".steps .finding").first().waitFor();
      await page.evaluate("scrollTo(0, 0)");
    },
  },
  {
    name: "history",
    before: async (page) => {
      for (let presses = 0; presses < 6; presses++) {
        await page.keyboard.press("[");
        await page.waitForTimeout(1200);
        await page.locator("h1", { hasText: "could reach" }).waitFor();
        if ((await page.locator("h1").textContent())?.startsWith("0 of 2") === true) break;
      }
      await page.locator(".changed").waitFor();
    },
  },
  { name: "figures", at: "figures" },
  { name: "lab", at: "lab", before: playStory },
  {
    name: "many",
    before: (page) => page.locator("h1", { hasText: `of ${2 + MANY} pods` }).waitFor({ timeout: 120_000 }),
  },
];

const MANY = 248;

async function playStory(page: Page): Promise<void> {
  await page.getByRole("button", { name: "Play the story" }).click();
  await page.locator(".tour article").waitFor({ timeout: 60_000 });
  await page.getByRole("button", { name: "Next", exact: true }).click();
}

/** Connections that stay open: one of each pod. */
function connect(): Bun.Subprocess[] {
  return ["ns-blue", "ns-green"].map((name) =>
    Bun.spawn([
      "ip",
      "netns",
      "exec",
      name,
      "bash",
      "-c",
      "while sleep 0.1; do exec 3<>/dev/tcp/198.51.100.80/80; sleep 5; done",
    ]),
  );
}

/** Pods beside the lab's own, of which one has no way out. */
function raiseMany(): void {
  const [node, pods] = [[] as string[], [] as string[]];
  for (let number = 1; number <= MANY; number++) {
    const [name, address] = [`shop-${String(number).padStart(3, "0")}`, `10.0.0.${number + 2}`];
    pods.push(`ip netns add ${name}`);
    // Of their own, as a runtime gives it: the machine's leads nowhere from here.
    mkdirSync(`/etc/netns/${name}`, { recursive: true });
    copyFileSync("/etc/netns/ns-blue/resolv.conf", `/etc/netns/${name}/resolv.conf`);
    node.push(
      `link add v${number} type veth peer name eth0 netns ${name}`,
      `link set v${number} master br0 up`,
    );
    const route = number === 17 ? "" : `; ip -n ${name} route add default via 10.0.0.254`;
    pods.push(
      `:later ip -n ${name} addr add ${address}/24 dev eth0; ip -n ${name} link set lo up; ip -n ${name} link set eth0 up${route}`,
    );
  }
  const shell = (text: string): void => void Bun.spawnSync(["bash", "-c", text]);
  shell(pods.filter((line) => !line.startsWith(":")).join("\n"));
  Bun.spawnSync(["ip", "-n", "wayout-node", "-batch", "-"], { stdin: Buffer.from(node.join("\n")) });
  shell(pods.flatMap((line) => (line.startsWith(":later") ? [line.slice(7)] : [])).join("\n"));
}

async function take(
  world: LabPage,
  { name, fault, at = "", options, before }: Picture,
  scratch: string,
): Promise<void> {
  if (name === "many") raiseMany();
  if (fault !== undefined) lab("break", fault);
  const page = await world.page(options);
  await page.locator("main section").first().waitFor();
  // Not the one from before.
  await page.locator(".liveness.live").waitFor();
  if (fault !== undefined) await page.locator(".verdict.bad").waitFor();
  await page.goto(`${world.origin}/#/${at}`);
  await before?.(page);
  await page.waitForTimeout(1500);
  const file = join(scratch, `${name}.png`);
  await page.screenshot({ path: file });
  await page.context().close();
  Bun.spawnSync([
    "cwebp",
    "-quiet",
    "-near_lossless",
    "60",
    "-m",
    "6",
    file,
    "-o",
    join(OUTPUT, `${name}.webp`),
  ]);
  if (fault !== undefined) lab("mend");
  console.log(name);
}

async function inside(names: readonly string[]): Promise<void> {
  using route = Rtnetlink.open();
  route.setLink("lo", { up: true });
  mkdirSync(OUTPUT, { recursive: true });
  const scratch = mkdtempSync(join(tmpdir(), "wayout-pictures-"));
  const world = await LabPage.open();
  const connections = connect();
  inLab("ns-blue", "curl", "-s", "--max-time", "3", "http://api.github.com");
  try {
    for (const picture of PICTURES) {
      if (names.length === 0 || names.includes(picture.name)) await take(world, picture, scratch);
    }
    for (const said of world.said) console.log(`the console said: ${said}`);
  } finally {
    for (const one of connections) one.kill("SIGKILL");
    await world.close();
    rmSync(scratch, { recursive: true, force: true });
  }
}

const [first, ...rest] = process.argv.slice(2);
if (first === INSIDE) {
  makePlacesPrivate();
  await inside(rest);
} else {
  process.exit(runIsolated([process.execPath, import.meta.path, INSIDE, ...process.argv.slice(2)]));
}
