/** The eBPF programs beside the kernel's own translation: the same packets through both. `npm run fuzz:ebpf` does more. */
import { expect } from "bun:test";
import { testWith } from "../support/witness.ts";
import { figures, fuzz } from "./fuzz/fuzz.ts";

const test = testWith(["root", "real-root", "ip", "nft", "conntrack"]);
const wanted = Number(process.env["WAYOUT_FUZZ_PACKETS"] ?? 6_000);
const seed = Number(process.env["WAYOUT_FUZZ_SEED"] ?? 1);

test(
  "what comes out is the same but for the port, and no pod's address is seen outside",
  () => {
    const result = fuzz(seed, wanted);
    console.log(figures(result));
    expect(result.difference === undefined).toBe(true);
  },
  24 * 3600 * 1000,
);
