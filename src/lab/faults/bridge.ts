/** What can be wrong between the pod and the node's IP stack. */
import { addChain, addRule, addTable, destroyTable } from "../../kernel/nftables/changes.ts";
import { drop, match } from "../../kernel/nftables/rule-builder.ts";
import type { Fault, FaultWorld } from "../faults.ts";
import { PLAN } from "../plan.ts";
import { gently, indexOf, raise, ruleset, within } from "./change.ts";

const { bridge, gatewayIpv4, gatewayIpv6 } = PLAN.node;
const { veth } = PLAN.pods.blue;
const SPOOF_CHECK = { family: "bridge", table: "spoof-check" } as const;
const OTHER_GATEWAY = "10.9.9.254";
const PREFIX = 24;

function bridgeAddress(world: FaultWorld, address: string, change: "add" | "delete"): void {
  gently(world.node, (route) => {
    const spec = { interface: indexOf(route, bridge), address, prefixLength: PREFIX };
    if (change === "add") route.addAddress(spec);
    else route.deleteAddress(spec);
  });
}

export const breakBridge: readonly Fault[] = [
  {
    name: "veth-down",
    title: "veth-blue, the node's end of the cable, is set down",
    finding: "host-link-down",
    apply: (world) => within(world.node, (route) => route.setLink(veth, { up: false })),
    mend: (world) => within(world.node, (route) => route.setLink(veth, { up: true })),
  },
  {
    name: "veth-unplugged",
    title: "veth-blue is taken out of br0",
    finding: "host-link-not-enslaved",
    apply: (world) => within(world.node, (route) => route.setLink(veth, { master: 0 })),
    mend: (world) => within(world.node, (route) => route.setLink(veth, { master: indexOf(route, bridge) })),
  },
  {
    name: "port-blocked",
    title: "the bridge port veth-blue is put into the state listening",
    finding: "bridge-port-blocked",
    apply: (world) => within(world.node, (route) => route.setBridgePort(veth, { state: "listening" })),
    mend: (world) => within(world.node, (route) => route.setBridgePort(veth, { state: "forwarding" })),
  },
  {
    name: "bridge-down",
    title: "br0 is set down",
    finding: "bridge-down",
    apply: (world) => within(world.node, (route) => route.setLink(bridge, { up: false })),
    mend: (world) => raise(world.node, bridge, gatewayIpv6, PLAN.podPrefixIpv6),
  },
  {
    name: "bridge-address-missing",
    title: "br0 loses 10.0.0.254, the pods' gateway",
    finding: "bridge-address-missing",
    apply: (world) => bridgeAddress(world, gatewayIpv4, "delete"),
    mend: (world) => bridgeAddress(world, gatewayIpv4, "add"),
  },
  {
    name: "bridge-other-subnet",
    title: "br0 has an address of another network than its pods",
    finding: "bridge-other-subnet",
    apply(world) {
      bridgeAddress(world, gatewayIpv4, "delete");
      bridgeAddress(world, OTHER_GATEWAY, "add");
    },
    mend(world) {
      bridgeAddress(world, OTHER_GATEWAY, "delete");
      bridgeAddress(world, gatewayIpv4, "add");
    },
  },
  {
    name: "bridge-firewall",
    title: "a table of family bridge drops every frame from veth-blue",
    finding: "bridge-filter-drops",
    apply: (world) =>
      ruleset(world.node, "breaking the lab", [
        addTable(SPOOF_CHECK),
        addChain(
          { ...SPOOF_CHECK, chain: "prerouting" },
          { base: { type: "filter", hook: "prerouting", priority: -300 } },
        ),
        addRule(
          { ...SPOOF_CHECK, chain: "prerouting" },
          { expressions: [match("meta iifname", veth), drop()] },
        ),
      ]),
    mend: (world) => ruleset(world.node, "mending the lab", [destroyTable(SPOOF_CHECK)]),
  },
  {
    name: "stale-pod-mac",
    title: "the node has a permanent neighbour entry for ns-blue with a wrong MAC address",
    finding: "node-neighbour-wrong-mac",
    apply: (world) =>
      within(world.node, (route) =>
        route.setNeighbour({
          interface: indexOf(route, bridge),
          address: PLAN.pods.blue.ipv4,
          mac: "02:00:00:00:00:98",
        }),
      ),
    mend: (world) =>
      gently(world.node, (route) => {
        route.deleteNeighbour({ interface: indexOf(route, bridge), address: PLAN.pods.blue.ipv4 });
      }),
  },
];
