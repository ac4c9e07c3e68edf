/** What a fix would change, as a value: a snapshot with the change made, so that the fix can be judged like a packet. */
import { IPV6_MIN_MTU } from "../../linux/link-layer.ts";
import { familyOf, isIp, DEFAULT_CIDR } from "../../address/ip.ts";
import { match } from "../../linux/nftables/match-builder.ts";
import { accept } from "../../linux/nftables/rule-builder.ts";
import type { Chain, Rule, Table } from "../../linux/nftables/ruleset.ts";
import type { IpsecPolicy } from "../../linux/xfrm.ts";
import type { Link } from "../../linux/route/link.ts";
import { RT_TABLE } from "../../linux/route/constants.ts";
import type { Route } from "../../linux/route/route.ts";
import type { PolicyRule } from "../../linux/route/rule.ts";
import type { NamespaceState, PodState, Snapshot } from "../../snapshot/snapshot.ts";
import type { Repair, RepairPlace } from "./repair.ts";
import { isLegacy } from "../wording.ts";
import { isDefaultRoute } from "../predict/fib.ts";
import { present } from "../../present.ts";

/** A change that a printed command makes. A repair is one, too. */
export type Change =
  | Repair
  | { readonly kind: "delete-policy-rule"; readonly place: RepairPlace; readonly rule: PolicyRule }
  | { readonly kind: "delete-route"; readonly place: RepairPlace; readonly route: Route }
  | {
      readonly kind: "replace-route";
      readonly place: RepairPlace;
      readonly route: Route;
      readonly by: Route;
    }
  | { readonly kind: "add-route"; readonly place: RepairPlace; readonly route: Route }
  | { readonly kind: "link-mtu"; readonly place: RepairPlace; readonly link: string; readonly mtu: number }
  | { readonly kind: "port"; readonly link: string; readonly state: Partial<NonNullable<Link["port"]>> }
  | { readonly kind: "arp-on"; readonly place: RepairPlace; readonly link: string }
  | { readonly kind: "add-policy-rule"; readonly place: RepairPlace; readonly rule: PolicyRule }
  /** A policy in front of this one lets the packet through as it is; or this one is gone, where it is the first. */
  | { readonly kind: "pass-ipsec"; readonly place: RepairPlace; readonly policy: IpsecPolicy }
  | { readonly kind: "leave-bridge"; readonly link: string }
  | {
      readonly kind: "forget-neighbour";
      readonly place: RepairPlace;
      readonly link: number;
      readonly address: string;
    }
  | {
      readonly kind: "delete-filter-rule";
      readonly place: RepairPlace;
      readonly table: Table;
      readonly chain: Chain;
      readonly rule: Rule;
    }
  | {
      readonly kind: "replace-filter-rule";
      readonly place: RepairPlace;
      readonly table: Table;
      readonly chain: Chain;
      readonly rule: Rule;
      readonly by: Rule;
    }
  | {
      /** A rule in front of all others of a chain that accepts what these conditions say. */
      readonly kind: "accept-first";
      readonly place: RepairPlace;
      readonly table: Table;
      readonly chain: Chain;
      readonly conditions: readonly (readonly [selector: Parameters<typeof match>[0], value: string])[];
    }
  | {
      readonly kind: "accept-policy";
      readonly place: RepairPlace;
      readonly table: Table;
      readonly chain: Chain;
    };

export interface Changed {
  readonly snapshot: Snapshot;
  readonly pod: PodState;
}

/** The snapshot with the changes made; undefined when one of them is beyond what is modelled. */
export function withChanges(
  snapshot: Snapshot,
  pod: PodState,
  changes: readonly Change[],
): Changed | undefined {
  let changed: Changed = { snapshot, pod };
  for (const change of changes) {
    const place = "place" in change ? change.place : "node";
    const state = place === "node" ? changed.snapshot.node : changed.pod.state;
    const after = state === undefined ? undefined : changedState(state, change);
    if (after === undefined) return undefined;
    // The kernel's own answers were those of before.
    changed = put(changed, place, { ...after, routeAnswers: [] });
  }
  return changed;
}

