/** A way out that is narrower than the pod's link: works or hangs by who lets the message about it through. */
import { describe, expect } from "bun:test";
import { diagnose } from "../../src/doctor/diagnose.ts";
import { ask, testWith } from "../support/witness.ts";
import { healthyWorld, serveInternet, snapshotOf, uploadFrom, PLAN, type World } from "./world.ts";

const WEB = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 } as const;

function nft(chain: string, rules: string): string {
  return `table inet test { chain one { type filter hook ${chain}; ${rules} }; }\n`;
}

function filter(...rules: readonly string[]): string {
  return ["*filter", ...rules, "COMMIT", ""].join("\n");
}

interface Case {
  readonly name: string;
  readonly apply: (world: World) => void;
  readonly passes: boolean;
}

const CASES: readonly Case[] = [
  { name: "nobody drops anything", apply: () => {}, passes: true },
  {
    name: "a policy of drop with an exception for what is related",
    apply: ({ node }) =>
      ask(node, ["nft", "-f", "-"], nft("output priority 0; policy drop", "ct state related accept;")),
    passes: true,
  },
  {
    name: "a policy of drop with an exception for what is established only",
    apply: ({ node }) =>
      ask(node, ["nft", "-f", "-"], nft("output priority 0; policy drop", "ct state established accept;")),
    passes: false,
  },
  {
    name: "iptables drops fragmentation-needed",
    apply: ({ node }) =>
      ask(
        node,
        ["iptables-nft-restore"],
        filter("-A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP"),
      ),
    passes: false,
  },
  {
    name: "iptables drops another code of the same type",
    apply: ({ node }) =>
      ask(node, ["iptables-nft-restore"], filter("-A OUTPUT -p icmp --icmp-type port-unreachable -j DROP")),
    passes: true,
  },
  {
    name: "the pod itself drops ICMP",
    apply: ({ blue }) =>
      ask(
        blue,
        ["nft", "-f", "-"],
        nft("input priority 0", "icmp type != { echo-request, echo-reply } drop;"),
      ),
    passes: false,
  },
  {
    name: "nobody tells, and TCP is told a smaller size from the start",
    apply({ node }) {
      ask(node, ["nft", "-f", "-"], nft("output priority 0", "meta l4proto icmp drop;"));
      const clamp = "tcp flags syn tcp option maxseg size set rt mtu";
      ask(node, [
        "nft",
        `table inet clamp { chain one { type filter hook forward priority 0; ${clamp}; }; }`,
      ]);
    },
    passes: true,
  },
];

describe("the way out takes 1400 bytes, the pod's link 1500", () => {
  for (const { name, apply, passes } of CASES) {
    testWith(["root", "ip", "nft", "iptables", "curl"])(name, async () => {
      const world = healthyWorld();
      await using _ = await serveInternet(world);
      ask(world.node, ["ip", "link", "set", "up0", "mtu", "1400"]);
      apply(world);
      expect(uploadFrom(world, passes ? 15 : 1)).toBe(passes);
      const snapshot = snapshotOf(world);
      const { findings, healthy } = diagnose(snapshot, snapshot.pods[0]!, WEB);
      expect(findings.map((one) => one.code)).toEqual([passes ? "mtu-too-large" : "mtu-black-hole"]);
      expect(healthy).toBe(passes);
    });
  }
});
