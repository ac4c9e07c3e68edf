/** A route leads the packet to where it gets no further, and another one, which it stands before, would carry it. */
import type { Link } from "../../linux/route/link.ts";
import type { Route } from "../../linux/route/route.ts";
import { isPrivateAddress } from "../../address/special-purpose.ts";
import { command } from "../../text/command.ts";
import { familyFlag, finding, type CheckContext } from "../check.ts";
import type { Finding, Fix } from "../finding.ts";
import { hopsOf, isDefaultRoute, routeText, routeWords, type RouteRequest } from "../predict/fib.ts";
import type { Stop } from "../predict/path.ts";
import { PROTOCOL_NUMBER } from "../predict/packet.ts";
import type { RepairPlace } from "../remedy/repair.ts";
import { predictPath } from "../predict/predict.ts";
import { preparedNamespace } from "../predict/walk.ts";
import { withChanges } from "../remedy/change.ts";
import { takenAway } from "../remedy/taken-away.ts";
import { stopText } from "../stop-text.ts";
import { deleteRoute, hostRoute } from "./route-fix.ts";
import { present } from "../../present.ts";

/** What ends a packet at the link that a route chose, translated or not. */
const DEAD_ENDS: ReadonlySet<Stop["kind"]> = new Set<Stop["kind"]>([
  "link-down",
  "no-carrier",
  "neighbour-failed",
  "link-noarp",
]);

export function capturedByRoute(context: CheckContext): Finding[] {
  const { outLink } = context.path;
  const flow = context.routedFlow;
  const stop = deadEnd(context, "node");
  if (stop === undefined || flow === undefined || !isAt(stop, outLink)) return [];
  return captured(context, "node", flow, stop);
}

/** The same in the pod: a VPN's routes whose tunnel is gone. */
export function capturedByPodRoute(context: CheckContext): Finding[] {
  const { path, target } = context;
  const stop = deadEnd(context, "pod");
  // What stands before it on the way is another cause.
  if (stop === undefined || path.stops[0] !== stop || context.inside === undefined) return [];
  const source = path.sent?.source;
  const flow = present({
    destination: target.address,
    protocol: PROTOCOL_NUMBER[target.protocol],
    destinationPort: target.port,
    uid: target.sender?.uid ?? 0,
    source,
  });
  return captured(context, "pod", flow, stop);
}

function deadEnd({ path }: CheckContext, place: RepairPlace): Stop | undefined {
  return path.stops.find((one) => one.place === place && one.direction === "out" && DEAD_ENDS.has(one.kind));
}

function isAt(stop: Stop, link: Link | undefined): boolean {
  return "link" in stop && stop.link.index === link?.index;
}

function captured(context: CheckContext, place: RepairPlace, flow: RouteRequest, stop: Stop): Finding[] {
  const { view } = place === "node" ? context.node : context.inside!;
  const way = view.fib.predict(flow);
  // Of several next hops one is dead: that is told by the leg.
  if (way.kind !== "route" || way.route === undefined || way.hops !== undefined) return [];
  // A network of one's own is no route in the way: without it nobody there is reached.
  if (way.route.protocol === "kernel") return [];
  const other = carriesInstead(context, place, way.route, flow);
  return other === undefined ? [] : [findingOf(context, place, way.route, other, stop)];
}

/** Kinds of links behind which other hosts' networks are. */
const TUNNELS: ReadonlySet<string> = new Set([
  "vxlan",
  "geneve",
  "ipip",
  "sit",
  "ip6tnl",
  "gre",
  "wireguard",
  "tun",
]);

function isIntoTunnel(link: Link | undefined): boolean {
  return TUNNELS.has(link?.kind ?? "");
}

/** The route that carries the packet all the way when this one is gone. */
function carriesInstead(
  { snapshot, pod, target, path: before }: CheckContext,
  place: RepairPlace,
  route: Route,
  flow: RouteRequest,
): Route | undefined {
  const changed = withChanges(snapshot, pod, [{ kind: "delete-route", place, route }]);
  if (changed === undefined) return undefined;
  const { path } = predictPath(changed.snapshot, changed.pod, target);
  if (path.end !== "outside" || takenAway(before.stops, path.stops) === undefined) return undefined;
  // Into a tunnel private addresses are led on purpose: by the default route nobody has them.
  const destination = path.left?.destination ?? target.address;
  const { fib } = preparedNamespace(changed.snapshot.node).view;
  if (place === "node" && isPrivateAddress(destination) && isIntoTunnel(before.outLink)) {
    if (fib.onlyDefaultTo(destination) !== undefined) return undefined;
  }
  const state = place === "node" ? changed.snapshot.node : changed.pod.state!;
  // In the pod the source is chosen by the way.
  const { source: _, ...anySource } = flow;
  const own = preparedNamespace(state).view.fib.predict(place === "node" ? flow : anySource);
  return own.kind === "route" ? own.route : undefined;
}

function findingOf(
  context: CheckContext,
  place: RepairPlace,
  route: Route,
  other: Route,
  stop: Stop,
): Finding {
  const { links } = (place === "node" ? context.node : context.inside!).view.state;
  const { name } = context.pod;
  const where = place === "node" ? "" : ` in ${name}`;
  const destination = context.path.routed?.destination ?? context.target.address;
  const text = routeText(route, links);
  const instead = routeText(other, links);
  return finding(place === "node" ? "route-captures" : "pod-route-captures", {
    text: `route “${text}”${where} takes what ${name} sends to where it stops: ${stopText(stop)}; “${instead}” would carry it`,
    owner: authorOf(route),
    evidence: [
      { source: `ip route get ${destination}${where}`, value: text },
      { source: "behind it", value: stopText(stop) },
      { source: "the same without the route", value: instead },
    ],
    consequence: "without the route the pod's packets would get through",
    ...cureOf(context, place, route, other),
    confidence: "likely",
  });
}

/** Nobody's default route is taken away: the one that works is given the better metric. */
function cureOf(
  context: CheckContext,
  place: RepairPlace,
  route: Route,
  other: Route,
): { readonly fix?: readonly (Fix | undefined)[]; readonly advice?: readonly string[] } {
  if (!isDefaultRoute(route)) return deleteRoute(context, place, route);
  const { links } = (place === "node" ? context.node : context.inside!).view.state;
  const text = routeText(route, links);
  const metric = (route.metric ?? 0) - 1;
  const advice = [
    `for good: “${text}” must be deleted, or given a higher metric, by the program that made it`,
  ];
  const isPlain = hopsOf(other).length === 1 && other.table === route.table && isDefaultRoute(other);
  if (!isPlain) return { advice };
  // Nothing comes before 0, which IPv6 does not have: then the destination alone gets a route of its own.
  if (metric < 1) return { fix: hostRoute(context, place, other), advice };
  const better = { ...other, metric };
  const line = command`ip ${familyFlag(route.destination)} route add ${routeWords(better, links)}`;
  return {
    fix: [context.fix(place, line, undefined, { kind: "add-route", place, route: better })],
    advice,
  };
}

function authorOf({ protocol, gateway }: Route): string {
  switch (protocol) {
    case "dhcp":
      return "the DHCP client of that link";
    case "ra":
      return `the router advertisements of ${gateway ?? "that link"}`;
    case "bird":
    case "zebra":
    case "bgp":
    case "ospf":
      return `the routing daemon (${protocol})`;
    default:
      return "the program that made the route (a VPN, the set-up of a second uplink)";
  }
}
