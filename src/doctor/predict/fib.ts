/**
 * Which way a packet goes, from a snapshot alone: the rules in order of their priority, in each table the longest
 * prefix, then the lowest metric (net/core/fib_rules.c, net/ipv4/fib_trie.c, net/ipv6/ip6_fib.c). Where the snapshot
 * holds the kernel's own answer to the same question, that answer stands.
 */
import { IP_PROTOCOL } from "../../linux/ip-protocol.ts";
import { RT_TABLE, routingTableText } from "../../linux/route/constants.ts";
import { cidrContains, parseCidr, type Cidr } from "../../address/cidr.ts";
import { ipFamily, ipNumber, isDefaultCidr, type IpFamily } from "../../address/ip.ts";
import type { Link } from "../../linux/route/link.ts";
import type { NextHop, Route, RouteAnswer } from "../../linux/route/route.ts";
import type { PolicyRule } from "../../linux/route/rule.ts";
import type { NamespaceState, RecordedQuery } from "../../snapshot/snapshot.ts";
import { protocolMatches } from "./rule-selector.ts";
import { present } from "../../present.ts";

/** include/uapi/linux/rtnetlink.h */

/** Which of several usable next hops a packet takes. The kernel decides by a hash; a prediction takes them in turn. */
export type ChooseHop = (hops: readonly NextHop[], route: Route) => NextHop;

export interface RouteRequest extends RecordedQuery {
  /** The first is taken when absent. */
  readonly choose?: ChooseHop;
  readonly protocol?: number;
  /** Of the socket; what is forwarded has the namespace's root. */
  readonly uid?: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** The TOS byte without its ECN bits; 0 when absent. */
  readonly tos?: number;
}

/** What became of the question. */
export type RouteResult =
  | {
      readonly kind: "route";
      /** `unicast`, or `local`: the packet is for this namespace itself. */
      readonly type: "unicast" | "local" | "broadcast" | "multicast" | "anycast";
      readonly link: Link;
      readonly gateway: string | undefined;
      /** RTA_PREFSRC of the chosen route, or the kernel's choice. */
      readonly source: string | undefined;
      readonly mtu: number | undefined;
      readonly table: number | undefined;
      readonly route: Route | undefined;
      readonly rule: PolicyRule | undefined;
      /** All usable next hops of a multipath route. */
      readonly hops?: readonly NextHop[];
      /** The kernel itself said so. */
      readonly authority: "kernel" | "snapshot";
    }
  | {
      readonly kind: "refused";
      /** errno name: ENETUNREACH nobody matched, EHOSTUNREACH unreachable, EACCES prohibit, EINVAL blackhole. */
      readonly error: string;
      readonly route: Route | undefined;
      readonly rule: PolicyRule | undefined;
      readonly authority: "kernel" | "snapshot";
    };

/** Routing tables of one namespace, prepared for many questions. */
export class Fib {
  readonly #rules: readonly PolicyRule[];
  /** By family and table. Prepared when first asked: a packet meets few of them. */
  readonly #routes = new Map<string, Route[]>();
  readonly #tables = new Map<string, readonly PreparedRoute[]>();
  readonly #own: ReadonlySet<string>;
  #answers: Map<string, RouteAnswer> | undefined;
  readonly #links: ReadonlyMap<number, Link>;
  readonly #linkByName: ReadonlyMap<string, Link>;

