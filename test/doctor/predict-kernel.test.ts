/** The prediction against the kernel: random rulesets, random packets, the same verdict and the same translation. */
import { expect } from "bun:test";
import { testWith } from "../support/witness.ts";
import { KernelOracle, type Difference } from "./kernel-oracle.ts";
import { healthyWorld } from "./world.ts";

const FIRST_SEED = Number(process.env["WAYOUT_FUZZ_SEED"] ?? 20_250_723);
/** Differences that are printed whole; the first of a seed says most. */
const SHOWN = 1;
const CASES = Number(process.env["WAYOUT_FUZZ_CASES"] ?? 40);
const PACKETS = Number(process.env["WAYOUT_FUZZ_PACKETS"] ?? 16);

testWith(["root", "nft", "iptables", "ipset", "ip"])(
  "random rulesets do to random packets what was predicted",
  () => {
    using oracle = new KernelOracle(healthyWorld(), PACKETS);
    const differences: Difference[] = [];
    let cases = 0;
    let compared = 0;
    let delivered = 0;
    let unsure = 0;
    for (let seed = FIRST_SEED; cases < CASES && seed < FIRST_SEED + CASES * 10; seed++) {
      const result = oracle.run(seed);
      if (result === undefined) continue;
      cases++;
      compared += result.compared;
      delivered += result.delivered;
      unsure += result.unsure;
      differences.push(...result.differences);
      if (differences.length > 3) break;
    }
    console.log(
      `prediction against the kernel: seeds from ${FIRST_SEED}, ${cases} rulesets, ${compared} packets compared, ${delivered} delivered, ${unsure} said to be unsure`,
    );
    for (const one of differences.slice(0, SHOWN)) {
      console.log(
        `seed ${one.seed}: ${one.packet} ${one.way}: predicted ${one.predicted}, the kernel: ${one.observed}\n${one.ruleset.nft}\n${one.ruleset.iptables ?? ""}\n${one.ruleset.routing.join("\n")}\n${JSON.stringify(one.ruleset.sysctls)}`,
      );
    }
    expect(differences.map(({ seed, packet, way }) => `${seed} ${packet} ${way}`)).toEqual([]);
    expect(cases).toBe(CASES);
    // Rulesets that drop everything, or predictions that never commit themselves, would prove nothing.
    expect(delivered).toBeGreaterThan(compared / 8);
    expect(unsure).toBeLessThan(compared / 10);
  },
  { timeout: 3_600_000 },
);

/**
 * Seeds that disagreed once: a binding to what a packet has already, a next hop that was named for other ports, a service class
 * that the answer does not have.
 */
const MENDED = [475_554_031, 941_649_740, 750_333_712];

testWith(["root", "nft", "iptables", "ipset", "ip"])("what was mistaken once is not again", () => {
  using oracle = new KernelOracle(healthyWorld(), 100);
  for (const seed of MENDED) {
    const result = oracle.run(seed);
    expect([seed, result?.differences.map(({ packet, way }) => `${packet} ${way}`)]).toEqual([seed, []]);
    expect(result!.delivered).toBeGreaterThan(0);
  }
});
