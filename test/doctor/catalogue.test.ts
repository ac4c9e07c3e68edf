/** The catalogue is the one place where findings are declared: everything else must agree with it. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CATALOGUE, causesOf, STEPS, type FindingCode } from "../../src/causes/catalogue/all.ts";
import { CHECKS } from "../../src/doctor/checks/all.ts";
import { SEEN_CAUSES } from "../../src/doctor/probe.ts";
import { findingsDocument } from "../../src/doctor/document.ts";
import { FAULTS } from "../../src/lab/faults/all.ts";

const codes = Object.keys(CATALOGUE) as FindingCode[];

test("causes are findings, and none is its own cause", () => {
  for (const code of codes) {
    for (const cause of CATALOGUE[code].dependsOn) expect(codes).toContain(cause as FindingCode);
    expect(causesOf(code).has(code)).toBe(false);
  }
});

test("every cause is declared by a check, or is one that only a packet shows", () => {
  const declared = new Set<string>(CHECKS.flatMap((check) => check.codes));
  expect(codes.filter((code) => !declared.has(code) && !SEEN_CAUSES.includes(code))).toEqual([]);
});

test("checks run in the order of the steps", () => {
  const order = Object.keys(STEPS);
  const steps = CHECKS.map((check) => order.indexOf(check.step));
  expect(steps).toEqual(steps.toSorted((a, b) => a - b));
});

test("a fault's name is unique and its finding stops the traffic", () => {
  expect(new Set(FAULTS.map((fault) => fault.name)).size).toBe(FAULTS.length);
  for (const fault of FAULTS) expect(CATALOGUE[fault.finding].stopsTraffic).toBe(true);
});

test("docs/findings.md is current", () => {
  const path = join(import.meta.dir, "..", "..", "docs", "findings.md");
  expect(readFileSync(path, "utf8")).toBe(findingsDocument());
});