  constructor(readonly state: NamespaceState) {
    this.#links = new Map(state.links.map((link) => [link.index, link]));
    this.#linkByName = new Map(state.links.map((link) => [link.name, link]));
    this.#own = new Set(
      state.addresses
        .filter(({ flags }) => !flags.includes("tentative") && !flags.includes("dadfailed"))
        .map((one) => one.address),
    );
    this.#rules = [...state.rules].sort((a, b) => a.priority - b.priority);
    for (const route of state.routes) {
      const key = tableKey(route.family, route.table);
      const list = this.#routes.get(key);
      if (list === undefined) this.#routes.set(key, [route]);
      else list.push(route);
    }
  }

  /** The routes of a table, the longest prefix first. */
  #table(family: IpFamily, table: number): readonly PreparedRoute[] {
    const key = tableKey(family, table);
    let prepared = this.#tables.get(key);
    if (prepared === undefined) {
      prepared = (this.#routes.get(key) ?? [])
        .map((route) => ({ route, cidr: parseCidr(route.destination, "keep") }))
        .sort(
          (a, b) =>
            b.cidr.prefixLength - a.cidr.prefixLength ||
            (b.route.tos ?? 0) - (a.route.tos ?? 0) ||
            (a.route.metric ?? 0) - (b.route.metric ?? 0),
        );
      this.#tables.set(key, prepared);
    }
    return prepared;
  }

  /** The kernel's recorded answer, else the one that follows from rules and tables. */
  lookup(request: RouteRequest): RouteResult {
    const predicted = this.predict(request);
    // Of several next hops the kernel's answer names one, and another packet takes another.
    if (predicted.kind === "route" && predicted.hops !== undefined) return predicted;
    if (!this.#wasAskedAbout(request, predicted)) return predicted;
    return this.#recorded(request, predicted) ?? predicted;
  }

  /**
   * The kernel was asked by addresses: where rules or routes look at ports, users or TOS as well, it answered about another
   * flow.
   */
  #wasAskedAbout(request: RouteRequest, predicted: RouteResult): boolean {
    const { destination, source, iif, mark } = request;
    const asked = this.predict(
      present({
        destination,
        source,
        iif,
        mark,
        // inet_rtm_getroute asks as for UDP where no protocol is named; inet6_rtm_getroute as for none.
        protocol: ipFamily(destination) === 4 ? IP_PROTOCOL.udp : undefined,
      }),
    );
    return asked.rule === predicted.rule && asked.route === predicted.route;
  }

  /** The next hop of a multipath route that the kernel named for this flow; undefined when it was not asked about it. */
  recordedHop(
    request: RouteRequest,
    predicted: RouteResult,
  ): Pick<NextHop, "interface" | "gateway"> | undefined {
    if (!this.#wasAskedAbout(request, predicted)) return undefined;
    const answer = this.#answerTo(request);
    return answer?.reachable === true ? answer.route : undefined;
  }

  /** The answer that follows from rules and tables alone. */
  predict(request: RouteRequest): RouteResult {
    const family = ipFamily(request.destination);
    for (let index = 0, hops = 0; index < this.#rules.length && hops < 1000; index++, hops++) {
      const rule = this.#rules[index]!;
      if (rule.family !== family || !this.#selects(rule, request)) continue;
      if (rule.action === "goto") {
        const target = this.#rules.findIndex(
          (other) => other.priority === rule.goto && other.family === family,
        );
        if (target > index) index = target - 1;
        continue;
      }
      const refusal = RULE_REFUSALS[rule.action];
      if (refusal !== undefined) {
        return { kind: "refused", error: refusal, route: undefined, rule, authority: "snapshot" };
      }
      if (rule.action !== "table") continue;
      const found = this.#inTable(family, rule.table, request);
      if (found === undefined || found.route.type === "throw") continue;
      if (suppressed(rule, found)) continue;
      return this.#resultOf(found, rule);
    }
    return {
      kind: "refused",
      error: "ENETUNREACH",
      route: undefined,
      rule: undefined,
      authority: "snapshot",
    };
  }

  /** Whether an address belongs to this namespace itself, or will in a moment: IPv6's entry comes behind the address. */
  isLocal(address: string): boolean {
    return this.localRoute(address)?.type === "local" || this.#own.has(address);
  }

  /** The entry of the local table that an address finds: its own addresses and broadcasts. */
  localRoute(address: string): Route | undefined {
    return this.#inTable(ipFamily(address), RT_TABLE.local, { destination: address })?.route;
  }

  /** The type of the route to an address in the local table or by the rules, as `fib daddr type` sees it. */
  addressType(address: string): string {
    const result = this.predict({ destination: address });
    if (result.kind === "route") return result.type;
    return TYPE_OF_ERROR[result.error] ?? "unspec";
  }

  /** The first of equal questions counts; the node is asked about each of its pods. */
  #answerTo(request: RecordedQuery): RouteAnswer | undefined {
    if (this.#answers === undefined) {
      this.#answers = new Map();
      for (const { query, answer } of this.state.routeAnswers) {
        const key = questionKey(query);
        if (!this.#answers.has(key)) this.#answers.set(key, answer);
      }
    }
    return this.#answers.get(questionKey(request));
  }

  #recorded(request: RouteRequest, predicted: RouteResult): RouteResult | undefined {
    const answer = this.#answerTo(request);
    if (answer === undefined) return undefined;
    const { route, rule } = predicted;
    if (!answer.reachable) {
      // Where the tables have a way the kernel refuses for another reason, and no route of theirs is to blame.
      const refusing = predicted.kind === "refused" ? { route, rule } : { route: undefined, rule: undefined };
      return { kind: "refused", error: answer.code, ...refusing, authority: "kernel" };
    }
    const said = answer.route;
    const link = said.interface === undefined ? undefined : this.#links.get(said.interface);
    if (link === undefined || !isDeliveringType(said.type)) return undefined;
    // What is for this namespace itself is answered with the loopback, whose address ever it is.
    const same =
      predicted.kind === "route" &&
      predicted.type === said.type &&
      (predicted.link.index === link.index || said.type === "local");
    return {
      kind: "route",
      type: said.type,
      link,
      gateway: same && this.#isRedirect(said.gateway, predicted.gateway) ? predicted.gateway : said.gateway,
      source: said.preferredSource ?? (same ? predicted.source : undefined),
      mtu: said.metrics.mtu ?? (same ? predicted.mtu : undefined),
      table: same ? (predicted.table ?? said.table) : said.table,
      route: same ? route : undefined,
      rule: same ? rule : undefined,
      authority: "kernel",
    };
  }

  /**
   * No route has this gateway: a router said so for this destination alone (ICMP redirect), because its own route leads back
   * into the network. What is wrong there is the cause; what was remembered of it is forgotten by itself.
   */
  #isRedirect(gateway: string | undefined, tables: string | undefined): boolean {
    if (gateway === undefined || tables === undefined || gateway === tables) return false;
    return !this.state.routes.some((route) => hopsOf(route).some((hop) => hop.gateway === gateway));
  }

  /** The default route, where no other one leads to an address. */
  onlyDefaultTo(destination: string): Route | undefined {
    const way = this.predict({ destination });
    const route = way.kind === "route" ? way.route : undefined;
    return route !== undefined && isDefaultRoute(route) ? route : undefined;
  }

  #selects(rule: PolicyRule, request: RouteRequest): boolean {
    const { source, destination } = rule;
    const matched =
      (source === undefined ||
        (request.source !== undefined && cidrContains(cidr(source), request.source))) &&
      (destination === undefined || cidrContains(cidr(destination), request.destination)) &&
      // Packets that the namespace itself sends enter the lookup with the loopback as incoming interface.
      (rule.inputInterface === undefined || rule.inputInterface === (request.iif ?? "lo")) &&
      rule.outputInterface === undefined &&
      (rule.tos === undefined || rule.tos === legacyTos(request)) &&
      (rule.mark === undefined || ((rule.mark ^ (request.mark ?? 0)) & (rule.mask ?? 0xffff_ffff)) === 0) &&
      protocolMatches(rule, request);
    return matched !== (rule.invert === true);
  }

  #inTable(family: IpFamily, table: number, request: RouteRequest): Found | undefined {
    const destination = ipNumber(request.destination);
    for (const { route, cidr: prefix } of this.#table(family, table)) {
      if (destination < prefix.first || destination > prefix.last) continue;
      if (route.tos !== undefined && route.tos !== legacyTos(request)) continue;
      if (route.source !== undefined) {
        if (request.source === undefined || !cidrContains(cidr(route.source), request.source)) continue;
      }
      if (!isDeliveringType(route.type)) return { route, prefixLength: prefix.prefixLength };
      const hops = this.#usableHops(family, route);
      const [first] = hops;
      if (first === undefined) continue;
      const several = hops.length > 1;
      const hop = several && request.choose !== undefined ? request.choose(hops, route) : first;
      return present({ route, hop, prefixLength: prefix.prefixLength, hops: several ? hops : undefined });
    }
    return undefined;
  }

  #usableHops(family: IpFamily, route: Route): readonly NextHop[] {
    return hopsOf(route).filter((hop) => {
      if (hop.flags.includes("dead")) return false;
      if (!hop.flags.includes("linkdown")) return true;
      const link = hop.interface === undefined ? undefined : this.#links.get(hop.interface);
      return !ignoresLinkDown(this.state, family, link);
    });
  }

  #resultOf(found: Found, rule: PolicyRule): RouteResult {
    const { route, hop } = found;
    if (!isDeliveringType(route.type)) {
      const error = TYPE_ERRORS[route.type] ?? "EINVAL";
      return { kind: "refused", error, route, rule, authority: "snapshot" };
    }
    const link =
      (hop?.interface === undefined ? undefined : this.#links.get(hop.interface)) ??
      this.#linkByName.get("lo");
    if (link === undefined) {
      return { kind: "refused", error: "ENODEV", route, rule, authority: "snapshot" };
    }
    return {
      kind: "route",
      type: route.type,
      link,
      gateway: hop?.gateway,
      source: route.preferredSource,
      mtu: route.metrics.mtu,
      table: route.table,
      route,
      rule,
      ...present({ hops: found.hops }),
      authority: "snapshot",
    };
  }
}

