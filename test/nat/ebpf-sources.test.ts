/** As whom a pod leaves when a node has several addresses, subnets, routes and rules: as nf_nat's MASQUERADE has it. */
import { expect } from "bun:test";
import { ipBytes } from "../../src/address/ip.ts";
import { testWith } from "../support/witness.ts";
import { Comparison } from "./fuzz/compare.ts";
import { UDP } from "./fuzz/packets.ts";
import type { Lane } from "./fuzz/steps.ts";
import { stayOnOneProcessor } from "./fuzz/wire.ts";

const test = testWith(["root", "real-root", "ip", "nft"]);
const SECOND = ["address add 172.31.0.1/24 dev up0"];
const FIRST = "192.0.2.1";
const OTHER = "172.31.0.1";
const ROUTERS = ["172.31.0.2"];

/** Lines of `ip -batch`, and as whom packets leave then; who is at the other end of the uplink, too. */
interface Node {
  readonly family?: 6;
  readonly lines: readonly string[];
  readonly neighbours?: readonly string[];
  readonly nft?: string;
  readonly sources: readonly string[];
}

const NODES: Readonly<Record<string, Node>> = {
  "a route with a source": {
    lines: ["address add 192.0.2.77/25 dev up0", "route replace default via 192.0.2.2 src 192.0.2.77"],
    sources: [FIRST],
  },
  "two subnets on the link": {
    lines: [...SECOND, "route add 198.51.100.0/24 via 172.31.0.2"],
    neighbours: ROUTERS,
    sources: [FIRST, OTHER],
  },
  "a rule by the source": {
    lines: [...SECOND, "rule add from 10.9.0.0/16 table 100", "route add default via 172.31.0.2 table 100"],
    neighbours: ROUTERS,
    sources: [OTHER],
  },
  "a rule by the link that packets come by": {
    lines: [...SECOND, "rule add iif br0 table 100", "route add default via 172.31.0.2 table 100"],
    neighbours: ROUTERS,
    sources: [OTHER],
  },
  "a rule by the port": {
    lines: [
      ...SECOND,
      "rule add ipproto udp dport 443 table 100",
      "route add default via 172.31.0.2 table 100",
    ],
    neighbours: ROUTERS,
    sources: [FIRST, OTHER],
  },
  "a rule by a mark": {
    lines: [...SECOND, "rule add fwmark 7 table 100", "route add default via 172.31.0.2 table 100"],
    neighbours: ROUTERS,
    nft: "table inet m { chain p { type filter hook prerouting priority -150; udp dport 443 meta mark set 7; }; }",
    sources: [FIRST, OTHER],
  },
  "a route with a source to a gateway that is on no subnet": {
    lines: [
      "address add 192.0.2.77/25 dev up0",
      "route replace default via 100.64.0.1 dev up0 onlink src 192.0.2.77",
    ],
    neighbours: ["100.64.0.1"],
    sources: [FIRST],
  },
  "several next hops": {
    lines: [...SECOND, "route replace default nexthop via 192.0.2.2 dev up0 nexthop via 172.31.0.2 dev up0"],
    neighbours: ROUTERS,
    sources: [FIRST, OTHER],
  },
  "a gateway that is on no subnet": {
    lines: ["address add 192.0.2.77/25 dev up0", "route replace default via 100.64.0.1 dev up0 onlink"],
    neighbours: ["100.64.0.1"],
    sources: [FIRST],
  },
  "two addresses of IPv6": {
    family: 6,
    lines: [
      "address add 2001:db8:5::5/64 dev up0 nodad",
      "address add 2001:db8:113::7/64 dev up0 nodad preferred_lft 0",
    ],
    sources: ["2001:db8:5::5"],
  },
};

/** To both peers and both ports of as many lanes. */
const lanes = (family: 4 | 6): Lane[] =>
  Array.from({ length: 12 }, () => ({
    family,
    steps: [0, 1, 2, 3].map((at) => ({
      kind: "out",
      exchange: { protocol: UDP, pod: at & 1, port: 2000 + at, peer: at >> 1, peerPort: at & 1 ? 443 : 80 },
      what: { protocol: UDP, length: 20 },
      manner: {},
    })),
  }));

for (const [name, { family, lines, neighbours = [], nft, sources }] of Object.entries(NODES)) {
  test(`${name}: pods leave as they do with nftables`, () => {
    using _processor = stayOnOneProcessor();
    using comparison = new Comparison({
      uplink: "veth",
      translation: { fullyRandom: false },
      besides: { lines, neighbours, ...(nft === undefined ? {} : { nft }) },
    });
    const result = comparison.run(lanes(family ?? 4));
    expect(
      result.differences.map(({ what, nftables, ebpf }) => ({ what, nftables, ebpf })).slice(0, 1),
    ).toEqual([]);
    expect([...result.listed]).toEqual([]);
    expect([...result.sources].toSorted()).toEqual(
      sources.map((address) => ipBytes(address).toHex()).toSorted(),
    );
  });
}
