/** A pod may put any number of things into its own namespace: they are not all read, and that is said. */
import { expect } from "bun:test";
import { diagnose } from "../../src/doctor/diagnose.ts";
import { healthyWorld, snapshotOf, PLAN } from "../doctor/world.ts";
import { ask, testWith } from "../support/witness.ts";

const WEB = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 } as const;
const MANY = 150_000;

function address(number: number): string {
  return `100.${64 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
}

testWith(["root", "ip"])(
  "too many routes",
  () => {
    const world = healthyWorld();
    const lines = Array.from({ length: MANY }, (_, number) => `route add blackhole ${address(number)}/32\n`);
    ask(world.blue, ["ip", "-batch", "-"], lines.join(""));
    const snapshot = snapshotOf(world);
    const [blue] = snapshot.pods;
    expect(snapshot.missing.map(({ where, what }) => [where, what])).toEqual([[blue!.name, "routes"]]);
    expect(blue!.state!.rules.length).toBeGreaterThan(0);
    const { blind, findings } = diagnose(snapshot, blue!, WEB);
    expect([blind, findings]).toEqual([true, []]);
  },
  180_000,
);
