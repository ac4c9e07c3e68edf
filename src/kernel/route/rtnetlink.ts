import type { NetworkNamespace } from "../namespace.ts";
import type { AnyRequest } from "../netlink/connection.ts";
import type { NetlinkTransport } from "../netlink/transport.ts";
import type { Address, AddressSpec } from "./address.ts";
import type { BridgePortChange, BridgeVlan } from "./bridge.ts";
import type { BridgeSpec, Link, LinkChange, VethSpec } from "./link.ts";
import type { ForwardingEntry, Neighbour, NeighbourSpec } from "./neighbour.ts";
import type { Route, RouteAnswer, RouteQuery, RouteSpec } from "./route.ts";
import type { Rule, RuleSpec } from "./rule.ts";

/**
 * rtnetlink in one namespace: links, addresses, routes, rules and neighbours of it, read and changed. Every method is
 * synchronous and throws NetlinkError with the kernel's own words. Interfaces are indexes; `link(name)` finds one.
 */
export declare class Rtnetlink implements Disposable {
  constructor(transport: NetlinkTransport);
  static open(namespace?: NetworkNamespace): Rtnetlink;
  /** @param statistics leave them out (false) where nobody reads them: half the bytes */
  links(options?: { readonly statistics?: boolean }): Link[];
  /** undefined when there is no such link. */
  link(nameOrIndex: string | number): Link | undefined;
  createVeth(spec: VethSpec): void;
  createBridge(spec: BridgeSpec): void;
  createMacvlan(spec: { name: string; lower: number; mode?: string; namespaceFd?: number }): void;
  createVxlan(spec: { name: string; id: number; local?: string; remote?: string; port?: number }): void;
  setLink(nameOrIndex: string | number, change: LinkChange): void;
  setBridgePort(nameOrIndex: string | number, change: BridgePortChange): void;
  /** False when there was none. */
  deleteLink(nameOrIndex: string | number): boolean;
  /** By index of port or bridge. */
  bridgeVlans(): Map<number, BridgeVlan[]>;
  addBridgeVlan(index: number, vlan: BridgeVlan, options?: { readonly self?: boolean }): void;
  deleteBridgeVlan(index: number, vlan: BridgeVlan, options?: { readonly self?: boolean }): void;
  addresses(filter?: { readonly family?: 4 | 6; readonly interface?: number }): Address[];
  addAddress(spec: AddressSpec): void;
  deleteAddress(spec: Pick<AddressSpec, "interface" | "address" | "prefixLength">): boolean;
  /** All tables unless one is given. */
  routes(filter?: { readonly family?: 4 | 6; readonly table?: number }): Route[];
  addRoute(spec: RouteSpec): void;
  replaceRoute(spec: RouteSpec): void;
  deleteRoute(spec: RouteSpec): boolean;
  routeTo(query: RouteQuery): RouteAnswer;
  rules(family?: 4 | 6): Rule[];
  addRule(spec: RuleSpec): void;
  deleteRule(spec: RuleSpec): boolean;
  neighbours(filter?: { readonly family?: 4 | 6; readonly interface?: number }): Neighbour[];
  addNeighbour(spec: NeighbourSpec): void;
  deleteNeighbour(spec: Pick<NeighbourSpec, "interface" | "address">): boolean;
  forwardingDatabase(): ForwardingEntry[];
  /** Our number for the namespace of a file descriptor; undefined when it has none yet. */
  namespaceId(namespaceFd: number): number | undefined;
  /** Several requests (made by the *Request functions of this room) in one datagram; throws the first error. */
  batch(requests: readonly AnyRequest[]): void;
  batchResults(requests: readonly AnyRequest[]): Map<number, Error>;
  close(): void;
  [Symbol.dispose](): void;
}
