/**
 * The eBPF programs beside nf_nat: `npm run fuzz:ebpf -- [PACKETS]`, a million when not told otherwise. The same random
 * packets go through two worlds that differ in the backend alone. Stops at the first difference that is not written down
 * (docs/architecture.md), with its seed and the shortest sequence that shows it; `WAYOUT_FUZZ_SEED=N` begins there.
 */
import { join } from "node:path";

const test = join(import.meta.dir, "test.ts");
const seed = process.env["WAYOUT_FUZZ_SEED"] ?? String(Math.floor(Math.random() * 1_000_000));
const packets = process.argv[2] ?? "1000000";
const begun = performance.now();
const child = Bun.spawn([process.execPath, test, "test/nat/ebpf-fuzz.test.ts"], {
  env: { ...process.env, WAYOUT_FUZZ_SEED: seed, WAYOUT_FUZZ_PACKETS: packets },
  stdout: "inherit",
  stderr: "inherit",
});
const exitCode = await child.exited;
console.log(`${packets} packets wanted, ${Math.round((performance.now() - begun) / 1000)} s`);
process.exit(exitCode);
