/** The page as people have it: in a real browser, over a lab that is really broken. */
import { afterAll, beforeAll, expect } from "bun:test";
import type { Page } from "playwright-core";
import { PLAN } from "../../src/lab/plan.ts";
import type { StoryReport } from "../../src/lab/story.ts";
import { until } from "../support/until.ts";
import { able, testPage } from "./browser.ts";
import { CutConnection } from "./cut-connection.ts";
import { FAULTS, inLab, lab, LabPage, PATIENCE_MS } from "./lab-page.ts";

const { blue } = PLAN.pods;
const MOST_PRESSES = 8;
const SITE = `${PLAN.internet.httpIpv4}:80`;

let world: LabPage;
let page: Page;

beforeAll(async () => {
  if (!able) return;
  world = await LabPage.open();
  page = await world.page();
}, 180_000);

afterAll(async () => {
  if (able) await world.close();
}, 180_000);

/** A test that begins at the first view of a lab that is whole. */
function testFromStart(name: string, test: () => Promise<void>): void {
  testPage(
    name,
    async () => {
      lab("mend");
      await page.goto(`${world.origin}/#/`);
      await page.locator(".verdict.good").waitFor();
      await test();
    },
    4 * PATIENCE_MS,
  );
}

function text(selector: string, on = page): Promise<string> {
  return on.locator(selector).first().innerText();
}

testPage(
  "who is not in sees how to get in, and nothing of the node",
  async () => {
    const stranger = await world.page({}, `${world.origin}/`);
    await stranger.locator(".entrance").waitFor();
    expect(await text("main", stranger)).toContain("sudo wayout page");
    expect(await text("body", stranger)).not.toContain(blue.namespace);
    const used = world.code();
    const first = await world.page({}, used);
    await first.locator(".verdict").waitFor();
    expect(first.url()).toBe(`${world.origin}/#/`);
    const second = await world.page({}, used);
    await second.locator(".entrance").waitFor();
    expect(await text("main", second)).toContain("new one");
    for (const one of [stranger, first, second]) await one.context().close();
  },
  4 * PATIENCE_MS,
);

testFromStart("the picture is drawn from what is there", async () => {
  expect(await text("h1")).toBe("2 of 2 pods can reach the outside");
  const drawn = await page
    .locator(".picture svg")
    .innerText()
    .catch(() => page.locator(".picture svg").textContent());
  for (const there of ["ns-blue", "ns-green", "veth-blue", "br0", "10.0.0.254", "203.0.113.5", "eth0"])
    expect(drawn).toContain(there);
  inLab(PLAN.node.namespace, "ip", "address", "add", "10.0.0.253/24", "dev", "br0");
  inLab(PLAN.node.namespace, "ip", "link", "set", "veth-green", "nomaster");
  await page.locator('.face[aria-label^="ns-green, broken"]').waitFor();
  inLab(PLAN.node.namespace, "ip", "link", "set", "veth-green", "master", "br0");
  inLab(PLAN.node.namespace, "ip", "address", "del", "10.0.0.253/24", "dev", "br0");
  await page.locator(".verdict.good").waitFor();
});

testFromStart("a connection appears when a pod makes one, and a click shows its translation", async () => {
  const hold = Bun.spawn(
    [
      "ip",
      "netns",
      "exec",
      blue.namespace,
      "bash",
      "-c",
      `exec 3<>/dev/tcp/${PLAN.internet.httpIpv4}/80; sleep 60`,
    ],
    { stdout: "ignore", stderr: "ignore" },
  );
  try {
    await page.locator('.flow.moving[aria-label*="198.51.100.80:80"]').first().dispatchEvent("click");
    const shown = await text(".flow-detail .translation");
    expect(shown).toMatch(/^10\.0\.0\.1:\d+ ↔ 203\.0\.113\.5:\d+ → 198\.51\.100\.80:80$/);
    expect(await text(".flow-detail")).toContain("ns-blue");
    const moves = (on: Page): Promise<boolean> =>
      on.evaluate(
        "[...document.querySelectorAll('.flow.moving')].some((one) => one.getAnimations().length > 0)",
      );
    expect(await moves(page)).toBe(true);
    const still = await world.page({ reducedMotion: "reduce" });
    await still.locator(".flow.moving").first().waitFor();
    expect(await moves(still)).toBe(false);
    await still.context().close();
    await page.keyboard.press("Escape");
    await page.locator(".flow-detail").waitFor({ state: "detached" });
  } finally {
    hold.kill("SIGKILL");
    await hold.exited;
  }
});