function put({ snapshot, pod }: Changed, place: RepairPlace, state: NamespaceState): Changed {
  if (place === "node") return { snapshot: { ...snapshot, node: state }, pod };
  const changed = { ...pod, state };
  return {
    pod: changed,
    snapshot: { ...snapshot, pods: snapshot.pods.map((one) => (one === pod ? changed : one)) },
  };
}

function changedState(state: NamespaceState, change: Change): NamespaceState | undefined {
  switch (change.kind) {
    case "sysctl":
      return withSysctl(state, change.name, change.value);
    case "link-mtu":
      return withMtu(state, change.link, change.mtu);
    case "port":
      return withLink(state, change.link, (link) =>
        link.port === undefined ? link : { ...link, port: { ...link.port, ...change.state } },
      );
    case "arp-on":
      return withLink(state, change.link, (link) => ({
        ...link,
        flags: link.flags.filter((flag) => flag !== "NOARP"),
      }));
    case "add-policy-rule":
      return { ...state, rules: [...state.rules, change.rule] };
    case "pass-ipsec":
      return withoutPolicy(state, change.policy);
    case "leave-bridge":
      return withLink(state, change.link, freed);
    case "delete-policy-rule":
      return { ...state, rules: state.rules.filter((one) => one !== change.rule) };
    case "delete-route":
      return { ...state, routes: state.routes.filter((one) => one !== change.route) };
    case "replace-route":
      return { ...state, routes: state.routes.map((one) => (one === change.route ? change.by : one)) };
    case "add-route":
      return { ...state, routes: [...state.routes, change.route] };
    case "add-default-route":
      return withDefaultRoute(state, change);
    case "forget-neighbour":
      return {
        ...state,
        neighbours: state.neighbours.filter(
          (one) => one.interface !== change.link || one.address !== change.address,
        ),
      };
    case "delete-filter-rule":
      return withChain(state, change.table, change.chain, (chain) => ({
        ...chain,
        rules: chain.rules.filter((one) => one !== change.rule),
      }));
    case "replace-filter-rule":
      return withChain(state, change.table, change.chain, (chain) => ({
        ...chain,
        rules: chain.rules.map((one) => (one === change.rule ? change.by : one)),
      }));
    case "accept-first":
      return withChain(state, change.table, change.chain, (chain) => ({
        ...chain,
        rules: [acceptRule(change.conditions), ...chain.rules],
      }));
    case "accept-policy":
      return withChain(state, change.table, change.chain, (chain) =>
        chain.base === undefined ? chain : { ...chain, base: { ...chain.base, policy: "accept" } },
      );
    case "link-up":
    case "enslave":
    case "add-address":
    case "masquerade":
    case "restore-nat":
    case "forget-flows":
      return undefined;
  }
}

/** `net.ipv4.conf.LINK.KEY` stands with the link, every other one by its name. */
function withSysctl(state: NamespaceState, name: string, value: string): NamespaceState {
  const sysctls = { ...state.sysctls, [name]: value };
  const all = name === "net.ipv4.ip_forward" ? { family: "4", link: "all", key: "forwarding" } : undefined;
  const own = all ?? /^net\.ipv(?<family>[46])\.conf\.(?<link>.+)\.(?<key>[^.]+)$/.exec(name)?.groups;
  if (own === undefined) return { ...state, sysctls };
  const field = own["family"] === "4" ? "ipv4" : "ipv6";
  const { link: wanted, key } = own;
  // Writing to "all" sets what the links have only for forwarding.
  const reaches = (link: Link): boolean => link.name === wanted || (wanted === "all" && key === "forwarding");
  const links = state.links.map((link) => {
    const settings = link[field];
    return settings === undefined || !reaches(link)
      ? link
      : { ...link, [field]: { ...settings, [key]: Number(value) } };
  });
  return { ...state, sysctls, links };
}

