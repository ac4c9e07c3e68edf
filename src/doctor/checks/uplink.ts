/** What a table of the node says about its way out that would make answers stay away. */
import { cidrContains, cidrOf, cidrText, parseCidr, type Cidr } from "../../address/cidr.ts";
import { isPrivateAddress } from "../../address/special-purpose.ts";
import type { Route } from "../../linux/route/route.ts";
import { command } from "../../text/command.ts";
import { familyFlag, finding, type CheckContext } from "../check.ts";
import type { Finding } from "../finding.ts";
import { hopsOf, isDefaultRoute, routeText } from "../predict/fib.ts";
import { neighbourAt } from "../predict/link-state.ts";

/** The port of a bridge that is routed over: the bridge takes what comes in, answers to its ARP requests included. */
export function enslavedUplink(context: CheckContext): Finding[] {
  const { outLink, end } = context.path;
  const { view } = context.node;
  const bridge = view.linkAt(outLink?.master);
  if (outLink === undefined || end !== "outside" || bridge?.kind !== "bridge") return [];
  const others = view.state.links.filter((one) => one.master === bridge.index && one.index !== outLink.index);
  const own = view.state.addresses.filter((one) => one.interface === outLink.index && one.scope === "global");
  return [
    finding("uplink-enslaved", {
      text: `${outLink.name}, the node's way out, is a port of bridge ${bridge.name}: what comes in goes to the bridge, and the node's addresses and routes are ${outLink.name}'s`,
      owner: `the program that put ${outLink.name} into ${bridge.name}`,
      evidence: [
        { source: `links of the node: ${outLink.name}`, value: `master ${bridge.name}` },
        {
          source: `addresses of ${outLink.name}`,
          value: own.map((one) => `${one.address}/${one.prefixLength}`).join(", ") || "none",
        },
        {
          source: `route to ${context.path.left?.destination ?? context.target.address}`,
          value: `dev ${outLink.name}`,
        },
      ],
      consequence: `answers to ${outLink.name}'s ARP requests reach ${bridge.name}, and its neighbours are forgotten`,
      ...(others.length === 0
        ? {
            fix: [
              context.fix("node", command`ip link set dev ${outLink.name} nomaster`, undefined, {
                kind: "leave-bridge",
                link: outLink.name,
              }),
            ],
          }
        : {}),
      advice: [`give ${bridge.name} the addresses and routes that ${outLink.name} has`],
      confidence: "likely",
    }),
  ];
}

/** The node's own gateway has a neighbour entry that is never asked about again. */
export function pinnedGateway(context: CheckContext): Finding[] {
  const { outLink, end } = context.path;
  const gateway = nextHop(context);
  if (outLink === undefined || gateway === undefined || end !== "outside") return [];
  const known = neighbourAt(context.node.view, outLink, gateway);
  if (known?.state !== "permanent" || known.mac === undefined) return [];
  const flag = gateway.includes(":") ? "-6 " : "";
  return [
    finding("uplink-gateway-pinned", {
      text: `the node has its gateway ${gateway} fixed at ${known.mac} (PERMANENT), and does not ask whether that is still so`,
      owner: "the program that fixed the entry",
      evidence: [
        {
          source: `ip ${flag}neigh show dev ${outLink.name}`,
          value: `${gateway} lladdr ${known.mac} PERMANENT`,
        },
      ],
      consequence:
        "when the router was replaced, or its address moved, frames go to a MAC address that no host has",
      fix: [
        context.fix(
          "node",
          command`ip ${familyFlag(gateway)} neigh del ${gateway} dev ${outLink.name}`,
          undefined,
          {
            kind: "forget-neighbour",
            place: "node",
            link: outLink.index,
            address: gateway,
          },
        ),
      ],
      confidence: "likely",
    }),
  ];
}

function nextHop({ path, node }: CheckContext): string | undefined {
  const destination = path.left?.destination;
  if (destination === undefined) return undefined;
  const way = node.view.fib.predict({
    destination,
    ...(path.sent === undefined ? {} : { source: path.sent.source }),
    ...(path.inLink === undefined ? {} : { iif: path.inLink.name }),
  });
  return way.kind === "route" ? way.gateway : undefined;
}

