import { parseCidr } from "../../address/cidr.ts";
import { ipBits, ipFamily } from "../../address/ip.ts";
import { errnoName, errnoText } from "../errno.ts";
import {
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  request,
  type MessageOf,
  type Request,
} from "../netlink/message.ts";
import {
  RTN,
  RT_TABLE,
  flagNames,
  numberedNames,
  routeProtocols,
  scopes,
  type RouteProtocol,
  type RouteScope,
  USER_HZ,
} from "./constants.ts";
import { AF_INET, AF_INET6, ipFamilyOf } from "../socket.ts";
import { mapped, present } from "../../present.ts";
import { RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE, type WireNextHop } from "./route-attributes.ts";
import { metricsAttributesOf, metricsOf, type RouteMetrics } from "./route-metrics.ts";

/** RTN_*: what a route does with a packet. */
export type RouteType =
  | "unspec"
  | "unicast"
  | "local"
  | "broadcast"
  | "anycast"
  | "multicast"
  | "blackhole"
  | "unreachable"
  | "prohibit"
  | "throw"
  | "nat"
  | "xresolve"
  | `${number}`;

export interface NextHop {
  /** Index of the interface; absent for a type without one. */
  readonly interface?: number;
  /** May be of the other family (RTA_VIA). */
  readonly gateway?: string;
  readonly weight: number;
  /** RTNH_F_*: "dead", "linkdown", "onlink", "pervasive"… */
  readonly flags: readonly string[];
}

/** One route of a table, or the kernel's answer to "where would this go". */
export interface Route {
  readonly family: 4 | 6;
  readonly type: RouteType;
  /** Prefix; 0.0.0.0/0 or ::/0 is the default route. */
  readonly destination: string;
  /** IPv6 source-specific routes. */
  readonly source?: string;
  readonly table: number;
  readonly protocol: RouteProtocol;
  readonly scope: RouteScope;
  readonly tos?: number;
  /** Among routes to the same prefix the lowest wins. */
  readonly metric?: number;
  readonly preferredSource?: string;
  /** Index of the outgoing interface; absent for multipath and for types without one. */
  readonly interface?: number;
  readonly inputInterface?: number;
  readonly gateway?: string;
  /** Multipath: all next hops, instead of interface and gateway. */
  readonly nextHops?: readonly NextHop[];
  /** Id of the nexthop object it uses. */
  readonly nextHopId?: number;
  /** RTNH_F_* and "cloned": "onlink", "linkdown", "dead"… */
  readonly flags: readonly string[];
  readonly metrics: RouteMetrics;
  /** IPv6 router preference. */
  readonly preference?: "low" | "medium" | "high";
  /** Seconds until it goes away by itself; absent for ever. */
  readonly expiresSeconds?: number;
  readonly mark?: number;
  readonly uid?: number;
  /** LWTUNNEL_ENCAP_*: set when the route encapsulates. */
  readonly encapsulation?: number;
}

export interface NextHopSpec {
  readonly interface?: number;
  readonly gateway?: string;
  readonly weight?: number;
  readonly onlink?: boolean;
}

export interface RouteSpec {
  /** Prefix, e.g. "0.0.0.0/0". */
  readonly destination: string;
  readonly type?: RouteType;
  readonly source?: string;
  readonly interface?: number;
  readonly gateway?: string;
  readonly onlink?: boolean;
  readonly nextHops?: readonly NextHopSpec[];
  readonly table?: number;
  readonly protocol?: RouteProtocol;
  readonly scope?: RouteScope;
  readonly metric?: number;
  readonly preferredSource?: string;
  readonly tos?: number;
  readonly metrics?: RouteMetrics;
}

/** A packet, as far as routing looks at it. */
export interface RouteQuery {
  readonly destination: string;
  readonly source?: string;
  /** The packet came in here: asks the forwarding path, with its rp_filter and its rules by iif. */
  readonly inputInterface?: number;
  readonly outputInterface?: number;
  readonly mark?: number;
  readonly uid?: number;
  readonly tos?: number;
  /** IPPROTO_*: 6 TCP, 17 UDP, 1 ICMP. */
  readonly ipProtocol?: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** Answer with the route of the table that matched, not with the path derived from it. */
  readonly fibMatch?: boolean;
}

/** Unreachable is an answer, too. */
export type RouteAnswer =
  | { readonly reachable: true; readonly route: Route }
  | {
      readonly reachable: false;
      /**
       * ENETUNREACH no route; EHOSTUNREACH unreachable, or forwarding is off; EACCES prohibited; EINVAL blackhole,
       * a martian source, or refused by rp_filter (EXDEV in some versions).
       */
      readonly code: string;
      /** The kernel's words. */
      readonly said: string;
      /** IPv6: the rejecting route. */
      readonly route?: Route;
    };