/** INET_DSCP_LEGACY_TOS_MASK: what `tos` of routes and rules is compared with. */
function legacyTos({ tos = 0 }: RouteRequest): number {
  return tos & 0x1c;
}

function tableKey(family: IpFamily, table: number): string {
  return `${family}/${table}`;
}

interface PreparedRoute {
  readonly route: Route;
  readonly cidr: Cidr;
}

interface Found {
  readonly route: Route;
  readonly hop?: NextHop;
  readonly hops?: readonly NextHop[];
  readonly prefixLength: number;
}

const TYPE_ERRORS: Readonly<Record<string, string>> = {
  blackhole: "EINVAL",
  unreachable: "EHOSTUNREACH",
  prohibit: "EACCES",
};
const RULE_REFUSALS = TYPE_ERRORS;
const TYPE_OF_ERROR: Readonly<Record<string, string>> = {
  EINVAL: "blackhole",
  EHOSTUNREACH: "unreachable",
  EACCES: "prohibit",
};

type DeliveringType = "unicast" | "local" | "broadcast" | "multicast" | "anycast";
const DELIVERING: ReadonlySet<string> = new Set<DeliveringType>([
  "unicast",
  "local",
  "broadcast",
  "multicast",
  "anycast",
]);
function isDeliveringType(type: string): type is DeliveringType {
  return DELIVERING.has(type);
}