testFromStart("a finding appears with its cause, and goes with it", async () => {
  inLab(PLAN.node.namespace, "sysctl", "-qw", "net.ipv4.ip_forward=0");
  const cause = page.locator(".verdict.bad .cause");
  await cause.filter({ hasText: /^net\.ipv4\.ip_forward is 0: the node forwards nothing$/ }).waitFor();
  inLab(PLAN.node.namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1");
  await page.locator(".verdict.good").waitFor();
});

testFromStart("a trace plays the nine steps, and says where it ends", async () => {
  await page.locator(".pods button", { hasText: blue.namespace }).click();
  await page.locator(".lines").waitFor();
  await page.keyboard.press("t");
  await page.locator(".steps .answer").waitFor();
  expect(await page.locator(".steps > ol > li.proven").count()).toBe(9);
  expect(await text(".steps")).toContain(`One packet to ${SITE}`);
  lab("break", "no-masquerade");
  await page.keyboard.press("t");
  await page.locator(".steps > ol > li.stopped").waitFor();
  await page.locator(".steps .finding").waitFor();
  expect(await page.locator(".steps .not-reached").count()).toBeGreaterThan(0);
});

testPage(
  "the keyboard alone leads to the cause",
  async () => {
    lab("mend");
    const known = JSON.parse(lab("break", "--list", "--json")) as { name: string; finding: string }[];
    const presses: Record<string, number> = {};
    for (const { name, finding } of known.filter((one) => (FAULTS as readonly string[]).includes(one.name))) {
      await page.goto(`${world.origin}/#/`);
      await page.locator(".verdict.good").waitFor();
      lab("break", name);
      await page.locator(".verdict.bad").waitFor();
      // Where the reader is led to: the broken step, with what is wrong, whose it is and what mends it.
      const led = page.locator(".lines > li:focus:has(.finding)", { hasText: finding });
      for (presses[name] = 1; presses[name] <= MOST_PRESSES; presses[name]++) {
        await page.keyboard.press("b");
        if (
          await led.waitFor({ timeout: PATIENCE_MS / 4 }).then(
            () => true,
            () => false,
          )
        )
          break;
      }
      expect([name, await led.innerText()]).toEqual([name, expect.stringContaining("whose")]);
      await page.keyboard.press("Escape");
      lab("mend");
    }
    expect(Object.keys(presses)).toHaveLength(FAULTS.length);
    expect(Math.max(...Object.values(presses))).toBeLessThanOrEqual(MOST_PRESSES);
  },
  12 * PATIENCE_MS,
);

testFromStart("where only a real packet finds it, two keys send one", async () => {
  const known = JSON.parse(lab("break", "--list", "--json")) as { name: string; finding: string }[];
  for (const fault of ["pod-firewall", "blackhole-in-pod"]) {
    const { finding } = known.find(({ name }) => name === fault)!;
    lab("break", fault);
    await page.reload();
    await page.locator(".pods li").first().waitFor();
    await page.keyboard.press("b");
    await page.locator(".lines").waitFor();
    await page.keyboard.press("t");
    await page.locator(".steps .finding").waitFor();
    expect(await text(".steps .finding .code")).toBe(finding);
    await page.keyboard.press("Escape");
    lab("mend");
  }
});

testFromStart("the past on the slider is what the journal says", async () => {
  const entered = (await page.context().cookies())[0]!;
  const ask = async <T>(path: string): Promise<T> =>
    (await (
      await fetch(`${world.origin}${path}`, { headers: { cookie: `${entered.name}=${entered.value}` } })
    ).json()) as T;
  const looks = async (): Promise<string[]> =>
    (await ask<{ kind: string; at: string; text: string }[]>("/v1/history"))
      .filter(({ kind }) => kind === "way-out")
      .map((one) => `${one.at} ${one.text}`);
  const known = (await looks()).length;
  lab("break", "no-masquerade");
  while ((await looks()).length === known) await Bun.sleep(200);
  // After many changes a picture is kept every ten seconds only.
  const lately = (): string => encodeURIComponent(new Date().toISOString());
  await until(
    async () => !(await ask<{ healthy: boolean }>(`/v1/doctor?at=${lately()}`)).healthy,
    "the broken node is in the journal",
  );
  lab("mend");
  while ((await looks()).length === known + 1) await Bun.sleep(200);
  await page.locator(".verdict.good").waitFor();
  // Until another moment's picture is there, nothing is said of that moment by the one that still stands.
  const isThere = Promise.withResolvers<void>();
  await page.route(/\/v1\/picture\?.*at=/, async (route) => {
    await isThere.promise;
    await route.continue();
  });
  await page.keyboard.press("[");
  await page.locator("h1", { hasText: "Reading how the node was at" }).waitFor();
  isThere.resolve();
  await page.locator("h1", { hasText: "could reach" }).waitFor();
  await page.unrouteAll({ behavior: "wait" });
  await page.keyboard.press("Escape");
  await page.locator("h1", { hasText: "2 of 2 pods can" }).waitFor();
  // Back to the mending, and to what was before it.
  for (let presses = 0; presses < MOST_PRESSES; presses++) {
    await page.keyboard.press("[");
    await page.waitForTimeout(300);
    if (
      await page
        .locator("h1", { hasText: "0 of 2 pods could" })
        .waitFor({ timeout: 4000 })
        .then(
          () => true,
          () => false,
        )
    )
      break;
  }
  expect(await text("h1")).toBe("0 of 2 pods could reach the outside");
  const at = new URLSearchParams(page.url().split("?")[1]).get("at")!;
  const told = await ask<{ healthy: boolean; groups: { finding: { text: string } }[] }>(
    `/v1/doctor?at=${at}`,
  );
  expect(await text(".verdict .cause")).toBe(told.groups[0]!.finding.text);
  expect(await text(".changed")).toContain("The agent took this picture");
  await page.keyboard.press("Escape");
  await page.locator("h1", { hasText: "2 of 2 pods can" }).waitFor();
});

testFromStart("after a reconnect nothing is missing and nothing is there twice", async () => {
  const line = await CutConnection.to(Number(new URL(world.origin).port));
  const code = world.code().replace(world.origin, `http://127.0.0.1:${line.port}`);
  const own = await world.page({}, code);
  await own.locator(".liveness.live").waitFor();
  await own.evaluate("location.hash = '#/history'");
  const change = (name: string): void => {
    inLab(PLAN.node.namespace, "nft", "add", "table", "inet", name);
    inLab(PLAN.node.namespace, "nft", "delete", "table", "inet", name);
  };
  const rows = async (): Promise<number> =>
    Number(await own.locator(".virtual").getAttribute("aria-rowcount"));
  change("before");
  line.cut();
  await own.locator(".liveness.lost").waitFor();
  change("missed");
  line.mend();
  await own.locator(".liveness.live").waitFor();
  change("after");
  const journal = (): Promise<number> =>
    own.evaluate("fetch('/v1/history').then((answer) => answer.json()).then((events) => events.length)");
  for (let attempt = 0; attempt < 50 && (await rows()) < (await journal()); attempt++) await Bun.sleep(100);
  expect(await rows()).toBe(await journal());
  await own.context().close();
  line.close();
  // That the line was cut is told by every browser, and by the guard against what is asked for elsewhere.
  world.said.splice(0, world.said.length, ...world.said.filter((told) => !told.includes("net::ERR_")));
  world.elsewhere.splice(
    0,
    world.elsewhere.length,
    ...world.elsewhere.filter((url) => !url.includes(`:${line.port}/`)),
  );
});

testFromStart(
  "the connection table comes page by page, and its filters stand in the address bar",
  async () => {
    const [first, last] = [2000, 2349];
    const timeout = "net.netfilter.nf_conntrack_udp_timeout";
    inLab(PLAN.node.namespace, "sysctl", "-qw", `${timeout}=600`);
    const send = `for port in $(seq ${first} ${last}); do echo > /dev/udp/${PLAN.internet.httpIpv4}/$port; done`;
    inLab(blue.namespace, "bash", "-c", send);
    const offsets = new Set<string>();
    page.on("request", (request) => {
      const { pathname, searchParams } = new URL(request.url());
      if (pathname === "/v1/flows" && searchParams.has("dport")) offsets.add(searchParams.get("offset")!);
    });
    await page.goto(`${world.origin}/#/connections?proto=udp&dport=${first}-${last}`);
    const status = page.locator(".connections [role=status]");
    await status.getByText("and more").waitFor();
    const drawn = page.locator(".virtual [role=rowgroup] > [role=row]");
    await drawn.nth(10).waitFor();
    await page.locator(".virtual").focus();
    for (
      let presses = 0;
      presses < MOST_PRESSES && (await status.innerText()) !== "350 connections";
      presses++
    ) {
      await page.keyboard.press("End");
      await page.waitForTimeout(1500);
    }
    expect(await status.innerText()).toBe("350 connections");
    expect([...offsets].toSorted()).toEqual(["0", "100", "200", "300"]);
    // What there is room for is drawn; of 350 only what is seen is in the document.
    expect(await drawn.count()).toBeLessThan(100);
    await page.getByLabel("Port").fill(String(first + 5));
    await status.getByText("1 connection", { exact: true }).waitFor();
    expect(new URLSearchParams(page.url().split("?")[1]).get("dport")).toBe(String(first + 5));
    expect(await text(".virtual [role=rowgroup]")).toContain(`:${first + 5}`);
    inLab(PLAN.node.namespace, "sysctl", "-qw", `${timeout}=30`);
  },
);

testFromStart(
  "the story is a guided tour: each step with its command, what should happen and what did",
  async () => {
    await page.goto(`${world.origin}/#/lab`);
    const answer = page.waitForResponse((one) => new URL(one.url()).pathname === "/v1/lab/story");
    await page.getByRole("button", { name: "Play the story" }).focus();
    await page.keyboard.press("Enter");
    const { chapters } = (await (await answer).json()) as StoryReport;
    expect(chapters.length).toBeGreaterThan(5);
    const [back, next] = ["Back", "Next"].map((name) => page.getByRole("button", { name, exact: true }));
    for (const [index, { number, title, intro, steps }] of chapters.entries()) {
      const heading = page.getByRole("heading", { name: `${number}. ${title}`, exact: true });
      await heading.waitFor();
      // Who turns the page by a key hears of the new one.
      if (index > 0) await page.locator(":focus", { hasText: title }).waitFor();
      expect(await text(".tour article")).toContain(intro);
      const told = await page.locator(".tour li").evaluateAll((items): unknown[] =>
        items.map((item) => ({
          command: item.querySelector(".shell code")!.textContent,
          told: [...item.querySelectorAll("dd")].map((one) => one.textContent),
          sign: item.querySelector("[role=img]")!.getAttribute("aria-label"),
        })),
      );
      expect(told).toEqual(
        steps.map(({ command, expected, found, ok }) => ({
          command,
          told: [expected, found],
          sign: ok ? "in order" : "broken",
        })),
      );
      expect([await back!.isEnabled(), await next!.isEnabled()]).toEqual([
        index > 0,
        index < chapters.length - 1,
      ]);
      if (index === chapters.length - 1) break;
      await next!.focus();
      await page.keyboard.press("Enter");
    }
    expect(new URLSearchParams(page.url().split("?")[1]).get("chapter")).toBe(String(chapters.length));
    // What was played is this lab's own story, and it left the lab as it was.
    expect(chapters.every(({ steps }) => steps.every(({ ok }) => ok))).toBe(true);
    await page.goto(`${world.origin}/#/`);
    await page.locator(".verdict.good").waitFor();
  },
);

testFromStart("what others wrote is shown, and never run", async () => {
  const mark = "<img src=x onerror=\"document.title='run'\">";
  const turned = "\u202eevil\u001b[31m";
  const names = [mark, turned].map((name) => name.replaceAll("/", ""));
  try {
    for (const [index, name] of names.entries()) {
      const veth = `hostile${index}`;
      Bun.spawnSync(["ip", "netns", "add", name]);
      inLab(
        PLAN.node.namespace,
        "ip",
        "link",
        "add",
        veth,
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        name,
      );
      inLab(PLAN.node.namespace, "ip", "link", "set", veth, "master", "br0", "up");
      for (const line of [
        `address add 10.0.0.${20 + index}/24 dev eth0`,
        "link set eth0 up",
        "route add default via 10.0.0.254",
      ])
        Bun.spawnSync(["ip", "-n", name, ...line.split(" ")]);
    }
    await page.locator("h1", { hasText: "of 4 pods" }).waitFor();
    const listed = await page.locator(".pods .name").allInnerTexts();
    expect(listed).toContain(mark);
    expect(listed).toContain("\\u202eevil\\x1b[31m");
    for (const name of [mark, "\\u202eevil\\x1b[31m"]) {
      await page.locator(".pods button", { has: page.getByText(name, { exact: true }) }).click();
      await page.locator(".lines").waitFor();
      expect(await text(".checklist h2")).toBe(name);
    }
    const long = encodeURIComponent(`${mark}${"<b>x</b>".repeat(1250)}`);
    for (const place of [
      `?pod=${long}`,
      `?search=${long}`,
      `history?search=${long}`,
      `connections?search=${long}`,
    ]) {
      await page.goto(`${world.origin}/#/${place}`);
      await page.locator("main section").first().waitFor();
    }
    expect(await page.title()).toBe("wayout");
    expect(await page.locator("img, b").count()).toBe(0);
  } finally {
    for (const name of names) Bun.spawnSync(["ip", "netns", "delete", name]);
  }
});

testPage("nothing was wrong in the browser, and nothing was asked for elsewhere", () => {
  expect(world.said).toEqual([]);
  expect(world.elsewhere).toEqual([]);
});
