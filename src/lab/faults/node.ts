/** What can be wrong with the node as a router. */
import { KERNEL_RULE } from "../../linux/route/rule.ts";
import { HOOK_PRIORITY } from "../../linux/netfilter.ts";
import { addChain, addRule, addTable, destroyTable } from "../../linux/nftables/commands.ts";
import { match, setMark } from "../../linux/nftables/rule-builder.ts";
import { InetSocket } from "../../kernel/inet-socket.ts";
import { writeSysctl } from "../../kernel/sysctl.ts";
import type { Fault, FaultWorld } from "./fault.ts";
import { PLAN } from "../plan.ts";
import { gently, indexOf, raise, changeRuleset, within } from "./change.ts";
import { RT_TABLE } from "../../linux/route/constants.ts";

const { bridge, uplink } = PLAN.node;
const OTHER_BRIDGE = "br-other";
const VPN_TABLE = 52;
const PODS_TABLE = 100;
const CAPTURE = { family: 4, priority: 5270, source: PLAN.podNetworkIpv4, table: VPN_TABLE } as const;
const MAIN_RULE = { family: 4, priority: KERNEL_RULE.main, table: RT_TABLE.main } as const;
const PROHIBIT = { family: 4, priority: 900, source: PLAN.podNetworkIpv4, action: "prohibit" } as const;
const PODS_MARK = 0x64;
const PODS_RULE = { family: 4, priority: 1000, mark: PODS_MARK, table: PODS_TABLE } as const;
const MARKS = { family: "inet", table: "vpn-marks" } as const;
const SITE_NETWORK = "198.51.100.0/24";
const SITE_ADDRESS = "198.51.100.1";

function sysctl(world: FaultWorld, name: string, value: string): void {
  writeSysctl(world.node, name, value);
}

function defaultRoute(world: FaultWorld): void {
  within(world.node, (route) =>
    route.replaceRoute({
      destination: "0.0.0.0/0",
      gateway: PLAN.internet.routerIpv4,
      interface: indexOf(route, uplink),
    }),
  );
}

/** A second bridge on the node, without pods. */
function otherBridge(world: FaultWorld, address: string, prefixLength: number): void {
  gently(world.node, (route) => {
    route.createBridge({ name: OTHER_BRIDGE, up: true });
  });
  gently(world.node, (route) =>
    route.addAddress({ interface: indexOf(route, OTHER_BRIDGE), address, prefixLength }),
  );
}

function routerAddress({ internet }: FaultWorld, change: "add" | "delete"): void {
  gently(internet, (route) => {
    const spec = {
      interface: indexOf(route, PLAN.internet.link),
      address: PLAN.internet.routerIpv4,
      prefixLength: PLAN.uplinkPrefixIpv4,
    };
    if (change === "add") route.addAddress(spec);
    else route.deleteAddress(spec);
  });
}