export const routeTypes = numberedNames(RTN);

/** RTNH_F_* and RTM_F_*: they share one field. */
const ROUTE_FLAGS = {
  dead: 1,
  pervasive: 2,
  onlink: 4,
  offload: 8,
  linkdown: 16,
  unresolved: 32,
  trap: 64,
  notify: 0x100,
  cloned: 0x200,
  prefix: 0x800,
  rt_offload: 0x4000,
  rt_trap: 0x8000,
  rt_offload_failed: 0x2000_0000,
} as const;

/** ICMPV6_ROUTER_PREF_* (RFC 4191, two bits, signed). */
const preferences = numberedNames({ medium: 0, high: 1, low: 3 });

type RouteMessage = MessageOf<typeof RTM_NEWROUTE>;

/** Reads RTM_NEWROUTE; undefined for families other than IPv4 and IPv6. */
export function routeOf({ header, attributes: a }: RouteMessage): Route | undefined {
  const family = ipFamilyOf(header.family);
  if (family === undefined) return undefined;
  const any = family === 4 ? "0.0.0.0" : "::";
  const preference = mapped(a.preference, preferences.nameOf);
  return present({
    family,
    type: routeTypes.nameOf(header.type),
    destination: `${a.destination ?? any}/${header.destinationLength}`,
    source: a.source === undefined ? undefined : `${a.source}/${header.sourceLength}`,
    table: a.table ?? header.table,
    protocol: routeProtocols.nameOf(header.protocol),
    scope: scopes.nameOf(header.scope),
    tos: header.tos === 0 ? undefined : header.tos,
    metric: a.priority,
    preferredSource: a.preferredSource,
    interface: a.outputInterface,
    inputInterface: a.inputInterface,
    gateway: a.gateway ?? a.via,
    nextHops: a.multipath?.map(nextHopOf),
    nextHopId: a.nextHopId,
    flags: flagNames(ROUTE_FLAGS, header.flags & ~LOOKUP_FLAGS),
    metrics: metricsOf(a.metrics ?? {}),
    preference:
      preference === "low" || preference === "medium" || preference === "high" ? preference : undefined,
    expiresSeconds: expiresOf(a),
    mark: a.mark === 0 ? undefined : a.mark,
    uid: a.uid,
    encapsulation: a.encapsulationType,
  });
}

/** Flags that only ask for a kind of answer. */
const RTM_F_LOOKUP_TABLE = 0x1000;
const RTM_F_FIB_MATCH = 0x2000;
const LOOKUP_FLAGS = RTM_F_LOOKUP_TABLE | RTM_F_FIB_MATCH;

/** IPv4 tells when a learned exception ends; IPv6 the same of any route; 0 means never. */
function expiresOf(attributes: RouteMessage["attributes"]): number | undefined {
  const ticks = attributes.cacheInfo?.expires ?? 0;
  return ticks === 0 ? attributes.expires : Math.round(ticks / USER_HZ);
}

function nextHopOf(hop: WireNextHop): NextHop {
  return present({
    interface: hop.interface === 0 ? undefined : hop.interface,
    gateway: hop.attributes.gateway ?? hop.attributes.via,
    weight: hop.hops + 1,
    flags: flagNames(ROUTE_FLAGS, hop.flags),
  });
}

/** Fails with EEXIST when there is such a route. @throws AddressError */
export function addRouteRequest(spec: RouteSpec): Request {
  return routeRequest(RTM_NEWROUTE, "adding", spec, NLM_F_CREATE | NLM_F_EXCL);
}

/**
 * Goes in front of routes with the same prefix, metric and table (IPv6: beside them). Fails with EEXIST only when there
 * is this very one. @throws AddressError
 */
export function prependRouteRequest(spec: RouteSpec): Request {
  return routeRequest(RTM_NEWROUTE, "adding", spec, NLM_F_CREATE);
}

/** Takes the place of the route with the same prefix, metric and table, if there is one. @throws AddressError */
export function replaceRouteRequest(spec: RouteSpec): Request {
  return routeRequest(RTM_NEWROUTE, "replacing", spec, NLM_F_CREATE | NLM_F_REPLACE);
}

/** What the spec leaves open matches anything. @throws AddressError */
export function deleteRouteRequest(spec: RouteSpec): Request {
  return routeRequest(RTM_DELROUTE, "deleting", spec, 0);
}

