/**
 * Runs the tests (all, or the paths given) in a network and mount namespace of their own, so that nothing they do
 * can reach the machine's. As root it first installs the witness programs it lacks (witnesses.ts); as an ordinary user it enters a
 * user namespace, and tests whose witnesses are missing are skipped. CI=true turns a skip into a failure.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runIsolated } from "./isolation.ts";
import { fetchProducts } from "./products.ts";
import { installWitnesses } from "./witnesses.ts";

const root = join(import.meta.dir, "..");
const isRoot = process.getuid!() === 0;
const strict = process.env["CI"] === "true";

installWitnesses();
if (isRoot) fetchProducts();
const before = isRoot ? machineState() : [];
const result = runTests(process.argv.slice(2));
const failed = [...result.failed];
const changed = differences(before, isRoot ? machineState() : []);
if (changed.length > 0) {
  failed.push(
    `the machine's own namespace is not as it was before the tests: ${changed.slice(0, 10).join("; ")}`,
  );
}
// What needs the machine's real root cannot be had by an ordinary user anywhere, and a product of somebody else may be out
// of reach; all other skips are a lack of ours.
const unavoidable = isRoot ? /\[needs the product / : /\[needs (the product |real-root)/;
const avoidable = result.skipped.filter((test) => !unavoidable.test(test));
if (result.skipped.length > 0) {
  const counted = strict ? `, of which ${avoidable.length} count as failed here` : "";
  console.log(`${result.skipped.length} skipped${counted}`);
}
if (strict) failed.push(...avoidable.map((test) => `${test}: skipped`));
if (result.exitCode !== 0 && failed.length === 0) failed.push(`the tests ended with code ${result.exitCode}`);
// The last lines are all that some machines keep of a run: they name what failed.
for (const test of failed) console.log(`✗ failed: ${test}`);
console.log(`${result.passed} passed, ${failed.length} failed`);
process.exit(failed.length === 0 ? 0 : 1);

/** What the tests must not change, line by line. Addresses' lifetimes and counters change by themselves and are left out. */
function machineState(): readonly string[] {
  const commands = [
    ["ip", "-o", "link"],
    ["ip", "-o", "rule"],
    ["ip", "-6", "-o", "rule"],
    ["ip", "netns"],
    ["nft", "-s", "list", "ruleset"],
    ["sh", "-c", "cat /proc/net/route; cut -d' ' -f1-5,10 /proc/net/ipv6_route"],
    [
      "sh",
      "-c",
      "grep . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all/forwarding /proc/sys/net/ipv6/conf/all/forwarding",
    ],
  ];
  return commands.flatMap((command) => {
    if (Bun.which(command[0]!) === null) return [];
    const said = Bun.spawnSync(command, { stdout: "pipe", stderr: "ignore" }).stdout.toString();
    return said.split("\n").map((line) => `${command.slice(0, 2).join(" ")}: ${line}`);
  });
}

/** Lines that one has and the other has not. */
function differences(before: readonly string[], after: readonly string[]): string[] {
  return [
    ...before.filter((line) => !after.includes(line)).map((line) => `gone: ${line}`),
    ...after.filter((line) => !before.includes(line)).map((line) => `new: ${line}`),
  ];
}

interface TestResult {
  readonly passed: number;
  /** What failed, and what was skipped, each as `FILE:LINE NAME`; a run without a report is one failure. */
  readonly failed: readonly string[];
  readonly skipped: readonly string[];
  readonly exitCode: number;
}

function runTests(paths: readonly string[]): TestResult {
  const directory = mkdtempSync(join(tmpdir(), "wayout-test-"));
  const report = join(directory, "report.xml");
  // What a test leaves there goes with it, however the test ends.
  process.env["TMPDIR"] = directory;
  try {
    const exitCode = runIsolated([
      process.execPath,
      join(root, "scripts", "test-inside.ts"),
      report,
      ...paths,
    ]);
    return { ...readReport(report), exitCode };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Reads the JUnit report of `bun test`: one `testcase` a test, with a `failure`, `error` or `skipped` inside. */
function readReport(path: string): Omit<TestResult, "exitCode"> {
  let xml: string;
  try {
    xml = readFileSync(path, "utf8");
  } catch {
    return { passed: 0, failed: ["the tests ended without a report"], skipped: [] };
  }
  const failed: string[] = [];
  const skipped: string[] = [];
  const outcome =
    /<testcase name="([^"]*)"[^>]* file="([^"]*)" line="(\d+)"[^>]*[^/]>\s*<(failure|error|skipped)\b/g;
  for (const [, name, file, line, kind] of xml.matchAll(outcome)) {
    (kind === "skipped" ? skipped : failed).push(`${file}:${line} ${fromXml(name!)}`);
  }
  const counted = (what: string): number =>
    Number(new RegExp(`<testsuites[^>]* ${what}="(\\d+)"`).exec(xml)?.[1] ?? 0);
  // A file that could not be loaded is counted and has no test of its own.
  const unnamed = counted("failures") + counted("errors") - failed.length;
  for (let one = 0; one < unnamed; one++) failed.push("a failure outside of any test: see above");
  return { passed: counted("tests") - failed.length - skipped.length, failed, skipped };
}

/** Text of an XML attribute, as it was before it was written there. */
function fromXml(text: string): string {
  const entities: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
  return text
    .replaceAll(/&#(\d+);/g, (_, code: string) => String.fromCodePoint(Number(code)))
    .replaceAll(/&(lt|gt|quot|apos|amp);/g, (_, entity: string) => entities[entity]!);
}
