/**
 * Which routes lead to the pods of the other nodes, and what of the routes that are there is to be changed. Pure.
 *
 * A node's pods are reached through the node: `10.244.2.0/24 via 192.0.2.2 dev eth0`. That works where the other node is on
 * a link of ours; a router in between would have to know the way, and a route of ours could not tell it.
 */
import { cidrContains, cidrsOverlap, parseCidr, type Cidr } from "../address/cidr.ts";
import { ascending, prefixFamily } from "../address/ip.ts";
import type { Route, RouteSpec } from "../linux/route/route.ts";
import { RT_TABLE } from "../linux/route/constants.ts";
import { ROUTE_PROTOCOL } from "../naming/names.ts";
import { addressIn, type ClusterNode } from "./cluster-node.ts";
import type { ClusterView } from "./cluster.ts";
import { present } from "../present.ts";

/** Behind every other route to the same prefix: packets to a pod that is gone end here, and not in a circle. */
const BLACKHOLE_METRIC = 0x7fff_ffff;

/** Where the kernel sends a packet to a node's address. */
export type Way =
  | { readonly interface: number }
  /** Not directly: the rest of a sentence that begins with the address. */
  | { readonly lacking: string };

export interface RouteWish {
  readonly destination: string;
  readonly type: "unicast" | "blackhole";
  readonly gateway?: string;
  readonly interface?: number;
  /** Whose pods they are. */
  readonly node: string;
}

/** Why the pods of a node are not reached, as a sentence. */
export interface PeerProblem {
  readonly node: string;
  readonly text: string;
}

export interface RouteWishes {
  readonly wishes: readonly RouteWish[];
  readonly problems: readonly PeerProblem[];
  /** The podCIDRs of all nodes, those that cannot be routed included, with the address of each node. */
  readonly claimed: ReadonlyMap<string, string | undefined>;
}

export interface RoutePlan {
  /** Missing, or leading elsewhere. */
  readonly set: readonly RouteWish[];
  /** Nobody's any more: to be deleted when that is believed. */
  readonly stale: readonly Route[];
  /** A second route to a prefix that stays: never missed. */
  readonly extra: readonly Route[];
}

/** @param wayTo where the kernel would send to that address */
export function routeWishes(
  { own, peers }: ClusterView,
  ownAddresses: ReadonlySet<string>,
  wayTo: (address: string) => Way,
): RouteWishes {
  const problems: PeerProblem[] = [];
  const claimed = new Map<string, string | undefined>();
  const taken: { readonly cidr: Cidr; readonly node: string }[] = [];
  const wishes: RouteWish[] = own.podCidrs.map((destination) => {
    taken.push({ cidr: parseCidr(destination), node: own.name });
    claimed.set(destination, undefined);
    return { destination, type: "blackhole", node: own.name };
  });
  const index = new PrefixIndex(taken);
  for (const peer of byAge(peers)) {
    for (const problem of peer.problems) problems.push({ node: peer.name, text: problem });
    for (const destination of peer.podCidrs) {
      const gateway = addressIn(peer, prefixFamily(destination));
      const cidr = parseCidr(destination);
      const problem = problemOf(cidr, gateway, index, ownAddresses);
      if (problem !== undefined) {
        problems.push({ node: peer.name, text: `its pods ${destination} are not reached: ${problem}` });
        continue;
      }
      index.add({ cidr, node: peer.name });
      claimed.set(destination, gateway);
      const way = wayTo(gateway!);
      if ("lacking" in way) {
        problems.push({
          node: peer.name,
          text: `its pods ${destination} are not reached: its address ${gateway} ${way.lacking}`,
        });
        continue;
      }
      wishes.push({ destination, type: "unicast", gateway: gateway!, ...way, node: peer.name });
    }
  }
  return { wishes, problems, claimed };
}

/** The oldest first: who comes later takes no prefix away. */
function byAge(nodes: readonly ClusterNode[]): ClusterNode[] {
  return [...nodes].sort((a, b) => ascending(a.created, b.created) || ascending(a.name, b.name));
}

function problemOf(
  cidr: Cidr,
  gateway: string | undefined,
  index: PrefixIndex,
  ownAddresses: ReadonlySet<string>,
): string | undefined {
  if (gateway === undefined) return `it has no InternalIP of IPv${cidr.family}`;
  if (ownAddresses.has(gateway)) return `its address ${gateway} is this node's own`;
  const other = index.overlapping(cidr);
  if (other !== undefined) return `they overlap those of ${other}`;
  // A user who may write a Node must not draw the nodes' own packets to it.
  if (cidrContains(cidr, gateway)) return `its own address ${gateway} is one of them`;
  const caught = [...ownAddresses].find((address) => cidrContains(cidr, address));
  return caught === undefined ? undefined : `this node's own address ${caught} is one of them`;
}