/** The source is an address of the node, of a link in another network than the one the packet leaves by. */
export function otherLinksAddress(context: CheckContext): Finding[] {
  const { outLink, left, end } = context.path;
  const { view } = context.node;
  if (outLink === undefined || left === undefined || end !== "outside") return [];
  const family = left.source.includes(":") ? 6 : 4;
  const own = view.state.addresses.find((one) => one.address === left.source);
  const link = view.linkAt(own?.interface);
  if (own === undefined || link === undefined || link.index === outLink.index) return [];
  // An address of the node as a whole (on loopback or a dummy) is announced; one of a network belongs there.
  if (own.prefixLength === (family === 4 ? 32 : 128) || link.layer === "loopback") return [];
  const mine = view.state.addresses.filter(
    (one) => one.interface === outLink.index && one.family === family && one.scope === "global",
  );
  if (mine.some((one) => cidrContains(cidrOf(one.address, one.prefixLength), left.source))) return [];
  const there = `${own.address}/${own.prefixLength}`;
  return [
    finding("other-links-address", {
      text: `packets leave by ${outLink.name} with ${left.source}, the address of ${link.name}, another link of the node`,
      owner: "the node's routing and translation",
      evidence: [
        { source: `addresses of ${link.name}`, value: there },
        {
          source: `addresses of ${outLink.name}`,
          value: mine.map((one) => `${one.address}/${one.prefixLength}`).join(", ") || "none",
        },
        { source: "source of the packet as it leaves", value: left.source },
      ],
      consequence: `the network behind ${outLink.name} drops foreign sources, or its answers come in by ${link.name}`,
      advice: [
        mine[0] === undefined
          ? `give ${outLink.name} an address to send from`
          : `translate what leaves by ${outLink.name} to ${mine[0].address} (masquerade does)`,
      ],
      confidence: "likely",
    }),
  ];
}

/**
 * A private destination that leaves by the default route, while its neighbours have routes of their own: another
 * node's part of the pod network whose route is missing.
 */
export function unroutedNetwork(context: CheckContext): Finding[] {
  const { left, end, sent } = context.path;
  const { view } = context.node;
  if (left === undefined || sent === undefined || end !== "outside") return [];
  if (!isPrivateAddress(left.destination) || left.destination.includes(":")) return [];
  const way = view.fib.predict({ destination: left.destination });
  if (way.kind !== "route" || way.route === undefined || !isDefaultRoute(way.route)) return [];
  const siblings = view.state.routes.filter((route) => isSibling(route, left.destination));
  // Pods of this node and their sisters elsewhere come out of one range.
  const ours = siblings.filter((route) => cidrContains(superNet(route), sent.source));
  const [first] = ours;
  if (first === undefined) return [];
  const { links } = view.state;
  const length = parseCidr(first.destination).prefixLength;
  const missing = cidrText(cidrOf(left.destination, length));
  return [
    finding("pod-network-unrouted", {
      text: `the node has no route to ${missing}, another node's part of the pod network: ${left.destination} leaves by “${routeText(way.route, links)}”`,
      owner: productOfRoute(first, links.find((one) => one.index === hopsOf(first)[0]?.interface)?.name),
      evidence: [
        { source: `ip route get ${left.destination}`, value: routeText(way.route, links) },
        ...ours
          .slice(0, 3)
          .map((route) => ({ source: "routes to other nodes' parts", value: routeText(route, links) })),
      ],
      consequence: "the default gateway does not know the pods' addresses",
      advice: [
        `see why the network's agent made no route to ${missing} (ip route; the agent's log; the other node's podCIDR)`,
      ],
      confidence: "likely",
    }),
  ];
}

/** A route by way of another machine to a part of the range that the destination is out of. */
function isSibling(route: Route, destination: string): boolean {
  if (route.family !== 4 || route.type !== "unicast" || isDefaultRoute(route)) return false;
  if (hopsOf(route).every((hop) => hop.gateway === undefined)) return false;
  const { prefixLength } = parseCidr(route.destination, "keep");
  return prefixLength >= 20 && prefixLength <= 28 && cidrContains(superNet(route), destination);
}

/** The range that a cluster gives its nodes their parts from: /16 in all the usual tools. */
function superNet(route: Route): Cidr {
  return cidrOf(route.destination.split("/")[0]!, 16);
}

function productOfRoute({ protocol }: Route, link: string | undefined): string {
  if (protocol === "bird") return "the pod network's routing daemon (Calico's bird)";
  if (link?.startsWith("flannel") === true) return "flannel";
  if (link?.startsWith("cilium") === true) return "Cilium";
  return "the pod network's agent";
}
