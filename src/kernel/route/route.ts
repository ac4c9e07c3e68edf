import type { RouteProtocol, Scope } from "./constants.ts";

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

/** RTAX_*: what a route says about its path. Times in milliseconds. */
export interface RouteMetrics {
  readonly mtu?: number;
  readonly advmss?: number;
  readonly window?: number;
  readonly rttMs?: number;
  readonly rttVarianceMs?: number;
  readonly ssthresh?: number;
  readonly congestionWindow?: number;
  readonly reordering?: number;
  readonly hopLimit?: number;
  readonly initialCongestionWindow?: number;
  readonly initialReceiveWindow?: number;
  readonly features?: number;
  readonly rtoMinMs?: number;
  readonly quickAck?: number;
  readonly congestionControl?: string;
  /** RTAX_LOCK: metrics that path MTU discovery and TCP must not change, e.g. ["mtu"]. */
  readonly locked?: readonly string[];
}

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
  readonly scope: Scope;
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
  readonly scope?: Scope;
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
       * ENETUNREACH no route; EHOSTUNREACH unreachable or forwarding is off; EACCES prohibited; EINVAL blackhole or
       * a martian source; EXDEV refused by rp_filter.
       */
      readonly code: string;
      /** The kernel's words. */
      readonly said: string;
      /** IPv6: the rejecting route. */
      readonly route?: Route;
    };
