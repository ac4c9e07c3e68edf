/** What the eBPF programs once did otherwise than nf_nat, each as the shortest sequence that showed it. */
import { expect } from "bun:test";
import { testWith } from "../support/witness.ts";
import { Comparison } from "./fuzz/compare.ts";
import { FLAGS, ICMP, ICMPV6, TCP, UDP, type Manner, type Transport } from "./fuzz/packets.ts";
import type { Exchange, Lane, Step } from "./fuzz/steps.ts";
import { stayOnOneProcessor } from "./fuzz/wire.ts";

const test = testWith(["root", "real-root", "ip"]);
const { syn, rst, ack, fin } = FLAGS;

function exchange(protocol: number, pod = 0, port = 2000): Exchange {
  return { protocol, pod, port, peer: 0, peerPort: 443 };
}

/** A packet of an exchange; the transport is of its protocol. */
function packet(kind: Step["kind"], of: Exchange, what: Partial<Transport> = {}, manner: Manner = {}): Step {
  return { kind, exchange: of, what: { protocol: of.protocol, length: 20, ...what }, manner };
}

function error(kind: "error" | "pod-error", of: Exchange, protocol: number, type: number, code = 0): Step {
  return { kind, exchange: of, what: { protocol, type, code, length: 0 }, manner: {}, quote: 100 };
}

const [tcp, udp, ping4, ping6] = [TCP, UDP, ICMP, ICMPV6].map((protocol) => exchange(protocol)) as [
  Exchange,
  Exchange,
  Exchange,
  Exchange,
];
const other = (of: Exchange): Exchange => ({ ...of, pod: 1 });
const begun = [packet("out", tcp, { flags: syn }), packet("answer", tcp, { flags: syn | ack })];

const PINNED: Readonly<Record<string, Lane>> = {
  "questions of ICMP that are no echo are answered": {
    family: 4,
    steps: [13, 15, 17].flatMap((type) => [
      packet("out", ping4, { type, code: 0 }),
      packet("answer", ping4, { type: type + 1, code: 0 }),
    ]),
  },
  "two pods with the same number of a question each get their own answers": {
    family: 4,
    steps: [
      packet("out", ping4, { type: 17, code: 0 }),
      packet("out", other(ping4), { type: 17, code: 0 }),
      packet("answer", other(ping4), { type: 18, code: 0 }),
      packet("answer", ping4, { type: 18, code: 0 }),
    ],
  },
  "the checksum behind an authentication header is right": {
    family: 6,
    steps: [packet("out", udp, {}, { options: [51, 0] }), packet("answer", udp, {}, { options: [51] })],
  },
  "UDP-Lite is translated, and two pods may have the same port": {
    family: 4,
    steps: [exchange(136), exchange(136, 1)].flatMap((of) => [packet("out", of), packet("answer", of)]),
  },
  "a redirect about a translated packet goes no further": {
    family: 4,
    steps: [packet("out", udp), error("error", udp, ICMP, 5, 1)],
  },
  "errors of kinds that are not known yet reach the pod": {
    family: 6,
    steps: [packet("out", udp), error("error", udp, ICMPV6, 100)],
  },
  "a pod's SYN is translated, though a segment came for that port before": {
    family: 4,
    steps: [packet("in", tcp, { flags: ack }), packet("out", tcp, { flags: syn })],
  },
  "an answer to an echo begins nothing": {
    family: 4,
    steps: [packet("in", ping4, { type: 0, code: 0 }), packet("out", ping4, { type: 8, code: 0 })],
  },
  "the same, of IPv6": {
    family: 6,
    steps: [packet("in", ping6, { type: 129, code: 0 }), packet("out", ping6, { type: 128, code: 0 })],
  },
  "segments with flags that exclude each other reach the pod from outside": {
    family: 6,
    steps: [packet("in", tcp, { flags: 0 }), packet("in", tcp, { flags: syn | fin })],
  },
  "a reset instead of an answer frees the port at once": {
    family: 4,
    steps: [
      packet("out", tcp, { flags: syn }),
      packet("answer", tcp, { flags: rst | ack }),
      packet("out", other(tcp), { flags: syn }),
      packet("answer", tcp, { flags: syn | ack }),
    ],
  },
  "a SYN amid the end of a connection begins none": {
    family: 6,
    steps: [
      ...begun,
      packet("out", tcp, { flags: fin | ack }),
      packet("out", tcp, { flags: syn }),
      packet("out", tcp, { flags: rst }),
      packet("answer", tcp, { flags: syn | ack }),
    ],
  },
  "fragments find their first behind other headers": {
    family: 6,
    steps: [packet("out", udp, { length: 100 }, { fragments: [0, 1, 2] })],
  },
};

/** What nftables lets leave as it is (ICMP of the link, flags that exclude each other) must not leave. */
const DROPPED: Readonly<Record<string, Lane>> = {
  "neighbour discovery does not leave for somewhere else": {
    family: 6,
    steps: [133, 135, 136, 139, 143, 200].map((type) => packet("out", ping6, { type, code: 0 })),
  },
  "a segment with flags that exclude each other does not leave": {
    family: 4,
    steps: [...begun, packet("out", tcp, { flags: syn | fin })],
  },
  "an error about later fragments does not tell the pod's address": {
    family: 6,
    steps: [
      packet("out", ping6, { type: 128, code: 0 }),
      packet("answer", ping6, { type: 129, code: 0, length: 1300 }, { ttl: 1, fragments: [0, 1, 2] }),
    ],
  },
  "an error of the node's about the reset that ended a connection does not tell it either": {
    family: 6,
    steps: [packet("out", tcp, { flags: syn }), packet("answer", tcp, { flags: rst | ack }, { ttl: 1 })],
  },
};

for (const uplink of ["veth", "vxlan", "tun"] as const)
  test(`every sequence that was once translated otherwise is translated as nf_nat does it (${uplink})`, () => {
    using _processor = stayOnOneProcessor();
    using comparison = new Comparison({ uplink, translation: { fullyRandom: false } });
    const names = Object.keys(PINNED);
    const { differences, listed } = comparison.run(Object.values(PINNED));
    expect(
      differences.map(({ lane, ...rest }) => [names[Object.values(PINNED).indexOf(lane)], rest]),
    ).toEqual([]);
    expect([...listed]).toEqual([]);
    const dropped = comparison.run(Object.values(DROPPED));
    expect(dropped.differences).toEqual([]);
    expect(dropped.listed.size).toBeGreaterThan(0);
  });

test("fragments that the node makes of what connection tracking put together leave as the node, too", () => {
  using _processor = stayOnOneProcessor();
  using comparison = new Comparison({ uplink: "veth", translation: { fullyRandom: false }, tracked: true });
  const lanes = [UDP, 51].map((protocol): Lane => {
    const what = { protocol, length: 1400 };
    return { family: 6, steps: [packet("out", exchange(protocol), what, { fragments: [0, 1] })] };
  });
  // What nobody knows does not leave in parts either.
  const unknown = packet("out", ping6, { type: 160, code: 0, length: 1400 }, { fragments: [0, 1] });
  expect(comparison.run([...lanes, { family: 6, steps: [unknown] }]).differences).toEqual([]);
});