export const breakNode: readonly Fault[] = [
  {
    name: "forwarding-off",
    title: "net.ipv4.ip_forward is set to 0",
    finding: "forwarding-off",
    apply: (world) => sysctl(world, "net.ipv4.ip_forward", "0"),
    mend: (world) => sysctl(world, "net.ipv4.ip_forward", "1"),
  },
  {
    name: "forwarding-off-ipv6",
    title: "net.ipv6.conf.all.forwarding is set to 0",
    finding: "forwarding-off",
    family: 6,
    apply: (world) => sysctl(world, "net.ipv6.conf.all.forwarding", "0"),
    mend: (world) => sysctl(world, "net.ipv6.conf.all.forwarding", "1"),
  },
  {
    name: "forwarding-off-on-bridge",
    title: "net.ipv4.conf.br0.forwarding is set to 0, ip_forward stays 1",
    finding: "forwarding-off-on-interface",
    apply: (world) => sysctl(world, `net.ipv4.conf.${bridge}.forwarding`, "0"),
    mend: (world) => sysctl(world, `net.ipv4.conf.${bridge}.forwarding`, "1"),
  },
  {
    name: "node-offline",
    title: "the node loses its default route",
    finding: "node-no-route",
    apply: (world) =>
      within(world.node, (route) => {
        route.deleteRoute({ destination: "0.0.0.0/0" });
      }),
    mend: defaultRoute,
  },
  {
    name: "main-rule-missing",
    title: "the rule “from all lookup main” is deleted, as systemd-networkd has done",
    finding: "node-rules-missing",
    apply: (world) =>
      within(world.node, (route) => {
        route.deleteRule(MAIN_RULE);
      }),
    mend: (world) => gently(world.node, (route) => route.addRule(MAIN_RULE)),
  },
  {
    name: "captured-by-vpn",
    title: "a VPN's rule sends the pods to a table that refuses everything",
    finding: "rule-captures",
    apply: (world) =>
      within(world.node, (route) => {
        route.addRoute({ destination: "0.0.0.0/0", type: "unreachable", table: VPN_TABLE });
        route.addRule(CAPTURE);
      }),
    mend(world) {
      gently(world.node, (route) => {
        route.deleteRule(CAPTURE);
      });
      gently(world.node, (route) => {
        route.deleteRoute({ destination: "0.0.0.0/0", type: "unreachable", table: VPN_TABLE });
      });
    },
  },
  {
    name: "prohibited",
    title: "a policy rule prohibits everything from the pods' network",
    finding: "node-route-refused",
    apply: (world) => within(world.node, (route) => route.addRule(PROHIBIT)),
    mend: (world) =>
      gently(world.node, (route) => {
        route.deleteRule(PROHIBIT);
      }),
  },
  {
    name: "network-overlap",
    title: "another bridge has a part of the pods' range",
    finding: "network-overlap",
    apply: (world) => otherBridge(world, "10.0.0.62", 26),
    mend: (world) =>
      gently(world.node, (route) => {
        route.deleteLink(OTHER_BRIDGE);
      }),
  },
  {
    name: "destination-overlap",
    title: "another bridge of the node has the range of the web site",
    finding: "destination-overlap",
    apply: (world) => otherBridge(world, SITE_ADDRESS, 24),
    mend: (world) =>
      gently(world.node, (route) => {
        route.deleteLink(OTHER_BRIDGE);
      }),
  },
  {
    name: "router-gone",
    title: "the router, the node's gateway, no longer answers",
    finding: "uplink-gateway-unresolved",
    beyondRepair: true,
    apply(world) {
      routerAddress(world, "delete");
      within(world.node, (route) => route.flushNeighbours(indexOf(route, uplink)));
      // A packet must have asked for it: only then is it known that no host answers.
      using socket = InetSocket.open(world.node, "udp", 4);
      socket.connect({ address: PLAN.internet.routerIpv4, port: 9 });
      socket.send(Buffer.from("question"));
    },
    mend(world) {
      routerAddress(world, "add");
      within(world.node, (route) => route.flushNeighbours(indexOf(route, uplink)));
    },
  },
  {
    name: "strict-rp-filter",
    title: "a mark sends pods out by a table of their own, and rp_filter on eth0 is strict",
    finding: "reverse-path-filter",
    apply(world) {
      within(world.node, (route) => {
        const out = indexOf(route, uplink);
        route.addRoute({
          destination: "0.0.0.0/0",
          gateway: PLAN.internet.routerIpv4,
          interface: out,
          table: PODS_TABLE,
        });
        route.addRule(PODS_RULE);
        route.addRoute({ destination: SITE_NETWORK, interface: indexOf(route, bridge) });
      });
      changeRuleset(world.node, "breaking the lab", [
        addTable(MARKS),
        addChain(
          { ...MARKS, chain: "prerouting" },
          { base: { type: "filter", hook: "prerouting", priority: HOOK_PRIORITY.mangle } },
        ),
        addRule(
          { ...MARKS, chain: "prerouting" },
          { expressions: [match("meta iifname", bridge), setMark(PODS_MARK)] },
        ),
      ]);
      sysctl(world, `net.ipv4.conf.${uplink}.rp_filter`, "1");
    },
    mend(world) {
      sysctl(world, `net.ipv4.conf.${uplink}.rp_filter`, "0");
      changeRuleset(world.node, "mending the lab", [destroyTable(MARKS)]);
      gently(world.node, (route) => {
        route.deleteRoute({ destination: SITE_NETWORK, interface: indexOf(route, bridge) });
      });
      gently(world.node, (route) => {
        route.deleteRule(PODS_RULE);
      });
      gently(world.node, (route) => {
        route.deleteRoute({ destination: "0.0.0.0/0", table: PODS_TABLE });
      });
    },
  },
  {
    name: "uplink-no-carrier",
    title: "the other end of eth0's link is set down",
    finding: "uplink-down",
    beyondRepair: true,
    apply: (world) => within(world.internet, (route) => route.setLink(PLAN.internet.link, { up: false })),
    mend: ({ internet }) =>
      raise(internet, PLAN.internet.link, PLAN.internet.routerIpv6, PLAN.uplinkPrefixIpv6),
  },
];