function routeRequest(
  message: typeof RTM_NEWROUTE | typeof RTM_DELROUTE,
  verb: string,
  spec: RouteSpec,
  flags: number,
): Request {
  const destination = parseCidr(spec.destination);
  const source = mapped(spec.source, (prefix) => parseCidr(prefix));
  const table = spec.table ?? RT_TABLE.main;
  const deletes = message.type === RTM_DELROUTE.type;
  return request(
    message,
    `${verb} route ${spec.destination}${spec.gateway === undefined ? "" : ` via ${spec.gateway}`}`,
    {
      family: destination.family === 4 ? AF_INET : AF_INET6,
      destinationLength: destination.prefixLength,
      sourceLength: source?.prefixLength ?? 0,
      tos: spec.tos ?? 0,
      table: table < 256 ? table : 0,
      protocol: deletes && spec.protocol === undefined ? 0 : routeProtocols.numberOf(spec.protocol ?? "boot"),
      scope: scopes.numberOf(spec.scope ?? defaultScope(spec, destination.family, deletes)),
      type: deletes && spec.type === undefined ? 0 : routeTypes.numberOf(spec.type ?? "unicast"),
      flags: spec.onlink === true ? ROUTE_FLAGS.onlink : 0,
    },
    present({
      destination: destination.prefixLength === 0 ? undefined : destination.network,
      source: source?.network,
      outputInterface: spec.interface,
      ...gatewayAttributes(spec.gateway, destination.family),
      priority: spec.metric,
      preferredSource: spec.preferredSource,
      metrics: mapped(spec.metrics, metricsAttributesOf),
      multipath: spec.nextHops?.map((hop) => wireNextHop(hop, destination.family)),
      table,
    }),
    flags,
  );
}

/** IPv4 wants to know how far away the destination is; a wrong answer is refused ("nexthop has invalid gateway"). */
function defaultScope(spec: RouteSpec, family: 4 | 6, deletes: boolean): RouteScope {
  if (family === 6) return "global";
  switch (spec.type ?? "unicast") {
    case "local":
    case "nat":
      return "host";
    case "broadcast":
    case "multicast":
    case "anycast":
      return "link";
    case "unicast":
      if (deletes) return "nowhere";
      return spec.gateway === undefined && spec.nextHops === undefined ? "link" : "global";
    default:
      return deletes ? "nowhere" : "global";
  }
}

function gatewayAttributes(
  gateway: string | undefined,
  family: 4 | 6,
): { readonly gateway?: string; readonly via?: string } {
  if (gateway === undefined) return {};
  return ipFamily(gateway) === family ? { gateway } : { via: gateway };
}

function wireNextHop(hop: NextHopSpec, family: 4 | 6): WireNextHop {
  return {
    flags: hop.onlink === true ? ROUTE_FLAGS.onlink : 0,
    hops: (hop.weight ?? 1) - 1,
    interface: hop.interface ?? 0,
    attributes: gatewayAttributes(hop.gateway, family),
  };
}

/** Every route; of one table when given, which must exist (ENOENT otherwise). */
/** @param protocol RTPROT_*: kernels before 4.20 hand over the others as well */
export function dumpRoutesRequest(family: 4 | 6, table?: number, protocol = 0): Request {
  return request(
    RTM_GETROUTE,
    `reading the IPv${family} routes`,
    { family: family === 4 ? AF_INET : AF_INET6, protocol },
    table === undefined ? {} : { table },
  );
}

/** @throws AddressError */
export function routeToRequest(query: RouteQuery): Request {
  const family = ipFamily(query.destination);
  const bits = ipBits(family);
  const fibMatch = query.fibMatch === true ? RTM_F_FIB_MATCH : 0;
  return request(
    RTM_GETROUTE,
    `asking for the route to ${query.destination}`,
    {
      family: family === 4 ? AF_INET : AF_INET6,
      destinationLength: bits,
      sourceLength: query.source === undefined ? 0 : bits,
      tos: query.tos ?? 0,
      // IPv6 always names the table and refuses to be asked for it.
      flags: family === 4 ? RTM_F_LOOKUP_TABLE | fibMatch : fibMatch,
    },
    present({
      destination: query.destination,
      source: query.source,
      inputInterface: query.inputInterface,
      outputInterface: query.outputInterface,
      mark: query.mark,
      uid: query.uid,
      ipProtocol: query.ipProtocol,
      sourcePort: query.sourcePort,
      destinationPort: query.destinationPort,
    }),
  );
}

/** The kernel's answer, when it is a route at all: IPv6 answers with the rejecting one and its errno. */
export function routeAnswerOf(message: RouteMessage): RouteAnswer | undefined {
  const route = routeOf(message);
  if (route === undefined) return undefined;
  const error = -(message.attributes.cacheInfo?.error ?? 0);
  if (error <= 0) return { reachable: true, route };
  return { reachable: false, code: errnoName(error), said: errnoText(error), route };
}
