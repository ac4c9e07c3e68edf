/** What changes in a namespace, as it changes: `ip monitor`. */
import { SystemError } from "../../linux/errno.ts";
import type { NetworkNamespace } from "../namespace.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import { decode, type RawMessage } from "../../linux/netlink/message.ts";
import { NETLINK_ROUTE, openTransport, type NetlinkTransport } from "../netlink/transport.ts";
import { addressFromMessage, RTM_DELADDR, RTM_NEWADDR, type Address } from "../../linux/route/address.ts";
import { AF_BRIDGE } from "../../linux/socket.ts";
import { RTM_DELLINK, RTM_NEWLINK } from "../../linux/route/link-attributes.ts";
import { linkOf, type Link } from "../../linux/route/link.ts";
import { neighbourOf, RTM_DELNEIGH, RTM_NEWNEIGH, type Neighbour } from "../../linux/route/neighbour.ts";
import { RTM_DELROUTE, RTM_NEWROUTE } from "../../linux/route/route-attributes.ts";
import { routeOf, type Route } from "../../linux/route/route.ts";
import { RTM_DELRULE, RTM_NEWRULE, ruleOf, type PolicyRule } from "../../linux/route/rule.ts";
import { present } from "../../present.ts";

/** RTNLGRP_* (include/uapi/linux/rtnetlink.h), by what they tell of. */
export const RTNLGRP = {
  links: [1],
  neighbours: [3],
  addresses: [5, 9],
  routes: [7, 11],
  rules: [8, 19],
  /** Forwarding and rp_filter of an interface (RTM_NEWNETCONF). */
  settings: [24, 25],
  /** Queueing disciplines, and filters of traffic control. */
  trafficControl: [4],
} as const;

/** Those of which a RouteWatch makes events. */
export type WatchedKind = Exclude<keyof typeof RTNLGRP, "settings" | "trafficControl">;

/** `gone` is false for what is new and for what has changed: the kernel does not tell them apart. */
export type RouteEvent =
  | { readonly kind: "link"; readonly gone: boolean; readonly link: Link }
  | { readonly kind: "address"; readonly gone: boolean; readonly address: Address }
  | { readonly kind: "route"; readonly gone: boolean; readonly route: Route }
  | { readonly kind: "rule"; readonly gone: boolean; readonly rule: PolicyRule }
  | { readonly kind: "neighbour"; readonly gone: boolean; readonly neighbour: Neighbour }
  /** We read too slowly and the kernel dropped events: read everything anew. */
  | { readonly kind: "lost" };

/** Events of the chosen kinds, from the moment this is made. */
export class RouteWatch implements Disposable {
  readonly #connection: NetlinkConnection;

  constructor(transport: NetlinkTransport, kinds: readonly WatchedKind[]) {
    this.#connection = new NetlinkConnection(transport);
    for (const group of kinds.flatMap((kind) => RTNLGRP[kind])) this.#connection.join(group);
  }

  /** @param namespace the calling thread's when undefined */
  static open(namespace: NetworkNamespace | undefined, kinds: readonly WatchedKind[]): RouteWatch {
    const place = present({ namespace });
    return new RouteWatch(openTransport(NETLINK_ROUTE, { ...place, receiveBufferBytes: 1024 * 1024 }), kinds);
  }

  /** The next events, in order; empty when none came within `timeoutMs` (0: do not wait). Blocks this thread. */
  next(timeoutMs: number): RouteEvent[] {
    try {
      return this.#connection.events(timeoutMs).flatMap((raw) => routeEventOf(raw) ?? []);
    } catch (error) {
      if (error instanceof SystemError && error.code === "ENOBUFS") return [{ kind: "lost" }];
      throw error;
    }
  }

  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** undefined for messages of other families (bridges' ports, multicast routes). @throws DecodeError */
export function routeEventOf(raw: RawMessage): RouteEvent | undefined {
  switch (raw.type) {
    case RTM_NEWLINK.type:
    case RTM_DELLINK.type: {
      // A bridge tells of its ports in link messages of its own family, whose attributes are others.
      if (raw.wire.bytes[raw.start] === AF_BRIDGE) return undefined;
      return { kind: "link", gone: raw.type === RTM_DELLINK.type, link: linkOf(decode(RTM_NEWLINK, raw)) };
    }
    case RTM_NEWADDR.type:
    case RTM_DELADDR.type: {
      const address = addressFromMessage(decode(RTM_NEWADDR, raw));
      return address && { kind: "address", gone: raw.type === RTM_DELADDR.type, address };
    }
    case RTM_NEWROUTE.type:
    case RTM_DELROUTE.type: {
      const route = routeOf(decode(RTM_NEWROUTE, raw));
      return route && { kind: "route", gone: raw.type === RTM_DELROUTE.type, route };
    }
    case RTM_NEWRULE.type:
    case RTM_DELRULE.type: {
      const rule = ruleOf(decode(RTM_NEWRULE, raw));
      return rule && { kind: "rule", gone: raw.type === RTM_DELRULE.type, rule };
    }
    case RTM_NEWNEIGH.type:
    case RTM_DELNEIGH.type: {
      const neighbour = neighbourOf(decode(RTM_NEWNEIGH, raw));
      return neighbour && { kind: "neighbour", gone: raw.type === RTM_DELNEIGH.type, neighbour };
    }
    default:
      return undefined;
  }
}
