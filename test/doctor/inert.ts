/** Whether what the doctor proposes does nothing else, whatever the links, pods, tables and chains are called. */
import { expect } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { diagnose } from "../../src/doctor/diagnose.ts";
import type { Target } from "../../src/doctor/predict/path.ts";
import { PLAN } from "../../src/lab/plan.ts";
import type { Snapshot } from "../../src/snapshot/snapshot.ts";
import { isVisible } from "../../src/text/visible.ts";

/** Each would make a file, pasted without care: with nothing but what is built into a shell. */
const HOSTILE = [";:>x;#", "`:>x`$(:>x)", "';:>x;'", '";:>x;"', "a\n:>x\n", "-a;:>x", "\u202e;:>x", "*.>x"];

/** Fails when a command of this snapshot's findings, with hostile names in their places, runs anything of them. */
export function expectInert(snapshot: Snapshot, target: Target): void {
  const directory = mkdtempSync(join(tmpdir(), "wayout-inert-"));
  try {
    for (const hostile of HOSTILE) {
      const renamed = renamedTo(snapshot, hostile);
      const { findings } = diagnose(renamed, renamed.pods[0]!, target);
      const commands = findings.flatMap(({ fix }) => fix.map((one) => one.command));
      for (const line of commands) expect([line, isVisible(line)]).toEqual([line, true]);
      // No program is found: only what a shell does by itself happens.
      Bun.spawnSync(["/bin/sh", "-c", commands.map((line) => `(${line}\n)`).join("\n")], {
        cwd: directory,
        env: { PATH: "/nonexistent" },
        stderr: "ignore",
      });
      expect([commands, readdirSync(directory)]).toEqual([commands, []]);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const { pods, node } = PLAN;
const NAMES = new RegExp(
  `\\b(?:${[pods.blue.namespace, pods.green.namespace, node.bridge, node.uplink, "veth-blue", "veth-green", "eth0"].join("|")})\\b`,
  "g",
);

function renamedTo(snapshot: Snapshot, hostile: string): Snapshot {
  const copy = renamed(JSON.parse(JSON.stringify(snapshot)), hostile) as {
    node: { ruleset?: { tables: Named[] }; legacy: Named[] };
  };
  for (const table of [...(copy.node.ruleset?.tables ?? []), ...copy.node.legacy]) {
    table.name += hostile;
    for (const chain of table.chains ?? []) chain.name += hostile;
  }
  return copy as unknown as Snapshot;
}

interface Named {
  name: string;
  chains?: { name: string }[];
}

function renamed(value: unknown, hostile: string): unknown {
  const text = (old: string): string => old.replace(NAMES, () => hostile);
  if (typeof value === "string") return text(value);
  if (Array.isArray(value)) return value.map((one) => renamed(one, hostile));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [text(key), renamed(one, hostile)]));
}