const cidrCache = new Map<string, Cidr>();
function cidr(text: string): Cidr {
  let parsed = cidrCache.get(text);
  if (parsed === undefined) cidrCache.set(text, (parsed = parseCidr(text, "keep")));
  return parsed;
}

/** fib4_rule_suppress, fib6_rule_suppress: the answer is thrown away when its prefix is too short. */
function suppressed(rule: PolicyRule, found: Found): boolean {
  return rule.suppressPrefixLength !== undefined && found.prefixLength <= rule.suppressPrefixLength;
}

export function ignoresLinkDown(state: NamespaceState, family: IpFamily, link: Link | undefined): boolean {
  const own = (family === 4 ? link?.ipv4 : link?.ipv6)?.ignore_routes_with_linkdown;
  return (
    own === 1 || (family === 4 && state.sysctls["net.ipv4.conf.all.ignore_routes_with_linkdown"] === "1")
  );
}

/**
 * Whether the kernel passes over next hops whose neighbour is known not to answer: those of nexthop objects always
 * (nexthop_is_good_nh), others where fib_multipath_use_neigh asks for it (fib_good_nh).
 */
export function passesOverSilent(state: NamespaceState, { family, nextHopId }: Route): boolean {
  return (
    nextHopId !== undefined || (family === 4 && state.sysctls["net.ipv4.fib_multipath_use_neigh"] === "1")
  );
}

