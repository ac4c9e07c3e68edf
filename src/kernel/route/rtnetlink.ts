import { errnoText } from "../../linux/errno.ts";
import { request } from "../../linux/netlink/message.ts";
import { NetlinkError } from "../../linux/netlink/netlink-error.ts";
import { bridgeVlansOf, type BridgePortChange, type BridgeVlan } from "../../linux/route/bridge.ts";
import { AF_BRIDGE } from "../../linux/socket.ts";
import {
  RTEXT_FILTER_BRVLAN,
  RTEXT_FILTER_SKIP_STATS,
  RTM_GETLINK,
  RTM_GETLINK_BRIDGE,
  RTM_NEWLINK,
  RTM_NEWLINK_BRIDGE,
  RTM_NEWLINK_NAME,
} from "../../linux/route/link-attributes.ts";
import {
  createMacvlanRequest,
  createVxlanRequest,
  setBridgePortRequest,
  type LinkReference,
  type MacvlanSpec,
  type VxlanSpec,
} from "../../linux/route/link-requests.ts";
import { ABSENT, isAbsent, LinkRtnetlink } from "./link-rtnetlink.ts";
import { linkOf, type Link } from "../../linux/route/link.ts";
import {
  deleteNeighbourRequest,
  dumpForwardingDatabaseRequest,
  dumpNeighboursRequest,
  forwardingEntryOf,
  getNeighbourRequest,
  neighbourOf,
  RTM_NEWNEIGH,
  setNeighbourRequest,
  type ForwardingEntry,
  type Neighbour,
  type NeighbourPlace,
  type NeighbourSpec,
} from "../../linux/route/neighbour.ts";
import {
  addRouteRequest,
  deleteRouteRequest,
  dumpRoutesRequest,
  replaceRouteRequest,
  routeAnswerOf,
  routeOf,
  routeToRequest,
  type Route,
  type RouteAnswer,
  type RouteQuery,
  type RouteSpec,
} from "../../linux/route/route.ts";
import { RTM_NEWNETCONF, settingsOfAllRequest, settingsRequest } from "../../linux/route/netconf.ts";
import { routeProtocols } from "../../linux/route/constants.ts";
import { RTM_NEWROUTE } from "../../linux/route/route-attributes.ts";
import {
  addRuleRequest,
  deleteRuleRequest,
  dumpRulesRequest,
  RTM_NEWRULE,
  ruleOf,
  type PolicyRule,
  type RuleSpec,
} from "../../linux/route/rule.ts";

const FAMILIES = [4, 6] as const;

/** The errnos by which routing answers "no": see RouteAnswer. */
const UNREACHABLE: ReadonlySet<string> = new Set([
  "ENETUNREACH",
  "EHOSTUNREACH",
  "EACCES",
  "EINVAL",
  "EXDEV",
  "ENETDOWN",
  "EADDRNOTAVAIL",
]);

const NO_ROUTE: RouteAnswer = {
  reachable: false,
  code: "ENETUNREACH",
  said: "the kernel gave no route",
};

/**
 * rtnetlink in one namespace: its links, addresses, routes, rules and neighbours, read and changed. Every method is
 * synchronous and throws NetlinkError with the kernel's own words. An interface is an index; `link(name)` finds it.
 */
export class Rtnetlink extends LinkRtnetlink {
  /** @param options.statistics false leaves them out: half the bytes */
  links(options: { readonly statistics?: boolean } = {}): Link[] {
    const attributes = options.statistics === false ? { extMask: RTEXT_FILTER_SKIP_STATS } : {};
    return this.connection
      .dump(request(RTM_GETLINK, "reading the links", {}, attributes), RTM_NEWLINK)
      .map(linkOf);
  }

  /** undefined when there is no such link. */
  link(reference: LinkReference, options: { readonly statistics?: boolean } = {}): Link | undefined {
    const message = this.askFor(reference, options.statistics !== false, RTM_NEWLINK);
    return message === undefined ? undefined : linkOf(message);
  }

