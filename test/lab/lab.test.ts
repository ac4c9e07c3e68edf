/** The lab as a person runs it: the command line, in throw-away namespaces of the test's own. */
import { afterEach, expect } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { namedNamespaces } from "../../src/kernel/named-namespace.ts";
import { isAlive } from "../../src/kernel/process.ts";
import { LAB_NAMESPACES } from "../../src/lab/plan.ts";
import type { StoryReport } from "../../src/lab/story.ts";
import { until } from "../support/until.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { someoneRuns } from "./own-processes.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");
const STATE = "/run/wayout/lab.json";

afterEach(() => {
  run(undefined, [WAYOUT, "lab", "down"]);
});

testWith(["root"])("the story tells the truth, and leaves nothing", () => {
  const links = ask(undefined, ["ip", "-o", "link"]);
  const told = run(undefined, [WAYOUT, "lab", "--json"]);
  const report = JSON.parse(told.stdout) as StoryReport;
  const wrong = report.chapters.flatMap((chapter) => chapter.steps.filter((step) => !step.ok));
  expect(wrong).toEqual([]);
  expect(told.exitCode).toBe(0);
  expect(report.ok).toBe(true);
  expect(report.chapters.map((chapter) => chapter.number)).toEqual(
    report.chapters.map((_, index) => index + 1),
  );
  expect(report.chapters.every((chapter) => chapter.steps.length > 0)).toBe(true);
  expect(namedNamespaces()).toEqual([]);
  expect(leftOfLab()).toEqual([]);
  expect(ask(undefined, ["ip", "-o", "link"])).toBe(links);
});

testWith(["root", "curl", "ip"])("up, exec with DNS, status, down", () => {
  const up = run(undefined, [WAYOUT, "lab", "up"]);
  expect(up).toMatchObject({ exitCode: 0 });
  const shown = ask(undefined, ["ip", "netns"]).trim().split("\n");
  expect(new Set(shown.map((line) => line.split(" ")[0]))).toEqual(new Set(LAB_NAMESPACES));
  const fetched = run(undefined, [
    WAYOUT,
    "lab",
    "exec",
    "ns-blue",
    "--",
    "curl",
    "-sS",
    "--max-time",
    "5",
    "http://api.github.com",
  ]);
  expect(fetched.stderr).toBe("");
  expect(JSON.parse(fetched.stdout)).toMatchObject({ seen: { address: "203.0.113.5" } });
  // ip netns gives the namespace its own resolver, too.
  expect(
    ask(undefined, [
      "ip",
      "netns",
      "exec",
      "ns-green",
      "curl",
      "-sS",
      "--max-time",
      "5",
      "http://api.github.com",
    ]),
  ).toContain("203.0.113.5");
  expect(run(undefined, [WAYOUT, "lab", "status"])).toMatchObject({ exitCode: 0 });
  expect(run(undefined, [WAYOUT, "lab", "exec", "ns-blue", "--", "sh", "-c", "exit 7"]).exitCode).toBe(7);
  expect(run(undefined, [WAYOUT, "lab", "down"]).exitCode).toBe(0);
  expect(namedNamespaces()).toEqual([]);
  expect(leftOfLab()).toEqual([]);
  expect(existsSync("/etc/netns/ns-blue")).toBe(false);
  expect(run(undefined, [WAYOUT, "lab", "status"]).exitCode).toBe(1);
});

testWith(["root"])("up twice is up once", () => {
  run(undefined, [WAYOUT, "lab", "up"]);
  const servers = serversOfLab();
  const again = run(undefined, [WAYOUT, "lab", "up"]);
  expect(again.exitCode).toBe(0);
  expect(again.stdout).toContain("up already");
  expect(serversOfLab()).toEqual(servers);
});

testWith(["root"])("without a way out, blue gets nowhere until both steps are done", () => {
  run(undefined, [WAYOUT, "lab", "up", "--no-way-out"]);
  expect(blueFetches(1)).not.toBe(0);
  const onNode = [WAYOUT, "lab", "exec", "wayout-node", "--", "wayout"];
  expect(run(undefined, [...onNode, "forwarding", "enable"]).exitCode).toBe(0);
  expect(blueFetches(1)).not.toBe(0);
  expect(run(undefined, [...onNode, "nat", "apply", "-f", "-"], "sources: [10.0.0.0/24]")).toMatchObject({
    exitCode: 0,
  });
  expect(blueFetches(10)).toBe(0);
});

