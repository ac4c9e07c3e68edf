/** Keeps the routes to the pods of the other nodes as the cluster's Nodes say. */
import type { ReconcileStep, Repair } from "../agent/reconcile/step.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { WayoutError } from "../error.ts";
import { RT_TABLE } from "../linux/route/constants.ts";
import { isAbsent } from "../kernel/route/link-rtnetlink.ts";
import { deleteRouteRequest, replaceRouteRequest, type Route } from "../linux/route/route.ts";
import type { ClusterView } from "./cluster.ts";
import { DeletionGuard } from "./deletion-guard.ts";
import {
  deletionOf,
  isOwnRoute,
  ownRoutes,
  planRoutes,
  routeWishes,
  specOf,
  wishText,
  type PeerProblem,
  type RouteWish,
  type RouteWishes,
  type Way,
} from "./route-plan.ts";

/** What a comparison did because the cluster is another one, which is no repair. */
export interface RouteChanges {
  readonly set: number;
  readonly deleted: number;
}

/** Prefixes of pods to which routes of ours lead, and through which nodes; those that wait for their deletion included. */
export interface Led {
  readonly destinations: ReadonlySet<string>;
  readonly gateways: ReadonlySet<string>;
}

export interface RouteStepListener {
  readonly changed: (changes: RouteChanges) => void;
  /** So many routes are nobody's any more, of so many, and are deleted only when that is still so in `waitMs`. */
  readonly withheld: (count: number, of: number, waitMs: number) => void;
  /** Peers whose pods are not reached, when they are others than before. */
  readonly unreached: (problems: readonly PeerProblem[]) => void;
}

export class RouteStep implements ReconcileStep, Disposable {
  readonly name = "routes";
  readonly #route: Rtnetlink;
  readonly #guard: DeletionGuard;
  /** What this agent has set and what it was for: that it is missing again is a repair. */
  #applied = new Set<string>();
  #led: Led;
  #derived:
    | { readonly at: number; readonly view: ClusterView; readonly key: string; readonly wishes: RouteWishes }
    | undefined;
  #withheld = 0;
  #problems: readonly PeerProblem[] = [];

  constructor(
    node: NetworkNamespace,
    private readonly view: () => ClusterView | undefined,
    private readonly told: RouteStepListener,
    now?: () => number,
  ) {
    this.#route = Rtnetlink.open(node);
    this.#guard = new DeletionGuard(now);
    this.#led = ledBy(ownRoutes(this.#route.routes({ table: MAIN })));
  }

  /** Where routes of ours lead. The same value as long as that is the same: what is derived from it is not derived again. */
  get led(): Led {
    return this.#led;
  }

  /** Routes whose deletion waits. */
  get withheld(): number {
    return this.#withheld;
  }

  get problems(): readonly PeerProblem[] {
    return this.#problems;
  }