  /** Names of the ports of a bridge, of all other links that have this master. */
  portNames(master: number): string[] {
    const ask = request(RTM_GETLINK, "reading ports", {}, { extMask: RTEXT_FILTER_SKIP_STATS, master });
    return this.connection
      .dump(ask, RTM_NEWLINK_NAME)
      .flatMap(({ attributes: a }) => (a.master === master && a.name !== undefined ? [a.name] : []));
  }

  createMacvlan(spec: MacvlanSpec): void {
    this.connection.request(createMacvlanRequest(spec));
  }

  createVxlan(spec: VxlanSpec): void {
    this.connection.request(createVxlanRequest(spec));
  }

  /** The link must be in its bridge already. */
  setBridgePort(reference: LinkReference, change: BridgePortChange): void {
    this.connection.request(setBridgePortRequest(reference, change));
  }

  /** The VLANs of bridges and ports, by index; empty where the kernel has no VLAN filtering. */
  bridgeVlans(): Map<number, BridgeVlan[]> {
    const dump = request(
      RTM_GETLINK_BRIDGE,
      "reading the VLANs of bridges",
      { family: AF_BRIDGE },
      { extMask: RTEXT_FILTER_BRVLAN },
    );
    const vlans = new Map<number, BridgeVlan[]>();
    for (const { header, attributes } of this.connection.dump(dump, RTM_NEWLINK_BRIDGE)) {
      const of = bridgeVlansOf(attributes.afSpec?.vlans ?? []);
      if (of.length > 0) vlans.set(header.index, of);
    }
    return vlans;
  }

  /**
   * All tables unless one is given; a table that does not exist is empty.
   * @param filter.advertised those alone that came by router advertisement
   */
  routes(
    filter: { readonly family?: 4 | 6; readonly table?: number; readonly advertised?: true } = {},
  ): Route[] {
    const families = filter.family === undefined ? FAMILIES : [filter.family];
    return families.flatMap((family) => {
      try {
        const protocol = filter.advertised === true ? routeProtocols.numbers.ra : 0;
        const ask = dumpRoutesRequest(family, filter.table, protocol);
        const routes = this.connection.dump(ask, RTM_NEWROUTE).flatMap((message) => routeOf(message) ?? []);
        return filter.advertised === true ? routes.filter((route) => route.protocol === "ra") : routes;
      } catch (error) {
        if (error instanceof NetlinkError && (ABSENT.has(error.code) || lacksFamily(error, family)))
          return [];
        throw error;
      }
    });
  }

  addRoute(spec: RouteSpec): void {
    this.connection.request(addRouteRequest(spec));
  }

  replaceRoute(spec: RouteSpec): void {
    this.connection.request(replaceRouteRequest(spec));
  }

  /** False when there was none. What the spec leaves open matches anything. */
  deleteRoute(spec: RouteSpec): boolean {
    return this.deletes(deleteRouteRequest(spec));
  }

  /** Where the kernel would send this packet. @throws NetlinkError only when the question itself is wrong */
  routeTo(query: RouteQuery): RouteAnswer {
    const [answer] = this.routesTo([query]);
    if (answer instanceof Error) throw answer;
    return answer!;
  }

  /** The same for many packets, in their order; where the question itself is wrong, the kernel's refusal. */
  routesTo(queries: readonly RouteQuery[]): (RouteAnswer | NetlinkError)[] {
    return this.connection.questions(queries.map(routeToRequest), RTM_NEWROUTE).map((answer) => {
      if (!(answer instanceof NetlinkError)) return routeAnswerOf(answer) ?? NO_ROUTE;
      if (!UNREACHABLE.has(answer.code)) return answer;
      return { reachable: false, code: answer.code, said: answer.extack ?? errnoText(answer.errno) };
    });
  }