/** Whether a route leads over a link by any of its next hops (fib_info_nh_uses_dev). */
export function usesLink(way: Extract<RouteResult, { kind: "route" }>, link: Link | undefined): boolean {
  if (way.route === undefined) return way.link.index === link?.index;
  return hopsOf(way.route).some((hop) => hop.interface === link?.index);
}

/** All ways of a route, one or several. */
export function hopsOf(route: Route): readonly NextHop[] {
  if (route.nextHops !== undefined) return route.nextHops;
  const hop = { weight: 1, flags: route.flags };
  return [
    {
      ...hop,
      ...present({ interface: route.interface, gateway: route.gateway }),
    },
  ];
}

/** A route to everything: `default`. */
export function isDefaultRoute(route: Route): boolean {
  return isDefaultCidr(route.destination);
}

/** `default via 10.0.0.254 dev eth0 table 100 metric 5`, as `ip route` shows it. */
export function routeText(route: Route, links: readonly Link[]): string {
  return partsOf(route, hopsOf(route), links).join(" ");
}

/** The same word by word, as `ip route` takes it: what a nexthop object says (its type, its hops) is the object's. */
export function routeWords(route: Route, links: readonly Link[]): string[] {
  return route.nextHopId === undefined
    ? partsOf(route, hopsOf(route), links)
    : partsOf({ ...route, type: "unicast" }, [], links);
}

function partsOf(route: Route, hops: readonly NextHop[], links: readonly Link[]): string[] {
  const parts: string[] = [];
  if (route.type !== "unicast") parts.push(route.type);
  parts.push(isDefaultRoute(route) ? "default" : route.destination);
  if (route.nextHopId !== undefined) parts.push("nhid", String(route.nextHopId));
  const isWeighted = hops.some((hop) => hop.weight !== 1);
  for (const hop of hops) {
    if (route.nextHops !== undefined) parts.push("nexthop");
    if (hop.gateway !== undefined) {
      const isOther = ipFamily(hop.gateway) !== route.family;
      parts.push("via", ...(isOther ? ["inet6"] : []), hop.gateway);
    }
    const link = links.find((one) => one.index === hop.interface);
    if (link !== undefined) parts.push("dev", link.name);
    if (hop.flags.includes("onlink")) parts.push("onlink");
    if (isWeighted) parts.push("weight", String(hop.weight));
  }
  if (route.tos !== undefined)
    parts.splice(route.type === "unicast" ? 1 : 2, 0, "tos", `0x${route.tos.toString(16)}`);
  if (route.table !== RT_TABLE.main) parts.push("table", routingTableText(route.table));
  if (route.preferredSource !== undefined) parts.push("src", route.preferredSource);
  if ((route.metric ?? 0) !== 0) parts.push("metric", String(route.metric));
  if (route.metrics.mtu !== undefined) parts.push("mtu", String(route.metrics.mtu));
  return parts;
}

function questionKey({ destination, source = "", iif = "", mark = 0 }: RecordedQuery): string {
  return `${destination} ${source} ${iif} ${mark}`;
}
