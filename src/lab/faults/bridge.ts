/** What can be wrong between the pod and the node's IP stack. */
import { HOOK_PRIORITY } from "../../linux/netfilter.ts";
import {
  addChain,
  addRule,
  addTable,
  destroyTable,
  type Transaction,
} from "../../linux/nftables/commands.ts";
import { dnat, drop, masquerade as masqueradeStatement, match } from "../../linux/nftables/rule-builder.ts";
import { readSysctl, writeSysctl } from "../../kernel/sysctl.ts";
import { awaitLinks } from "../world.ts";
import type { Fault, FaultWorld } from "./fault.ts";
import { PLAN } from "../plan.ts";
import { gently, indexOf, raise, changeRuleset, within } from "./change.ts";

const { bridge, gatewayIpv4, gatewayIpv6 } = PLAN.node;
const { veth } = PLAN.pods.blue;
const SPOOF_CHECK = { family: "bridge", table: "spoof-check" } as const;
const OTHER_GATEWAY = "10.9.9.254";
const PREFIX = 24;
/** As CNI portmap calls it. */
const HOSTPORT = { family: "ip", table: "cni_hostport" } as const;
/** What the doctor's cure makes. */
const HAIRPIN = { family: "ip", table: "hairpin" } as const;
const CALLS_IPTABLES = "net.bridge.bridge-nf-call-iptables";
const NEIGHBOUR = { address: PLAN.pods.green.ipv4, protocol: "tcp", port: 8080 } as const;
const PUBLISHED = { address: PLAN.node.uplinkIpv4, protocol: "tcp", port: 8080 } as const;

function bridgeAddress(world: FaultWorld, address: string, change: "add" | "delete"): void {
  gently(world.node, (route) => {
    const spec = { interface: indexOf(route, bridge), address, prefixLength: PREFIX };
    if (change === "add") route.addAddress(spec);
    else route.deleteAddress(spec);
  });
}

function isolate(world: FaultWorld, isolated: boolean): void {
  within(world.node, (route) => {
    for (const port of [veth, PLAN.pods.green.veth]) route.setBridgePort(port, { isolated });
  });
}

/** A port of the node that leads to ns-blue. @param both whether what comes from ns-blue is masqueraded, too */
function publish(world: FaultWorld, both: boolean): void {
  const { ipv4 } = PLAN.pods.blue;
  changeRuleset(world.node, "breaking the lab", [
    addTable(HOSTPORT),
    addChain(
      { ...HOSTPORT, chain: "prerouting" },
      { base: { type: "nat", hook: "prerouting", priority: HOOK_PRIORITY.dstnat } },
    ),
    addRule(
      { ...HOSTPORT, chain: "prerouting" },
      {
        expressions: [
          match("ip daddr", PUBLISHED.address),
          match("meta l4proto", "tcp"),
          match("tcp dport", PUBLISHED.port),
          dnat(ipv4),
        ],
      },
    ),
    ...(both ? fromItself(ipv4) : []),
  ]);
}

/** What CNI portmap does with `snat`. */
function fromItself(address: string): Transaction {
  const chain = { ...HOSTPORT, chain: "masquerading" };
  const both = [match("ip saddr", address), match("ip daddr", address)];
  return [
    addChain(chain, { base: { type: "nat", hook: "postrouting", priority: 90 } }),
    addRule(chain, { expressions: [...both, masqueradeStatement()] }),
  ];
}

/** A namespace begins with it on, where the kernel has br_netfilter; elsewhere it is off for good. */
function callIptables(world: FaultWorld, on: boolean): void {
  if (readSysctl(world.node, CALLS_IPTABLES) === undefined) return;
  writeSysctl(world.node, CALLS_IPTABLES, on ? "1" : "0");
}

function unpublish(world: FaultWorld): void {
  changeRuleset(world.node, "mending the lab", [destroyTable(HOSTPORT), destroyTable(HAIRPIN)]);
  callIptables(world, true);
  within(world.node, (route) => route.setBridgePort(veth, { hairpin: false }));
}

export const breakBridge: readonly Fault[] = [
  {
    name: "veth-down",
    title: "veth-blue, the node's end of the veth pair, is set down",
    finding: "host-link-down",
    apply: (world) => within(world.node, (route) => route.setLink(veth, { up: false })),
    mend: (world) => within(world.node, (route) => route.setLink(veth, { up: true })),
  },
  {
    name: "veth-without-bridge",
    title: "veth-blue is taken out of br0",
    finding: "host-link-not-enslaved",
    apply: (world) => within(world.node, (route) => route.setLink(veth, { master: 0 })),
    mend: (world) => within(world.node, (route) => route.setLink(veth, { master: indexOf(route, bridge) })),
  },
  {
    name: "veth-moved",
    title: "veth-blue is moved into another namespace",
    finding: "host-link-missing",
    beyondRepair: true,
    apply: (world) => within(world.node, (route) => route.setLink(veth, { namespaceFd: world.internet.fd })),
    mend(world) {
      gently(world.internet, (route) => route.setLink(veth, { namespaceFd: world.node.fd }));
      within(world.node, (route) => route.setLink(veth, { up: true, master: indexOf(route, bridge) }));
      awaitLinks(world.blue);
    },
  },
  {
    name: "ports-isolated",
    title: "both pods' ports of br0 are isolated: they cannot reach each other",
    finding: "bridge-port-isolated",
    target: NEIGHBOUR,
    apply: (world) => isolate(world, true),
    mend: (world) => isolate(world, false),
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
      changeRuleset(world.node, "breaking the lab", [
        addTable(SPOOF_CHECK),
        addChain(
          { ...SPOOF_CHECK, chain: "prerouting" },
          { base: { type: "filter", hook: "prerouting", priority: HOOK_PRIORITY.raw } },
        ),
        addRule(
          { ...SPOOF_CHECK, chain: "prerouting" },
          { expressions: [match("meta iifname", veth), drop()] },
        ),
      ]),
    mend: (world) => changeRuleset(world.node, "mending the lab", [destroyTable(SPOOF_CHECK)]),
  },
  {
    name: "hairpin-off",
    title: "ns-blue asks for its own published port, and veth-blue sends no frame back (br_netfilter is on)",
    finding: "hairpin-off",
    target: PUBLISHED,
    apply(world) {
      publish(world, true);
      within(world.node, (route) => route.setBridgePort(veth, { hairpin: false }));
      callIptables(world, true);
    },
    mend: unpublish,
  },
  {
    name: "hairpin-untranslated",
    title: "ns-blue asks for its own published port, and its packets come back as its own",
    finding: "hairpin-untranslated",
    target: PUBLISHED,
    apply(world) {
      publish(world, false);
      callIptables(world, false);
    },
    mend: unpublish,
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