/** Below its minimum the kernel takes IPv6 off the link, addresses and routes included (addrconf_notify). */
function withMtu(state: NamespaceState, name: string, mtu: number): NamespaceState {
  const link = state.links.find((one) => one.name === name);
  const changed = withLink(state, name, (one) => ({ ...one, mtu }));
  if (link === undefined || mtu >= IPV6_MIN_MTU) return changed;
  const stays = (one: { readonly family: 4 | 6; readonly interface?: number }): boolean =>
    one.family === 4 || one.interface !== link.index;
  return {
    ...changed,
    addresses: changed.addresses.filter(stays),
    routes: changed.routes.filter(stays),
    neighbours: changed.neighbours.filter(stays),
  };
}

function withLink(state: NamespaceState, name: string, change: (link: Link) => Link): NamespaceState {
  return { ...state, links: state.links.map((link) => (link.name === name ? change(link) : link)) };
}

function withoutPolicy(state: NamespaceState, policy: IpsecPolicy): NamespaceState {
  if (state.ipsec === undefined) return state;
  const { policies } = state.ipsec;
  const passing = policy.priority === 0 ? [] : [{ ...policy, action: "allow" as const, templates: [] }];
  return {
    ...state,
    ipsec: { ...state.ipsec, policies: policies.flatMap((one) => (one === policy ? passing : [one])) },
  };
}

function freed(link: Link): Link {
  const free: { -readonly [K in keyof Link]: Link[K] } = { ...link };
  delete free.master;
  delete free.port;
  delete free.portKind;
  return free;
}

/** The metric that the kernel gives an IPv6 route to which nobody gave one (IP6_RT_PRIO_USER). */
const IP6_RT_PRIO_USER = 1024;

/** `ip route replace` takes the place of a route with the same metric; beside any other one it is one more. */
function withDefaultRoute(
  state: NamespaceState,
  { gateway, link: linkName, source }: Extract<Repair, { kind: "add-default-route" }>,
): NamespaceState | undefined {
  const link = state.links.find((one) => one.name === linkName);
  if (link === undefined || !isIp(gateway)) return undefined;
  const family = familyOf(gateway);
  const metric = family === 6 ? IP6_RT_PRIO_USER : 0;
  const kept = state.routes.filter(
    (one) =>
      one.family !== family ||
      one.table !== RT_TABLE.main ||
      !isDefaultRoute(one) ||
      (one.metric ?? 0) !== metric,
  );
  const route: Route = present({
    family,
    type: "unicast",
    destination: DEFAULT_CIDR[family],
    table: RT_TABLE.main,
    protocol: "boot",
    scope: "global",
    metric: metric === 0 ? undefined : metric,
    interface: link.index,
    gateway,
    preferredSource: source,
    flags: [],
    metrics: {},
  });
  return { ...state, routes: [...kept, route] };
}

/** A route to one prefix over a link, as `ip route add PREFIX dev LINK` makes it. */
export function linkRoute(link: Link, prefix: string): Route {
  const family = familyOf(prefix);
  return present({
    family,
    type: "unicast",
    destination: prefix,
    table: RT_TABLE.main,
    protocol: "boot",
    scope: family === 4 ? "link" : "global",
    metric: family === 6 ? IP6_RT_PRIO_USER : undefined,
    interface: link.index,
    flags: [],
    metrics: {},
  });
}

/** By name: after the first of several changes the objects are others. */
function isSame(one: Table, other: Table): boolean {
  return one.family === other.family && one.name === other.name && isLegacy(one) === isLegacy(other);
}

function withChain(
  state: NamespaceState,
  table: Table,
  chain: Chain,
  change: (chain: Chain) => Chain,
): NamespaceState {
  const inTable = (one: Table): Table =>
    isSame(one, table)
      ? { ...one, chains: one.chains.map((each) => (each.name === chain.name ? change(each) : each)) }
      : one;
  return {
    ...state,
    legacy: state.legacy.map(inTable),
    ...present({
      ruleset:
        state.ruleset === undefined
          ? undefined
          : { ...state.ruleset, tables: state.ruleset.tables.map(inTable) },
    }),
  };
}

function acceptRule(conditions: Extract<Change, { kind: "accept-first" }>["conditions"]): Rule {
  return {
    handle: 0,
    expressions: [...conditions.flatMap(([selector, value]) => match(selector, value)), accept()],
  };
}
