/**
 * Runs the benchmarks: all, or those whose name contains one of the words given. Each topic runs in a process and in
 * namespaces of its own. Exit code 1 when a benchmark failed or missed its target.
 *
 *   npm run bench -- pod-link --json
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { cpus, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { printJson } from "../src/cli/output.ts";
import { style, table } from "../src/cli/style.ts";
import { runIsolated } from "../scripts/isolation.ts";
import { verdictOf, type Outcome } from "./outcome.ts";

/** Files of this folder that are no topics. */
const MACHINERY = new Set(["benchmark.ts", "binary.ts", "outcome.ts", "run.ts", "run-inside.ts"]);

const root = join(import.meta.dir, "..");
const words = process.argv.slice(2).filter((argument) => argument !== "--json");
const json = process.argv.includes("--json");
const outcomes: Outcome[] = [];
for (const topic of topics()) outcomes.push(...runTopic(topic));
if (outcomes.length === 0) {
  console.error(
    words.length === 0 ? "There is no benchmark." : `No benchmark is called "${words.join(" ")}".`,
  );
  process.exit(2);
}
if (json) printJson({ machine: machineFacts(), benchmarks: outcomes });
else print();
process.exit(outcomes.some((outcome) => ["missed", "failed"].includes(verdictOf(outcome))) ? 1 : 0);

function topics(): string[] {
  const files = readdirSync(import.meta.dir).filter((file) => file.endsWith(".ts") && !MACHINERY.has(file));
  return files.map((file) => file.slice(0, -".ts".length)).sort();
}

function runTopic(topic: string): Outcome[] {
  const directory = mkdtempSync(join(tmpdir(), "wayout-bench-"));
  const report = join(directory, "report.json");
  try {
    const exitCode = runIsolated([
      process.execPath,
      join(root, "bench", "run-inside.ts"),
      join(root, "bench", `${topic}.ts`),
      report,
      ...words,
    ]);
    const text = readFileSync(report, { encoding: "utf8", flag: "a+" });
    const done = text === "" ? [] : (JSON.parse(text) as Outcome[]);
    if (exitCode === 0) return done;
    return [...done, { name: topic, what: "", problem: `its process ended with ${exitCode}` }];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function machineFacts(): Readonly<Record<string, string | number>> {
  const processors = cpus();
  return {
    kernel: release(),
    processor: processors[0]?.model ?? "unknown",
    processors: processors.length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    bun: Bun.version,
  };
}

function print(): void {
  const facts = machineFacts();
  console.log(
    style.quiet(
      `Linux ${facts["kernel"]}, ${facts["processors"]} × ${facts["processor"]}, ${facts["memoryGiB"]} GiB, Bun ${facts["bun"]}`,
    ),
  );
  const head = ["benchmark", "wayout p50", "p95", "reference", "p50", "p95", "ratio", "target", ""];
  console.log(`\n${table([head.map(style.strong), ...outcomes.map(row)])}`);
  for (const { name, facts = {} } of outcomes) {
    const said = Object.entries(facts).map(([key, value]) => `${key} ${value}`);
    if (said.length > 0) console.log(style.quiet(`  ${name}: ${said.join(", ")}`));
  }
  const notes = outcomes.filter((outcome) => outcome.problem !== undefined || outcome.skipped !== undefined);
  if (notes.length > 0) console.log();
  for (const { name, problem, skipped } of notes) {
    console.log(problem === undefined ? `- ${name}: ${skipped}` : `${style.bad("✗")} ${name}: ${problem}`);
  }
}

function row(outcome: Outcome): string[] {
  const { name, unit, ours, reference, ratio, target } = outcome;
  const number = (value: number | undefined): string =>
    value === undefined ? "" : `${threeDigits(value)} ${unit}`;
  return [
    name,
    number(ours?.p50),
    number(ours?.p95),
    reference?.name ?? "",
    number(reference?.p50),
    number(reference?.p95),
    ratio === undefined ? "" : `${ratio.toFixed(2)}×`,
    target === undefined ? "" : `${target.words ?? `≤ ${target.ratio}×`} ${target.of}`,
    verdictMark(outcome),
  ];
}

function threeDigits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function verdictMark(outcome: Outcome): string {
  switch (verdictOf(outcome)) {
    case "met":
      return style.good("✓ met");
    case "missed":
      return style.bad("✗ missed");
    case "failed":
      return style.bad("✗ failed");
    case "skipped":
      return style.warn("- skipped");
    case "measured":
      return "";
  }
}
