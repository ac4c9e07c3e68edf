/** What cannot be read or understood ends no checklist: it is said, with the reason, and the rest is judged. */
import { expect } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { diagnose, type Diagnosis } from "../../src/doctor/diagnose.ts";
import { faultNamed } from "../../src/lab/faults/all.ts";
import { PLAN } from "../../src/lab/plan.ts";
import { Gaps } from "../../src/snapshot/namespace.ts";
import { readConfigFiles } from "../../src/snapshot/pod-files.ts";
import type { Snapshot } from "../../src/snapshot/snapshot.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { labWorld, serveInternet, snapshotOf } from "./world.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");
const WEB = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 } as const;

function look(snapshot: Snapshot): Diagnosis {
  return diagnose(snapshot, snapshot.pods[0]!, WEB);
}

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-bad-input-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

testWith(["root"])("settings files that cannot be read are named, the others count", () => {
  const directory = scratch();
  // Root may read everything: a directory and a loop cannot be read by anybody.
  mkdirSync(join(directory, "10-directory.conf"));
  symlinkSync("20-loop.conf", join(directory, "20-loop.conf"));
  symlinkSync("nowhere", join(directory, "30-dangling.conf"));
  writeFileSync(join(directory, "99-off.conf"), "net.ipv4.ip_forward = 0\n");
  const gaps = new Gaps();
  const files = readConfigFiles(
    gaps,
    [{ directories: [directory], main: { name: "sysctl.conf", directories: [] }, mainIs: "last" }],
    [],
  );
  const own = (path: string): boolean => path.startsWith(directory);
  expect(files.filter((file) => own(file.path) && file.text !== undefined)).toHaveLength(1);
  expect(gaps.missing.map(({ what, why }) => [what, why])).toEqual([
    [join(directory, "10-directory.conf"), expect.stringContaining("no regular file")],
    [join(directory, "20-loop.conf"), expect.stringContaining("ELOOP")],
  ]);

  const snapshot = { ...snapshotOf(labWorld()), files, missing: gaps.missing };
  const { findings, healthy, gaps: said } = look(snapshot);
  expect(findings.map((one) => one.code)).toEqual(["forwarding-not-persistent"]);
  expect(healthy).toBe(true);
  expect(said).toHaveLength(2);
  expect(said[0]).toContain("10-directory.conf of node: open of what is no regular file");
});

testWith(["root", "nft"])("a rule with an expression that nobody knows: said, never guessed", () => {
  const world = labWorld();
  ask(world.node, [
    "nft",
    "table inet future { chain forward { type filter hook forward priority 0; ip saddr 10.0.0.1 drop; }; }",
  ]);
  const snapshot = snapshotOf(world);
  expect(look(snapshot).findings.map((one) => one.code)).toEqual(["filter-rule-drops"]);
  // The same rule of a newer kernel, which asks for something more before it drops.
  const text = JSON.stringify(snapshot);
  const drop = '{"kind":"immediate","dreg":0,"data":{"verdict":"drop"}}';
  expect(text).toContain(drop);
  const future = JSON.parse(
    text.replaceAll(drop, `{"kind":"other","name":"quantum","data":"0800010000000001"},${drop}`),
  ) as Snapshot;
  const { findings, certain, healthy, answer, gaps } = look(future);
  expect(findings.map((one) => one.code)).toEqual(["filter-unknown"]);
  expect(findings[0]!.text).toContain("quantum");
  expect([certain, healthy]).toEqual([false, true]);
  expect(answer).toContain("cannot be told");
  expect(gaps).toEqual([]);
});

testWith(["root"])("a part that makes no sense costs its own check, and no other", () => {
  const world = labWorld();
  faultNamed("forwarding-off")!.apply(world);
  const snapshot = snapshotOf(world);
  const { conntrack } = snapshot.node;
  const torn = {
    ...snapshot.node,
    conntrack: { ...conntrack!, readings: "none" as never, flows: 7 as never },
  };
  const { findings, gaps } = look({ ...snapshot, node: torn });
  expect(findings.map((one) => one.code)).toEqual(["forwarding-off"]);
  expect(gaps.join("\n")).toContain("the check of connection tracking: ");
});

testWith(["root"])("what the kernel did not tell is told", () => {
  const world = labWorld();
  const snapshot = snapshotOf(world);
  const { ruleset: _, ...node } = snapshot.node;
  const missing = [{ where: "node", what: "ruleset", why: "EPERM: operation not permitted" }];
  const { gaps, findings, certain, answer, path } = look({ ...snapshot, node, missing });
  expect(gaps).toEqual(["ruleset of node: EPERM: operation not permitted"]);
  // Rules that were not read may translate: nobody says that none does.
  expect(findings).toEqual([]);
  expect(certain).toBe(false);
  expect(answer).toContain("cannot be told");
  expect(path.blindSpots).toEqual(["the node's rules (EPERM: operation not permitted)"]);
});

const AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"];

testWith(["real-root", "setpriv"])("a snapshot is judged without any privilege", async () => {
  const world = labWorld();
  await using _ = await serveInternet(world);
  faultNamed("masquerade-old-network")!.apply(world);
  const file = join(scratch(), "node.json");
  const taken = run(undefined, [WAYOUT, "snapshot", "--node", PLAN.node.namespace, "--to", WEB.address]);
  writeFileSync(file, taken.stdout);
  const { stdout, exitCode } = run(
    undefined,
    [
      ...AS_NOBODY,
      WAYOUT,
      "doctor",
      PLAN.pods.blue.namespace,
      "--snapshot",
      "-",
      "--to",
      `${WEB.address}:80`,
    ],
    taken.stdout,
  );
  expect(stdout).toContain("[nat-mismatch]");
  expect(exitCode).toBe(1);
});

testWith(["real-root", "setpriv"])("where nobody could look, that no pod was found is no answer", () => {
  const taken = run(undefined, [...AS_NOBODY, WAYOUT, "snapshot"]);
  expect(taken.exitCode).toBe(0);
  const { stderr, exitCode } = run(undefined, [WAYOUT, "doctor", "--snapshot", "-"], taken.stdout);
  expect(stderr).toContain("take the snapshot, as root");
  expect(exitCode).toBe(3);
});

testWith(["root"])("a name whose namespace is gone", () => {
  labWorld();
  const name = "ns-gone";
  afterThisTest(() => rmSync(`/run/netns/${name}`, { force: true }));
  writeFileSync(`/run/netns/${name}`, "");
  const { stdout, exitCode } = run(undefined, [WAYOUT, "doctor", name]);
  expect(stdout).toContain("[pod-namespace-gone]");
  expect(exitCode).toBe(1);
});