testWith(["root"])("two at once: one builds, the other says so, and the lab is whole", async () => {
  const both = await Promise.all(
    [1, 2].map(async () => {
      const child = Bun.spawn([WAYOUT, "lab", "up"], { stdout: "pipe", stderr: "pipe" });
      return { exitCode: await child.exited, stderr: await new Response(child.stderr).text() };
    }),
  );
  for (const { exitCode, stderr } of both) {
    if (exitCode !== 0) expect(stderr).toContain("another 'wayout lab'");
  }
  expect(both.some(({ exitCode }) => exitCode === 0)).toBe(true);
  expect(run(undefined, [WAYOUT, "lab", "status"]).exitCode).toBe(0);
});

testWith(["root"])("a story that is killed leaves nothing", async () => {
  const before = ask(undefined, ["ip", "-o", "link"]);
  for (const delayMs of [150, 400, 900]) {
    const child = Bun.spawn([WAYOUT, "lab"], { stdout: "ignore", stderr: "ignore" });
    await Bun.sleep(delayMs);
    child.kill("SIGKILL");
    await child.exited;
    expect(someoneRuns()).toBe(false);
    expect(ask(undefined, ["ip", "-o", "link"])).toBe(before);
    expect(namedNamespaces()).toEqual([]);
  }
});

testWith(["root", "ip"])("a namespace of somebody else's is not touched", () => {
  ask(undefined, ["ip", "netns", "add", "ns-blue"]);
  const refused = run(undefined, [WAYOUT, "lab", "up"]);
  expect(refused.exitCode).toBe(1);
  expect(refused.stderr).toContain("ns-blue exists already");
  expect(run(undefined, [WAYOUT, "lab", "down"]).exitCode).toBe(0);
  expect(namedNamespaces()).toEqual(["ns-blue"]);
  ask(undefined, ["ip", "netns", "delete", "ns-blue"]);
});

testWith(["root"])("exec names what the lab has, and wants it up", () => {
  const down = run(undefined, [WAYOUT, "lab", "exec", "ns-blue", "--", "true"]);
  expect(down.exitCode).toBe(1);
  expect(down.stderr).toContain("the lab is not up");
  run(undefined, [WAYOUT, "lab", "up"]);
  const wrong = run(undefined, [WAYOUT, "lab", "exec", "ns-red", "--", "true"]);
  expect(wrong.exitCode).toBe(2);
  expect(wrong.stderr).toContain("ns-blue");
  const missing = run(undefined, [WAYOUT, "lab", "exec", "ns-blue", "--", "no-such-program-here"]);
  expect(missing.exitCode).toBe(2);
});

/** What the lab keeps beside the namespaces. Others of wayout have files in that directory, too. */
function leftOfLab(): string[] {
  const directory = "/run/wayout";
  return existsSync(directory) ? readdirSync(directory).filter((name) => name.startsWith("lab")) : [];
}

function serversOfLab(): { pid: number; start: number } | undefined {
  const { servers } = JSON.parse(readFileSync(STATE, "utf8")) as { servers?: { pid: number; start: number } };
  if (servers !== undefined) expect(isAlive(servers)).toBe(true);
  return servers;
}

/** The exit code of blue's curl: 0 when it was answered. @param seconds it waits: one and more where nothing shall come */
function blueFetches(seconds: number): number {
  const curl = ["curl", "-sS", "--max-time", String(seconds), "http://198.51.100.80"];
  return run(undefined, [WAYOUT, "lab", "exec", "ns-blue", "--", ...curl]).exitCode;
}

testWith(["root", "curl"])("break and mend: what a fault takes away comes back", async () => {
  run(undefined, [WAYOUT, "lab", "up"]);
  expect(blueFetches(10)).toBe(0);
  for (const fault of ["forwarding-off", "veth-down"]) {
    expect(run(undefined, [WAYOUT, "lab", "break", fault]).exitCode).toBe(0);
    expect(run(undefined, [WAYOUT, "lab", "status"]).stdout).toContain(fault);
    expect(blueFetches(2)).not.toBe(0);
  }
  const mended = run(undefined, [WAYOUT, "lab", "mend", "--json"]);
  expect(JSON.parse(mended.stdout)).toEqual({ mended: ["forwarding-off", "veth-down"] });
  // A neighbour entry that was failing while the link was down fails once more before it is asked for anew.
  await until(() => blueFetches(5) === 0, "blue gets out again");
  const unknown = run(undefined, [WAYOUT, "lab", "break", "forwarding"]);
  expect(unknown.exitCode).toBe(2);
  expect(unknown.stderr).toContain("forwarding-off");
});
