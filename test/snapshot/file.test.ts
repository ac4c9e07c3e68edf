/** Snapshot files: what is whole is read back the same, and what is not says what is wrong with it. */
import { expect, test } from "bun:test";
import { diagnose } from "../../src/doctor/diagnose.ts";
import { WayoutError } from "../../src/error.ts";
import { parseSnapshot } from "../../src/snapshot/file.ts";
import {
  SNAPSHOT_FORMAT,
  SNAPSHOT_VERSION,
  type NamespaceState,
  type Snapshot,
} from "../../src/snapshot/snapshot.ts";

const EMPTY: NamespaceState = {
  inode: 1,
  links: [],
  addresses: [],
  routes: [],
  rules: [0, 32766].map((priority) => ({
    family: 4 as const,
    priority,
    action: "table" as const,
    table: priority === 0 ? 255 : 254,
    protocol: "kernel" as const,
    flags: [],
  })),
  ruleset: { generation: 1, tables: [] },
  neighbours: [],
  offloads: {},
  sysctls: {},
  legacy: [],
  ipsets: [],
  counters: [],
  programs: [],
  routeAnswers: [],
};

function snapshot(change: Record<string, unknown> = {}): Snapshot & Record<string, unknown> {
  return {
    format: SNAPSHOT_FORMAT,
    version: SNAPSHOT_VERSION,
    wayout: "0.1.0",
    takenAt: "2026-01-01T00:00:00.000Z",
    kernelRelease: "6.18.0",
    node: EMPTY,
    pods: [{ name: "gone", aliases: [], source: "netns" }],
    files: [],
    missing: [{ where: "gone", what: "namespace", why: "ENOENT: no such file or directory" }],
    ...change,
  };
}

function refusal(text: string): WayoutError {
  try {
    parseSnapshot(text, "node.json");
  } catch (error) {
    if (error instanceof WayoutError) return error;
    throw error;
  }
  throw new Error("it was taken for a snapshot");
}

test("a snapshot is read back as it was written", () => {
  const written = snapshot();
  expect(parseSnapshot(JSON.stringify(written), "node.json")).toEqual(written);
});

test("a mark of the byte order in front of it is no part of it", () => {
  const whole = snapshot();
  expect(parseSnapshot(`\ufeff${JSON.stringify(whole)}`, "node.json")).toEqual(whole);
});

test("a truncated file", () => {
  const text = JSON.stringify(snapshot());
  for (const length of [0, 1, text.length >> 1, text.length - 1]) {
    const error = refusal(text.slice(0, length));
    expect(error.code).toBe("truncated-snapshot");
    expect(error.kind).toBe("usage");
    expect(error.message).toContain(`${length} bytes`);
  }
});

test("a newer and an older version", () => {
  expect(
    refusal(JSON.stringify(snapshot({ version: SNAPSHOT_VERSION + 1, wayout: "9.0.0" }))).message,
  ).toContain("wayout 9.0.0");
  expect(refusal(JSON.stringify(snapshot({ version: SNAPSHOT_VERSION + 1 }))).code).toBe("newer-snapshot");
  expect(refusal(JSON.stringify(snapshot({ version: 0 }))).code).toBe("older-snapshot");
  expect(refusal(JSON.stringify(snapshot({ version: "1" }))).code).toBe("older-snapshot");
});

test("something else", () => {
  expect(refusal("{}").code).toBe("foreign-snapshot");
  expect(refusal("null").code).toBe("foreign-snapshot");
  expect(refusal('{"nftables": [{"metainfo": {}}]}').code).toBe("foreign-snapshot");
  expect(refusal("[1,2,3}").code).toBe("foreign-snapshot");
  const holed = refusal(JSON.stringify(snapshot({ node: { ...EMPTY, links: [{ name: "eth0" }] } })));
  expect(holed.code).toBe("foreign-snapshot");
  expect(holed.message).toContain("node.links.0.index");
});

test("a pod whose namespace is gone still gets its answer, with the reason", () => {
  const read = parseSnapshot(JSON.stringify(snapshot()), "node.json");
  const diagnosis = diagnose(read, read.pods[0]!, { address: "198.51.100.80", protocol: "tcp", port: 80 });
  expect(diagnosis.healthy).toBe(false);
  expect(diagnosis.findings.map((one) => one.code)).toEqual(["pod-namespace-gone"]);
  expect(diagnosis.gaps).toEqual(["namespace of gone: ENOENT: no such file or directory"]);
});