  /** Of both families unless one is given, IPv4 first. */
  rules(family?: 4 | 6): PolicyRule[] {
    try {
      const messages = this.connection.dump(dumpRulesRequest(family), RTM_NEWRULE);
      const rules = messages.flatMap((message) => ruleOf(message) ?? []);
      return family === undefined ? rules.sort((a, b) => a.family - b.family) : rules;
    } catch (error) {
      if (family !== undefined && error instanceof NetlinkError && lacksFamily(error, family)) return [];
      throw error;
    }
  }

  addRule(spec: RuleSpec): void {
    this.connection.request(addRuleRequest(spec));
  }

  /** False when there was none. Deletes the first rule that has everything the spec names. */
  deleteRule(spec: RuleSpec): boolean {
    return this.deletes(deleteRuleRequest(spec));
  }

  /** @param filter.proxies the addresses answered for (proxy_arp entries), instead of those learned */
  neighbours(
    filter: { readonly family?: 4 | 6; readonly interface?: number; readonly proxies?: boolean } = {},
  ): Neighbour[] {
    const dump = dumpNeighboursRequest(filter.family, filter.interface, filter.proxies === true);
    return this.connection.dump(dump, RTM_NEWNEIGH).flatMap((message) => neighbourOf(message) ?? []);
  }

  /** Of these addresses the entries that there are. */
  neighboursAt(places: readonly NeighbourPlace[]): Neighbour[] {
    const answers = this.connection.questions(places.map(getNeighbourRequest), RTM_NEWNEIGH);
    return answers.flatMap((answer) => {
      if (!(answer instanceof NetlinkError)) return neighbourOf(answer) ?? [];
      if (isAbsent(answer)) return [];
      throw answer;
    });
  }

  /** Whether each interface of a family forwards, by its index; `conf/all` under NETCONFA_IFINDEX_ALL. */
  forwardingSwitches(family: 4 | 6): Map<number, boolean> {
    const answers = this.connection.dump(settingsRequest(family), RTM_NEWNETCONF);
    return new Map(
      answers.flatMap(({ attributes: { interface: index, forwarding } }) =>
        index === undefined || forwarding === undefined ? [] : [[index, forwarding !== 0] as const],
      ),
    );
  }

  /** `net.ipv4.conf.all.rp_filter`: one question, where the way through /proc/sys grows with the number of namespaces. */
  reversePathOfAll(): number | undefined {
    return this.connection.question(settingsOfAllRequest(), RTM_NEWNETCONF).attributes.rpFilter;
  }

  /** Sets the entry, whether or not there is one. */
  setNeighbour(spec: NeighbourSpec): void {
    this.connection.request(setNeighbourRequest(spec));
  }

  deleteNeighbour(spec: Pick<NeighbourSpec, "interface" | "address" | "proxy">): boolean {
    return this.deletes(deleteNeighbourRequest(spec));
  }

  /** Forgets what was learned on an interface (permanent entries stay). Returns how many went. */
  flushNeighbours(interfaceIndex: number, family?: 4 | 6): number {
    const filter = family === undefined ? {} : { family };
    const learned = this.neighbours({ ...filter, interface: interfaceIndex }).filter(
      (neighbour) => neighbour.state !== "permanent" && neighbour.state !== "noarp",
    );
    const errors = this.connection.batchResults(
      learned.map((neighbour) => deleteNeighbourRequest(neighbour)),
    );
    for (const error of errors.values()) if (!isAbsent(error)) throw error;
    return learned.length - errors.size;
  }

  forwardingDatabase(): ForwardingEntry[] {
    const messages = this.connection.dump(dumpForwardingDatabaseRequest(), RTM_NEWNEIGH);
    return messages.flatMap((message) => forwardingEntryOf(message) ?? []);
  }
}

/** A kernel that was started with ipv6.disable=1 has no IPv6 handlers. */
function lacksFamily(error: NetlinkError, family: 4 | 6): boolean {
  return family === 6 && (error.code === "EOPNOTSUPP" || error.code === "EAFNOSUPPORT");
}
