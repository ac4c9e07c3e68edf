/** The eBPF programs beside the kernel's own translation: the same packets through both. `npm run fuzz:ebpf` does more. */
import { expect } from "bun:test";
import { testWith } from "../support/witness.ts";
import { Comparison } from "./fuzz/compare.ts";
import { figures, fuzz } from "./fuzz/fuzz.ts";
import { FLAGS, ICMP, TCP } from "./fuzz/packets.ts";
import type { Lane, Step } from "./fuzz/steps.ts";
import { stayOnOneProcessor } from "./fuzz/wire.ts";

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

/** Sequences that let out, once, what they must not. */
const FOUND: Readonly<Record<string, Lane>> = {
  "a pod complains of what somebody outside said to another pod": {
    family: 4,
    steps: [
      step("out", 0, FLAGS.syn),
      step("answer", 1, FLAGS.rst | FLAGS.ack),
      step("in", 0, FLAGS.syn | FLAGS.psh),
      { ...step("pod-error", 1), what: { protocol: ICMP, type: 11, code: 1, length: 0 }, quote: 1232 },
    ],
  },
};

function step(kind: Step["kind"], pod: number, flags = 0): Step {
  const exchange = { protocol: TCP, pod, port: 600, peer: 1, peerPort: 443 };
  return { kind, exchange, what: { protocol: TCP, flags, seq: 1000, ack: 1001, length: 0 }, manner: {} };
}

for (const [name, lane] of Object.entries(FOUND))
  test(name, () => {
    using _processor = stayOnOneProcessor();
    using comparison = new Comparison({ uplink: "veth", translation: { fullyRandom: false } });
    expect(comparison.run([lane]).differences.map(({ what }) => what)).toEqual([]);
  });
