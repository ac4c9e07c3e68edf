/** The route to another node's part of the pod network is missing. */
import { familyOf, addressOf } from "../../address/ip.ts";
import { cidrContains, cidrOf, cidrText, parseCidr, type Cidr } from "../../address/cidr.ts";
import { isPrivateAddress } from "../../address/special-purpose.ts";
import type { Link } from "../../linux/route/link.ts";
import type { Route } from "../../linux/route/route.ts";
import { finding, type CheckContext } from "../check.ts";
import type { Evidence, Finding } from "../finding.ts";
import { networkdDeletes } from "../link-managers.ts";
import { hopsOf, isDefaultRoute, routeText } from "../predict/fib.ts";

/** The ranges that clusters give their nodes parts of, in all the usual tools: no longer than this. */
const RANGE = { 4: 16, 6: 48 } as const;
/** How long such parts are. */
const PART = { 4: [20, 28], 6: [56, 124] } as const;
/** What a node usually gets. */
const USUAL_PART = { 4: 24, 6: 64 } as const;

/**
 * A destination out of the pods' own range that leaves untranslated by the default route, although other parts of the range
 * have routes of their own, or this node's pods live beside it.
 */
export function unroutedNetwork(context: CheckContext): Finding[] {
  const { left, end, sent, outLink } = context.path;
  const { view } = context.node;
  if (left === undefined || sent === undefined || end !== "outside") return [];
  const family = familyOf(left.destination);
  const range = cidrOf(sent.source, RANGE[family]);
  if (!isPrivateAddress(left.destination) || !cidrContains(range, left.destination)) return [];
  const used = view.fib.onlyDefaultTo(left.destination);
  if (used === undefined) return [];
  // The network outside may be of this range, too.
  const isOutside = view.state.addresses.some(
    (one) => one.interface === outLink?.index && cidrContains(range, one.address),
  );
  const siblings = view.state.routes.filter((route) => isPart(route, family, range));
  if (siblings.length === 0 && isOutside) return [];
  return [findingOf(context, left.destination, family, used, siblings)];
}

/**
 * To another node's part of the range there is a route, and packets go there with the pod's own address: answers need one
 * on that node. Only where no answer came.
 */
export function routeBackMissing(context: CheckContext): Finding[] {
  const { left, end, sent, outLink } = context.path;
  const { view } = context.node;
  if (left === undefined || sent === undefined || end !== "outside" || left.source !== sent.source) return [];
  const family = familyOf(left.destination);
  const way = view.fib.predict({ destination: left.destination });
  if (way.kind !== "route" || way.route === undefined || way.gateway === undefined) return [];
  const { route, gateway } = way;
  if (!isPart(route, family, cidrOf(sent.source, RANGE[family]))) return [];
  const text = routeText(route, view.state.links);
  const mine = view.state.addresses.find(
    (one) => one.interface === outLink?.index && one.family === family && one.scope === "global",
  );
  const own = cidrText(cidrOf(sent.source, USUAL_PART[family]));
  return [
    finding("pod-network-unrouted", {
      text: `“${text}” leads to another node's part of the pod network: that node must have a route back to ${context.pod.name} (${sent.source}), whose address packets keep`,
      owner: `the pod network's agent on ${gateway}`,
      evidence: [
        { source: `ip route get ${left.destination}`, value: text },
        { source: "source of the packet as it leaves", value: left.source },
      ],
      consequence: "without that route its answers go to its default gateway",
      advice: [
        `on that node: ip route get ${sent.source}: does it lead back by ${mine?.address ?? "this node"}? Otherwise see why its agent made no route to this node's part (${own}, or as it is cut)`,
        "or the destination itself does not answer: look there",
      ],
      confidence: "possible",
    }),
  ];
}

function findingOf(
  context: CheckContext,
  destination: string,
  family: 4 | 6,
  used: Route,
  siblings: readonly Route[],
): Finding {
  const { links } = context.node.view.state;
  const [first] = siblings;
  const length = first === undefined ? USUAL_PART[family] : parseCidr(first.destination, "keep").prefixLength;
  const missing = cidrText(cidrOf(destination, length));
  const text = routeText(used, links);
  const deletes = networkdDeletes(context.snapshot, "foreignRoutes");
  return finding("pod-network-unrouted", {
    text: `the node has no route to ${missing}, ${first === undefined ? "which looks like " : ""}another node's part of the pod network: ${destination} leaves by “${text}”`,
    owner: networkAgent(first, links),
    evidence: [
      { source: `ip route get ${destination}`, value: text },
      ...siblings.slice(0, 3).map((route): Evidence => ({
        source: "routes to other nodes' parts",
        value: routeText(route, links),
      })),
      { source: `address of ${context.pod.name}, out of the same range`, value: context.path.sent!.source },
      ...(deletes === undefined ? [] : [deletes.evidence]),
    ],
    consequence: "the default gateway does not know the pods' addresses",
    advice: [
      `see why the network's agent made no route to ${missing} (ip route; the agent's log; the other node's podCIDR)`,
      `the other node needs one back to ${context.pod.name}'s network as well`,
      ...(deletes === undefined ? [] : [deletes.advice]),
    ],
    confidence: first === undefined ? "possible" : "likely",
  });
}

/** A route by way of another machine, or into a tunnel, to a part of the range. */
function isPart(route: Route, family: 4 | 6, range: Cidr): boolean {
  if (route.family !== family || route.type !== "unicast" || isDefaultRoute(route)) return false;
  if (hopsOf(route).every((hop) => hop.gateway === undefined)) return false;
  const prefix = parseCidr(route.destination, "keep");
  const [shortest, longest] = PART[family];
  return (
    prefix.prefixLength >= shortest &&
    prefix.prefixLength <= longest &&
    cidrContains(range, addressOf(route.destination))
  );
}

/** Who makes the routes to other nodes' pods, as the names of links and the route's protocol say. */
export function networkAgent(route: Route | undefined, links: readonly Link[]): string {
  const link = links.find(
    (one) => one.index === (route === undefined ? undefined : hopsOf(route)[0]?.interface),
  );
  const names = route === undefined ? links.map((one) => one.name) : [link?.name ?? ""];
  const has = (pattern: RegExp): boolean => names.some((name) => pattern.test(name));
  if (route?.protocol === "bird" || has(/^cali/)) return "the pod network's routing daemon (Calico's bird)";
  if (has(/^flannel/)) return "flannel";
  if (has(/^cilium/)) return "Cilium";
  if (has(/^kube-bridge/)) return "kube-router";
  return "the pod network's agent";
}