  run(): Repair[] {
    const view = this.view();
    if (view === undefined) return [];
    const routes = this.#route.routes({ table: MAIN });
    const there = ownRoutes(routes);
    const wanted = this.#wanted(view, routes);
    const { set, stale, extra } = planRoutes(wanted, there);
    const going = this.#believed(there, stale);
    const failures = this.#apply(set, [...going, ...extra]);
    const kept = going.length === 0 ? stale : [];
    const led = ledBy([...wanted.wishes, ...kept]);
    if (!isSameSet(led.destinations, this.#led.destinations) || !isSameSet(led.gateways, this.#led.gateways))
      this.#led = led;
    this.#tellProblems(wanted.problems);
    const repairs = set
      .filter((wish) => this.#applied.has(wishKey(wish)))
      .map((wish) => this.#repair(wish, there));
    const changes = { set: set.length - repairs.length, deleted: going.length + extra.length };
    if (changes.set + changes.deleted > 0) this.told.changed(changes);
    this.#applied = new Set(wanted.wishes.map(wishKey));
    if (failures.length > 0) throw failed(failures);
    return repairs;
  }

  [Symbol.dispose](): void {
    this.#route.close();
  }

  #believed(there: readonly Route[], stale: readonly Route[]): readonly Route[] {
    const count = (routes: readonly Route[]): number =>
      routes.filter(({ type }) => type !== "blackhole").length;
    const waitMs = this.#guard.waitMs(count(there), count(stale));
    const withheld = waitMs > 0 ? stale.length : 0;
    if (withheld > 0 && this.#withheld === 0) this.told.withheld(count(stale), count(there), waitMs);
    this.#withheld = withheld;
    return waitMs > 0 ? [] : stale;
  }

  /** Derived anew when the view, or what decides about the ways to the nodes, is another: that is a thousand questions. */
  #wanted(view: ClusterView, routes: readonly Route[]): RouteWishes {
    const addresses = this.#route.addresses();
    const key = JSON.stringify([
      addresses.map(({ interface: index, address, prefixLength }) => [index, address, prefixLength]),
      // Routes that router advertisements gave count down.
      routes.filter((route) => !isOwnRoute(route)).map((route) => ({ ...route, expiresSeconds: undefined })),
    ]);
    const now = performance.now();
    const last = this.#derived;
    const isFresh =
      last !== undefined && now - last.at < DERIVE_EVERY_MS && last.wishes.problems.length === 0;
    if (isFresh && last.view === view && last.key === key) return last.wishes;
    const own = new Set(addresses.map(({ address }) => address));
    const wishes = routeWishes(view, own, this.#ways(view));
    this.#derived = { at: now, view, key, wishes };
    return wishes;
  }

  /** What could not be done, as sentences. */
  #apply(set: readonly RouteWish[], deleted: readonly Route[]): string[] {
    const requests = [
      ...deleted.map((route) => deleteRouteRequest(deletionOf(route))),
      ...set.map((wish) => replaceRouteRequest(specOf(wish))),
    ];
    if (requests.length === 0) return [];
    const errors = this.#route.batchResults(requests);
    // What was to be deleted and is gone already was no failure.
    return [...errors]
      .filter(([index, error]) => index >= deleted.length || !isAbsent(error))
      .map(([, error]) => error.message);
  }

  /** All addresses in one question. */
  #ways({ peers }: ClusterView): (address: string) => Way {
    const addresses = [...new Set(peers.flatMap((peer) => peer.addresses))];
    const answers = this.#route.routesTo(addresses.map((destination) => ({ destination })));
    const ways = new Map(
      addresses.map((address, index): [string, Way] => {
        const answer = answers[index]!;
        if (answer instanceof Error)
          return [address, { lacking: `cannot be asked about: ${answer.message}` }];
        if (!answer.reachable) return [address, { lacking: `is not reached itself: ${answer.said}` }];
        const { gateway, interface: link, type } = answer.route;
        if (gateway !== undefined)
          return [address, { lacking: `is behind the router ${gateway}, and not on a link of this node` }];
        if (link === undefined || type !== "unicast")
          return [address, { lacking: `is not on a link of this node (${type})` }];
        return [address, { interface: link }];
      }),
    );
    return (address) => ways.get(address)!;
  }

  #tellProblems(problems: readonly PeerProblem[]): void {
    const isNews = JSON.stringify(problems) !== JSON.stringify(this.#problems);
    this.#problems = problems;
    if (isNews) this.told.unreached(problems);
  }

  #repair(wish: RouteWish, there: readonly Route[]): Repair {
    const text = wishText(wish);
    const found = there.find(
      ({ destination, type }) =>
        destination === wish.destination && (type === "blackhole") === (wish.type === "blackhole"),
    );
    return {
      step: this.name,
      object: `route ${text}`,
      found:
        found === undefined
          ? `the route ${text} to pods of ${wish.node} was missing`
          : `the route to ${wish.destination} (pods of ${wish.node}) led to ${found.gateway ?? "no gateway"}`,
    };
  }
}

const MAIN = RT_TABLE.main;
/** Rules and other tables decide as well, and are not looked at each time. */
const DERIVE_EVERY_MS = 30_000;

function ledBy(routes: readonly { readonly destination: string; readonly gateway?: string }[]): Led {
  return {
    destinations: new Set(routes.map(({ destination }) => destination)),
    gateways: new Set(routes.flatMap(({ gateway }) => gateway ?? [])),
  };
}

function isSameSet(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((one) => b.has(one));
}

function wishKey(wish: RouteWish): string {
  return `${wishText(wish)} ${wish.interface ?? ""}`;
}

function failed(failures: readonly string[]): WayoutError {
  return new WayoutError({
    code: "routes-refused",
    kind: "broken",
    doing: "setting routes to the pods of other nodes",
    said: [...new Set(failures)].slice(0, 3).join("; "),
    todo: "It is tried again. wayout needs CAP_NET_ADMIN, and the other nodes must be on a link of this one.",
  });
}