/** Prefixes by their beginning: what overlaps is found without asking all of a thousand. */
class PrefixIndex {
  readonly #sorted: { readonly cidr: Cidr; readonly node: string }[] = [];

  constructor(prefixes: readonly { readonly cidr: Cidr; readonly node: string }[]) {
    for (const one of prefixes) if (this.overlapping(one.cidr) === undefined) this.add(one);
  }

  add(one: { readonly cidr: Cidr; readonly node: string }): void {
    this.#sorted.splice(this.#place(one.cidr), 0, one);
  }

  /** They do not overlap each other, so only the neighbours of its place can. */
  overlapping(cidr: Cidr): string | undefined {
    const at = this.#place(cidr);
    return [this.#sorted[at - 1], this.#sorted[at]].find(
      (one) => one !== undefined && cidrsOverlap(one.cidr, cidr),
    )?.node;
  }

  /** The first that begins at or behind it. */
  #place({ family, first }: Cidr): number {
    let [low, high] = [0, this.#sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const { cidr } = this.#sorted[middle]!;
      if (cidr.family < family || (cidr.family === family && cidr.first < first)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export function isOwnRoute({ protocol, table }: Route): boolean {
  return protocol === ROUTE_PROTOCOL && table === RT_TABLE.main;
}

/** Ours among all routes of a node. */
export function ownRoutes(routes: readonly Route[]): Route[] {
  return routes.filter(isOwnRoute);
}

/** @param there our routes, as ownRoutes gives them */
export function planRoutes({ wishes, claimed }: RouteWishes, there: readonly Route[]): RoutePlan {
  const byDestination = new Map<string, Route[]>();
  for (const route of there) {
    const key = keyOf(route);
    byDestination.set(key, [...(byDestination.get(key) ?? []), route]);
  }
  const set: RouteWish[] = [];
  const extra: Route[] = [];
  for (const wish of wishes) {
    const key = keyOf(wish);
    const found = byDestination.get(key) ?? [];
    byDestination.delete(key);
    const right = found.find((route) => carriesOut(route, wish));
    if (right === undefined) set.push(wish);
    else extra.push(...found.filter((route) => route !== right));
  }
  // A node that cannot be routed at this moment, for its link is down, keeps the route that leads to it.
  const stale = [...byDestination.values()].flat().filter((route) => {
    const gateway = claimed.get(route.destination);
    return !claimed.has(route.destination) || gateway === undefined || route.gateway !== gateway;
  });
  return { set, stale, extra };
}

/** The blackhole of the node's own prefix and a route to it from times in which it was another's are two things. */
function keyOf({ type, destination }: Pick<RouteWish, "destination"> & { readonly type: string }): string {
  return `${type === "blackhole" ? type : ""} ${destination}`;
}

function carriesOut(route: Route, wish: RouteWish): boolean {
  if (wish.type === "blackhole") return route.type === "blackhole" && route.metric === BLACKHOLE_METRIC;
  return (
    route.type === "unicast" &&
    route.gateway === wish.gateway &&
    route.interface === wish.interface &&
    route.nextHops === undefined
  );
}

export function specOf({ destination, type, gateway, interface: index }: RouteWish): RouteSpec {
  const common = { destination, table: RT_TABLE.main, protocol: ROUTE_PROTOCOL } as const;
  if (type === "blackhole") return { ...common, type, metric: BLACKHOLE_METRIC };
  return {
    ...common,
    ...present({ gateway, interface: index }),
  };
}

/** What names this very route, and no other to the same prefix. */
export function deletionOf({ destination, type, gateway, metric, interface: index }: Route): RouteSpec {
  return present({
    destination,
    type,
    table: RT_TABLE.main,
    protocol: ROUTE_PROTOCOL,
    metric,
    gateway,
    interface: index === undefined || type === "blackhole" ? undefined : index,
  });
}

export function wishText({
  destination,
  type,
  gateway,
}: Pick<RouteWish, "destination" | "type" | "gateway">): string {
  return type === "blackhole" ? `blackhole ${destination}` : `${destination} via ${gateway}`;
}
