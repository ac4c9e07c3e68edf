/** A stranger's snapshot: whatever stands in it, it is judged or refused with the place; it never ends in a type error. */
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { diagnose } from "../../src/doctor/diagnose.ts";
import { WayoutError } from "../../src/error.ts";
import { parseSnapshot } from "../../src/snapshot/file.ts";
import type { Snapshot } from "../../src/snapshot/snapshot.ts";
import { healthyWorld, snapshotOf, PLAN } from "../doctor/world.ts";
import { ask, testWith } from "../support/witness.ts";

const WEB = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 } as const;

/** Rules of many kinds, so that there is much to mistake. */
const RULES = `table inet strange {
  set pairs { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 80, 192.0.2.1 . 1-9 }; }
  map where { type ipv4_addr : verdict; elements = { 192.0.2.77 : drop }; }
  set seen { type ipv4_addr; flags dynamic,timeout; timeout 1m; size 128; }
  counter passed { }
  chain forward { type filter hook forward priority 10; policy accept;
    ip saddr vmap @where
    ip saddr . tcp dport @pairs counter name passed accept
    update @seen { ip saddr limit rate 3/second }
    fib saddr type local log prefix "mine"
    ct state established accept
    tcp flags syn tcp option maxseg size set rt mtu
  }
  chain inward { type nat hook prerouting priority -100; tcp dport 8080 dnat ip to 192.0.2.2:80; }
}`;

type Path = readonly (string | number)[];

function pathsIn(value: unknown, at: Path = []): Path[] {
  if (typeof value !== "object" || value === null) return [at];
  const inside = Object.entries(value).flatMap(([key, one]) =>
    pathsIn(one, [...at, Array.isArray(value) ? Number(key) : key]),
  );
  return at.length === 0 ? inside : [at, ...inside];
}

/** The document with something else at one place. */
function changed(document: unknown, path: Path, to: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return to;
  const copy = (
    Array.isArray(document) ? [...(document as unknown[])] : { ...(document as object) }
  ) as Record<string | number, unknown>;
  copy[key] = changed(copy[key], rest, to);
  return copy;
}

function refusalOf(document: unknown): WayoutError | undefined {
  try {
    parseSnapshot(JSON.stringify(document), "node.json");
    return undefined;
  } catch (error) {
    if (error instanceof WayoutError) return error;
    throw error;
  }
}

const SOMETHING_ELSE: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  0xffff_ffff,
  1e308,
  "",
  "drop",
  "::",
  "0.0.0.0/0",
  "#7",
  "x".repeat(70_000),
  [],
  [null],
  {},
  // What is no value of JSON is left out: the field is missing.
  undefined,
];

/** What a check says when it met a value that it was promised not to meet. */
const TYPE_ERROR = /is not (?:a|an|iterable)\b|undefined|null is|evaluating|call stack|Invalid|codec/i;

function judged(snapshot: Snapshot): string[] {
  return snapshot.pods.flatMap((pod) => diagnose(snapshot, pod, WEB).gaps);
}

testWith(["root", "nft"])(
  "any field may be anything: it is judged, or refused with its place",
  () => {
    const world = healthyWorld();
    ask(world.node, ["nft", RULES]);
    const written = JSON.stringify(snapshotOf(world));
    const document = JSON.parse(written) as Snapshot;
    // Nothing that we write ourselves is lost at the door.
    const read = parseSnapshot(written, "node.json");
    expect(JSON.parse(JSON.stringify(read))).toEqual(document);
    expect(judged(read)).toEqual(judged(document));
    fc.assert(
      fc.property(
        fc.constantFrom(...pathsIn(document)),
        fc.constantFrom(...SOMETHING_ELSE),
        (path, value) => {
          const strange = changed(document, path, value);
          const refusal = refusalOf(strange);
          if (refusal === undefined) {
            const said = judged(parseSnapshot(JSON.stringify(strange), "node.json"));
            expect(said.filter((gap) => TYPE_ERROR.test(gap))).toEqual([]);
            return;
          }
          expect(refusal.kind).toBe("usage");
          expect(refusal.code).toMatch(/-snapshot$/);
          if (refusal.code === "foreign-snapshot" && path.length > 1) {
            expect(refusal.said).toStartWith(String(path[0]));
          }
        },
      ),
      { numRuns: 150 },
    );
  },
  180_000,
);

testWith(["root"])("a wrong type deep down is named with its place", () => {
  const document = JSON.parse(JSON.stringify(snapshotOf(healthyWorld()))) as unknown;
  const places: readonly (readonly [Path, unknown])[] = [
    [["pods", 0, "state", "addresses", 0, "flags"], null],
    [["node", "routes", 0, "flags"], true],
    [["node", "ruleset", "tables", 0, "chains", 0, "rules", 0, "expressions", 0], null],
    [["node", "ruleset", "tables", 0, "chains", 0, "rules", 0, "expressions", 0, "kind"], 7],
    [["node", "addresses", 0, "prefixLength"], 1e9],
    [["node", "sysctls", "net.ipv4.ip_forward"], 1],
    [["missing"], {}],
  ];
  for (const [path, value] of places) {
    const said = refusalOf(changed(document, path, value))?.said;
    expect(said).toStartWith(path.slice(0, -1).join("."));
  }
});

test("a file without an end is given up", () => {
  const bad = Bun.spawnSync([
    process.execPath,
    "-e",
    `import { readSnapshot } from "${import.meta.dir}/../../src/snapshot/file.ts";
     try { readSnapshot("/dev/zero"); } catch (error) { console.log(error.code, error.said); }`,
  ]);
  expect(bad.stdout.toString()).toBe("no-snapshot-file it has more than 256 MiB\n");
});
