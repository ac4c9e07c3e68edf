/**
 * Every fault alone: the doctor names exactly that cause and nothing that is only its symptom; what it prints, executed,
 * heals the traffic; then it says healthy. Pairs of faults: both are found, one after the other at worst.
 */
import { afterAll, describe, expect } from "bun:test";
import { dirname, join } from "node:path";
import { wayOut, withSizes } from "../../src/doctor/black-hole.ts";
import { diagnose, type Diagnosis } from "../../src/doctor/diagnose.ts";
import type { Target } from "../../src/doctor/predict/path.ts";
import { probeSizes } from "../../src/trace/observe/size-probe.ts";
import { faultNamed, FAULTS } from "../../src/lab/faults/all.ts";
import type { Fault } from "../../src/lab/faults/fault.ts";
import { PLAN } from "../../src/lab/plan.ts";
import type { World } from "../../src/lab/world.ts";
import { expectInert } from "./inert.ts";
import { until } from "../support/until.ts";
import { testWith } from "../support/witness.ts";
import { askFrom, fetchFrom, servePod, uploadFrom, labWorld, serveInternet, snapshotOf } from "./world.ts";

const BIN = join(import.meta.dir, "..", "..", "bin");
const rows: string[][] = [];

const WEB: Readonly<Record<4 | 6, Target>> = {
  4: { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 },
  6: { address: PLAN.internet.httpIpv6, protocol: "tcp", port: 80 },
};

/** @param live also sends pings of several sizes, as --to does */
function look(world: World, target: Target = WEB[4], live = false): Diagnosis {
  const snapshot = snapshotOf(world, [target.address]);
  const pod = snapshot.pods[0]!;
  const diagnosis = diagnose(snapshot, pod, target);
  if (!live) return diagnosis;
  const { mtu, uplink } = wayOut(snapshot, pod, target)!;
  const probe = probeSizes({
    pod: world.blue,
    destination: target.address,
    mtu,
    timeoutMs: 300,
    uplink: { node: world.node, name: uplink },
  });
  return withSizes(snapshot, pod, diagnosis, probe);
}

/** What pods serve: ns-green to its neighbour, ns-blue to itself over a port of the node. */
const PUBLISHED_PORT = 8080;

/** A port of the node that leads to ns-blue, and leads nowhere before the fault. */
function isPublished({ address }: Target): boolean {
  return address === PLAN.node.uplinkIpv4;
}

async function serversFor(world: World, target: Target): Promise<AsyncDisposable> {
  if (target.port !== PUBLISHED_PORT) return serveInternet(world);
  return servePod(isPublished(target) ? world.blue : world.green, PUBLISHED_PORT);
}

/** Whether real packets of ns-blue get an answer. */
function reaches(world: World, { onlyLarge }: Fault, target: Target, seconds?: number): boolean {
  if (onlyLarge === true) return uploadFrom(world, seconds);
  if (target.port === PUBLISHED_PORT) {
    return fetchFrom(world, 4, seconds, `${target.address}:${target.port}`) !== undefined;
  }
  if (target.protocol === "udp") return askFrom(world, target.sourcePort, seconds);
  return fetchFrom(world, target.address.includes(":") ? 6 : 4, seconds) !== undefined;
}

/** Executes what was printed, as a person would paste it. */
function paste(command: string): string {
  const child = Bun.spawnSync(["sh", "-c", command], {
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, PATH: `${BIN}:${dirname(process.execPath)}:${process.env["PATH"] ?? ""}` },
  });
  return child.exitCode === 0 ? "" : `${command}: ${child.stderr.toString()}`;
}

function stopping(diagnosis: Diagnosis): string[] {
  return diagnosis.findings.filter((one) => one.stopsTraffic).map((one) => one.code);
}

