/** Packets that are too large for the way, and nobody who tells their sender. */
import { HOOK_PRIORITY } from "../../linux/netfilter.ts";
import { addChain, addRule, addTable, destroyTable } from "../../linux/nftables/commands.ts";
import { drop, match } from "../../linux/nftables/rule-builder.ts";
import type { Fault } from "./fault.ts";
import { PLAN } from "../plan.ts";
import { changeRuleset, within } from "./change.ts";

const NO_ICMP = { family: "ip", table: "no-icmp" } as const;
const TUNNEL = { family: "inet", table: "narrow-tunnel" } as const;
/** Bytes: an uplink over a tunnel. */
const NARROW = 1400;
const USUAL = 1500;
/** GSO_MAX_SEGS, what every link begins with. */
const MOST_SEGMENTS = 65_535;

export const breakSizes: readonly Fault[] = [
  {
    name: "too-large-untold",
    title: `eth0 takes ${NARROW} bytes, and a firewall on the node drops the message that says so`,
    finding: "mtu-black-hole",
    onlyLarge: true,
    apply(world) {
      within(world.node, (route) => route.setLink(PLAN.node.uplink, { mtu: NARROW }));
      changeRuleset(world.node, "breaking the lab", [
        addTable(NO_ICMP),
        addChain({ ...NO_ICMP, chain: "output" }, { base: { type: "filter", hook: "output", priority: 0 } }),
        addRule(
          { ...NO_ICMP, chain: "output" },
          {
            expressions: [
              match("meta l4proto", "icmp"),
              match("icmp type", "destination-unreachable"),
              drop(),
            ],
          },
        ),
      ]);
    },
    mend(world) {
      changeRuleset(world.node, "mending the lab", [destroyTable(NO_ICMP)]);
      within(world.node, (route) => route.setLink(PLAN.node.uplink, { mtu: USUAL }));
    },
  },
  {
    name: "narrow-tunnel",
    title: `somewhere behind the router packets of more than ${NARROW} bytes are lost silently`,
    finding: "mtu-black-hole",
    onlyLarge: true,
    onlyLive: true,
    apply(world) {
      // Veths hand over many packets as one; a rule about their size must see them one by one.
      within(world.node, (route) => route.setLink(PLAN.node.uplink, { gsoMaxSegments: 1 }));
      changeRuleset(world.internet, "breaking the lab", [
        addTable(TUNNEL),
        addChain(
          { ...TUNNEL, chain: "prerouting" },
          { base: { type: "filter", hook: "prerouting", priority: HOOK_PRIORITY.raw } },
        ),
        addRule(
          { ...TUNNEL, chain: "prerouting" },
          { expressions: [match("meta length", NARROW, ">"), drop()] },
        ),
      ]);
    },
    mend(world) {
      changeRuleset(world.internet, "mending the lab", [destroyTable(TUNNEL)]);
      within(world.node, (route) => route.setLink(PLAN.node.uplink, { gsoMaxSegments: MOST_SEGMENTS }));
    },
  },
];
