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
const before = isRoot ? machineState() : "";
const result = runTests(process.argv.slice(2));
const changed = isRoot && machineState() !== before;
if (changed) console.log("✗ the machine's own namespace is not as it was before the tests");
// What needs the machine's real root cannot be had by an ordinary user anywhere, and a product of somebody else may be out
// of reach; all other skips are a lack of ours.
const unavoidable = (isRoot ? 0 : result.skippedForRoot) + result.skippedForProduct;
const avoidable = result.skipped - unavoidable;
if (result.skipped > 0) {
  console.log(`${result.skipped} skipped${strict ? `, of which ${avoidable} count as failed here` : ""}`);
}
const failed = result.failed + (changed ? 1 : 0) + (strict ? avoidable : 0);
console.log(`${result.passed} passed, ${failed} failed`);
process.exit(failed === 0 && result.exitCode === 0 ? 0 : 1);

/** What the tests must not change. Addresses' lifetimes and counters change by themselves and are left out. */
function machineState(): string {
  const commands = [
    ["ip", "-o", "link"],
    ["ip", "-o", "rule"],
    ["ip", "-6", "-o", "rule"],
    ["ip", "netns"],
    ["nft", "-s", "list", "ruleset"],
  ];
  const said = commands.map((command) => {
    if (Bun.which(command[0]!) === null) return "";
    return Bun.spawnSync(command, { stdout: "pipe", stderr: "ignore" }).stdout.toString();
  });
  const routes = Bun.spawnSync([
    "sh",
    "-c",
    "cat /proc/net/route; cut -d' ' -f1-5,10 /proc/net/ipv6_route",
  ]).stdout;
  const sysctls = ["net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding", "net/ipv6/conf/all/forwarding"].map(
    (name) => {
      try {
        return readFileSync(`/proc/sys/${name}`, "utf8");
      } catch {
        return "";
      }
    },
  );
  return JSON.stringify([said, routes.toString(), sysctls]);
}

interface TestResult {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Of the skipped ones, those that need root of the machine itself. */
  readonly skippedForRoot: number;
  /** Of the skipped ones, those whose product could not be fetched. */
  readonly skippedForProduct: number;
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

function readReport(path: string): Omit<TestResult, "exitCode"> {
  let xml: string;
  try {
    xml = readFileSync(path, "utf8");
  } catch {
    return { passed: 0, failed: 1, skipped: 0, skippedForRoot: 0, skippedForProduct: 0 };
  }
  const head = /<testsuites[^>]*>/.exec(xml)?.[0] ?? "";
  const number = (name: string): number => Number(new RegExp(` ${name}="(\\d+)"`).exec(head)?.[1] ?? 0);
  const failed = number("failures") + number("errors");
  const skipped = number("skipped");
  const skippedForRoot = xml.match(/<testcase name="[^"]*\[needs real-root[^>]*>\s*<skipped/g)?.length ?? 0;
  const skippedForProduct =
    xml.match(/<testcase name="[^"]*\[needs the product [^>]*>\s*<skipped/g)?.length ?? 0;
  return { passed: number("tests") - failed - skipped, failed, skipped, skippedForRoot, skippedForProduct };
}
