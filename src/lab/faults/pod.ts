/** What can be wrong inside the pod. */
import { addChain, addRule, addTable, destroyTable } from "../../linux/nftables/commands.ts";
import { drop, match } from "../../linux/nftables/rule-builder.ts";
import { awaitLinks, connectLabPod } from "../world.ts";
import type { Fault, FaultWorld } from "./fault.ts";
import { PLAN } from "../plan.ts";
import { gently, indexOf, raise, changeRuleset, within } from "./change.ts";
import { replaceResolvConf, restoreResolvConf } from "./resolv-conf.ts";

const { blue } = PLAN.pods;
const LINK = PLAN.podInterface;
const PREFIX = 24;
const WRONG_MAC = "02:00:00:00:00:99";
const POD_FIREWALL = { family: "inet", table: "pod-firewall" } as const;

function defaultRoute(world: FaultWorld, gateway: string = PLAN.node.gatewayIpv4): void {
  within(world.blue, (route) =>
    route.replaceRoute({ destination: "0.0.0.0/0", gateway, interface: indexOf(route, LINK) }),
  );
}

function address(
  world: FaultWorld,
  text: string,
  change: "add" | "delete",
  role: "blue" | "green" = "blue",
): void {
  gently(world[role], (route) => {
    const spec = { interface: indexOf(route, LINK), address: text, prefixLength: PREFIX };
    if (change === "add") route.addAddress(spec);
    else route.deleteAddress(spec);
  });
}

const BLACKHOLE = { destination: "198.51.100.0/24", type: "blackhole" } as const;

export const breakPod: readonly Fault[] = [
  {
    name: "pod-link-down",
    title: "eth0 in ns-blue is set down",
    finding: "pod-link-down",
    apply: (world) => within(world.blue, (route) => route.setLink(LINK, { up: false })),
    mend(world) {
      raise(world.blue, LINK, blue.ipv6, PLAN.podPrefixIpv6);
      within(world.blue, (route) =>
        route.replaceRoute({
          destination: "::/0",
          gateway: PLAN.node.gatewayIpv6,
          interface: indexOf(route, LINK),
        }),
      );
      defaultRoute(world);
    },
  },
  {
    name: "pod-link-deleted",
    title: "the veth of ns-blue is deleted: eth0 in it is gone",
    finding: "pod-interface-missing",
    apply: (world) => within(world.node, (route) => route.deleteLink(blue.veth)),
    mend(world) {
      let missing = false;
      within(world.blue, (route) => (missing = route.link(LINK) === undefined));
      // Healed by another link meanwhile: that one stays.
      if (!missing) return;
      within(world.node, (route) => connectLabPod(route, world.blue, blue, indexOf(route, PLAN.node.bridge)));
      awaitLinks(world.blue);
    },
  },
  {
    name: "pod-address-missing",
    title: "eth0 in ns-blue loses its address",
    finding: "pod-no-address",
    apply: (world) => address(world, blue.ipv4, "delete"),
    mend(world) {
      address(world, blue.ipv4, "add");
      defaultRoute(world);
    },
  },
  {
    name: "duplicate-address",
    title: "ns-green gets ns-blue's address, too",
    finding: "duplicate-address",
    apply(world) {
      address(world, blue.ipv4, "add", "green");
      // Both answer the node's question; here the wrong one was faster.
      let mac = "";
      within(world.green, (route) => {
        mac = route.link(LINK)?.mac ?? "";
      });
      within(world.node, (route) =>
        route.setNeighbour({
          interface: indexOf(route, PLAN.node.bridge),
          address: blue.ipv4,
          mac,
          state: "stale",
        }),
      );
    },
    mend(world) {
      address(world, blue.ipv4, "delete", "green");
      within(world.node, (route) => route.flushNeighbours(indexOf(route, PLAN.node.bridge)));
    },
  },
  {
    name: "no-default-route",
    title: "ns-blue loses its default route",
    finding: "pod-no-route",
    apply: (world) =>
      within(world.blue, (route) => {
        route.deleteRoute({ destination: "0.0.0.0/0" });
      }),
    mend: (world) => defaultRoute(world),
  },
  {
    name: "blackhole-in-pod",
    title: "ns-blue gets a blackhole route for 198.51.100.0/24",
    finding: "pod-route-refused",
    apply: (world) => within(world.blue, (route) => route.addRoute(BLACKHOLE)),
    mend: (world) =>
      gently(world.blue, (route) => {
        route.deleteRoute(BLACKHOLE);
      }),
  },
  {
    name: "wrong-gateway",
    title: "ns-blue's default route points to an address that no interface has",
    finding: "pod-gateway-unowned",
    apply: (world) => defaultRoute(world, "10.0.0.99"),
    mend: (world) => defaultRoute(world),
  },
  {
    name: "stale-gateway-mac",
    title: "ns-blue has a permanent neighbour entry with an old MAC address of the bridge",
    finding: "pod-gateway-wrong-mac",
    apply: (world) =>
      within(world.blue, (route) =>
        route.setNeighbour({
          interface: indexOf(route, LINK),
          address: PLAN.node.gatewayIpv4,
          mac: WRONG_MAC,
        }),
      ),
    mend: (world) =>
      gently(world.blue, (route) => {
        route.deleteNeighbour({ interface: indexOf(route, LINK), address: PLAN.node.gatewayIpv4 });
      }),
  },
  {
    name: "pod-firewall",
    title: "a firewall inside ns-blue drops what it sends to port 80",
    finding: "filter-rule-drops",
    apply: (world) =>
      changeRuleset(world.blue, "breaking the lab", [
        addTable(POD_FIREWALL),
        addChain(
          { ...POD_FIREWALL, chain: "output" },
          { base: { type: "filter", hook: "output", priority: 0 } },
        ),
        addRule(
          { ...POD_FIREWALL, chain: "output" },
          { expressions: [match("meta l4proto", "tcp"), match("tcp dport", 80), drop()] },
        ),
      ]),
    mend: (world) => changeRuleset(world.blue, "mending the lab", [destroyTable(POD_FIREWALL)]),
  },
  {
    name: "resolver-loopback",
    title: "ns-blue's resolv.conf names 127.0.0.53, copied from a host with systemd-resolved",
    finding: "resolver-loopback",
    onlyNames: true,
    apply: () => replaceResolvConf("nameserver 127.0.0.53\noptions edns0 trust-ad\n"),
    mend: restoreResolvConf,
  },
];