describe("one fault", () => {
  for (const fault of FAULTS) {
    testWith(["root", "ip", "nft", "curl", ...(fault.needs === undefined ? [] : [fault.needs])])(
      fault.name,
      async () => {
        const world = labWorld();
        const target = fault.target ?? WEB[fault.family ?? 4];
        await using _ = await serversFor(world, target);
        const asked = fault.onlyNames === true ? WEB[4] : target;
        // Where nothing is published yet, the node itself refuses.
        const before = isPublished(target) ? ["ends-on-node"] : [];
        expect(stopping(look(world, asked, fault.onlyLive))).toEqual(before);
        expect(reaches(world, fault, target, isPublished(target) ? 0.5 : undefined)).toBe(
          !isPublished(target),
        );

        fault.apply(world);
        // The node's own resolv.conf in a pod breaks nothing that a packet to an address could show.
        if (fault.onlyNames !== true || fault.target !== undefined) {
          expect(reaches(world, fault, target, 0.5)).toBe(false);
        }
        const broken = look(world, asked, fault.onlyLive);
        expect(stopping(broken)).toEqual([fault.finding]);
        expect(broken.healthy).toBe(false);
        expectInert(snapshotOf(world, [asked.address]), asked);
        const [found] = broken.findings;
        const cure = found!.fix.map((one) => one.command).join(" && ");
        rows.push([
          fault.name,
          found!.code,
          found!.owner,
          cure === "" ? `nothing here: ${found!.advice?.join("; ")}` : cure,
        ]);
        expect(found!.fix.length + (found!.advice?.length ?? 0)).toBeGreaterThan(0);

        if (fault.beyondRepair === true || found!.fix.length === 0) fault.mend(world);
        else expect(found!.fix.map((one) => paste(one.command)).filter((said) => said !== "")).toEqual([]);
        // A link that is up again has its carrier a moment later.
        await until(() => reaches(world, fault, target), `${fault.name} is mended, and traffic passes`);
        const healed = look(world, asked, fault.onlyLive);
        expect(stopping(healed)).toEqual([]);
        expect(healed.healthy).toBe(true);
        // What is healed already can be mended, too; and nothing of it may stay behind outside the namespaces.
        fault.mend(world);
      },
    );
  }
});

/** Two causes at once, at different steps of the path; those that take the very same thing away are no pair. */
const PAIRS: readonly (readonly [string, string])[] = [
  ["forwarding-off", "no-masquerade"],
  ["no-default-route", "forwarding-off"],
  ["forwarding-off", "forward-policy-drop"],
  ["forward-policy-drop", "no-masquerade"],
  ["docker-user-drop", "firewall-drop"],
  ["veth-down", "no-masquerade"],
  ["pod-link-down", "forwarding-off"],
  ["bridge-down", "firewall-drop"],
  ["answers-dropped", "masquerade-other-interface"],
  ["node-offline", "forwarding-off"],
  ["stale-gateway-mac", "masquerade-excluded"],
  ["bridge-firewall", "prohibited"],
  ["destination-overlap", "forwarding-off"],
  ["too-large-untold", "docker-user-drop"],
  ["names-blocked", "no-masquerade"],
  ["pod-address-missing", "strict-rp-filter"],
  ["pod-firewall", "snat-lost-address"],
];

describe("two faults", () => {
  for (const [first, second] of PAIRS) {
    testWith(["root", "ip", "nft", "curl"])(`${first} and ${second}`, () => {
      const world = labWorld();
      // The node learns its router's address by this.
      fetchFrom(world, 4, 0.5);
      const faults = [faultNamed(first)!, faultNamed(second)!];
      for (const fault of faults) fault.apply(world);
      const found = new Set<string>();
      // What the first one hides shows when the first one is mended.
      for (let round = 0; round < 3; round++) {
        const broken = look(world);
        if (broken.healthy) break;
        for (const code of stopping(broken)) found.add(code);
        const allowed = new Set(faults.map((fault) => fault.finding));
        expect(stopping(broken).filter((code) => !allowed.has(code as never))).toEqual([]);
        for (const one of broken.findings)
          if (one.stopsTraffic) for (const fix of one.fix) paste(fix.command);
      }
      expect([...found].sort()).toEqual([...new Set(faults.map((fault) => fault.finding))].sort());
      expect(look(world).healthy).toBe(true);
      for (const fault of faults) fault.mend(world);
    });
  }
});

afterAll(() => {
  if (rows.length === 0) return;
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, column) => (column < 3 ? cell.padEnd(widths[column]!) : cell)).join("  ");
  console.log(["", line(["fault", "found", "whose", "healed by"]), ...rows.map(line), ""].join("\n"));
});
