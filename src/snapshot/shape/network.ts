/** The shape of what rtnetlink says of a namespace: links, addresses, routes, rules, neighbours. */
import * as v from "valibot";
import { familyOf, ipBits, ipFamily } from "../../address/ip.ts";
import type { BridgeDetails, BridgePort } from "../../linux/route/bridge.ts";
import type { Address } from "../../linux/route/address.ts";
import type { Link, VxlanDetails } from "../../linux/route/link.ts";
import type { ForwardingEntry, Neighbour } from "../../linux/route/neighbour.ts";
import type { RouteMetrics } from "../../linux/route/route-metrics.ts";
import type { NextHop, Route, RouteAnswer } from "../../linux/route/route.ts";
import type { NumberRange, PolicyRule } from "../../linux/route/rule.ts";
import {
  family,
  flag,
  integer,
  ip,
  list,
  mac,
  name,
  number,
  object,
  oneOf,
  optional,
  prefix,
  record,
  u32,
  where,
  word,
  type Shape,
} from "./pieces.ts";

const flags = list(name, 64);

const bridge = object<BridgeDetails>({
  bridgeId: name,
  stp: flag,
  forwardDelayMs: number,
  helloTimeMs: number,
  maxAgeMs: number,
  ageingTimeMs: number,
  priority: number,
  vlanFiltering: flag,
  defaultVlan: optional(number),
  multicastSnooping: flag,
  groupForwardMask: number,
  callIptables: flag,
  callIp6tables: flag,
  callArptables: flag,
});

const bridgePort = object<BridgePort>({
  state: word(),
  priority: number,
  cost: number,
  hairpin: flag,
  guard: flag,
  rootBlock: flag,
  learning: flag,
  flood: flag,
  multicastFlood: flag,
  broadcastFlood: flag,
  isolated: flag,
  neighbourSuppression: flag,
  locked: flag,
});

const vxlan = object<VxlanDetails>({
  id: number,
  remote: optional(ip),
  local: optional(ip),
  lower: optional(u32),
  port: optional(number),
  learning: optional(flag),
});

export const link = object<Link>({
  index: u32,
  name,
  alternativeNames: list(name),
  alias: optional(name),
  kind: optional(name),
  layer: name,
  mac,
  broadcast: mac,
  permanentMac: optional(mac),
  mtu: u32,
  minMtu: optional(number),
  maxMtu: optional(number),
  flags,
  up: flag,
  operState: word(),
  carrier: optional(flag),
  carrierChanges: optional(number),
  master: optional(u32),
  link: optional(u32),
  linkNamespaceId: optional(number),
  group: number,
  promiscuity: number,
  allMulticast: optional(number),
  queueLength: number,
  queues: object<Link["queues"]>({ tx: number, rx: number }),
  qdisc: optional(name),
  gsoMaxSize: optional(number),
  gsoMaxSegments: optional(number),
  statistics: optional(record(number) as unknown as Shape<NonNullable<Link["statistics"]>>),
  xdp: optional(
    object<NonNullable<Link["xdp"]>>({
      mode: oneOf(["driver", "generic", "hardware", "multiple"]),
      programIds: list(number, 64),
    }),
  ),
  ipv6AddressGeneration: optional(word()),
  ipv4: optional(record(number) as Shape<NonNullable<Link["ipv4"]>>),
  ipv6: optional(record(number) as Shape<NonNullable<Link["ipv6"]>>),
  bridge: optional(bridge),
  port: optional(bridgePort),
  portKind: optional(name),
  vlan: optional(object<NonNullable<Link["vlan"]>>({ id: number, protocol: word() })),
  vxlan: optional(vxlan),
  macvlan: optional(object<NonNullable<Link["macvlan"]>>({ mode: word() })),
  tun: optional(object<NonNullable<Link["tun"]>>({ mode: oneOf(["tun", "tap"]), persistent: flag })),
});

export const address = where(
  object<Address>({
    family,
    interface: u32,
    address: ip,
    prefixLength: integer(0, 128),
    peer: optional(ip),
    broadcast: optional(ip),
    label: optional(name),
    scope: word(),
    flags,
    preferredSeconds: optional(number),
    validSeconds: optional(number),
    metric: optional(number),
    protocol: optional(word()),
  }),
  (one) => ipFamily(one.address) === one.family && one.prefixLength <= ipBits(one.family),
  "family, address and prefix length do not fit together",
);

const metrics = object<RouteMetrics>({
  mtu: optional(number),
  advmss: optional(number),
  window: optional(number),
  rttMs: optional(number),
  rttVarianceMs: optional(number),
  ssthresh: optional(number),
  congestionWindow: optional(number),
  reordering: optional(number),
  hopLimit: optional(number),
  initialCongestionWindow: optional(number),
  initialReceiveWindow: optional(number),
  features: optional(number),
  rtoMinMs: optional(number),
  quickAck: optional(flag),
  congestionControl: optional(name),
  locked: optional(list(name, 64)),
});

export const route = where(
  object<Route>({
    family,
    type: word(),
    destination: prefix,
    source: optional(prefix),
    table: u32,
    protocol: word(),
    scope: word(),
    tos: optional(number),
    metric: optional(number),
    preferredSource: optional(ip),
    interface: optional(u32),
    inputInterface: optional(u32),
    gateway: optional(ip),
    nextHops: optional(
      list(object<NextHop>({ interface: optional(u32), gateway: optional(ip), weight: number, flags }), 4096),
    ),
    nextHopId: optional(number),
    flags,
    metrics,
    preference: optional(oneOf(["low", "medium", "high"])),
    expiresSeconds: optional(number),
    mark: optional(number),
    uid: optional(number),
    encapsulation: optional(number),
  }),
  (one) => familyOf(one.destination) === one.family,
  "family and destination do not fit together",
);

const range = object<NumberRange>({ first: number, last: number });

export const policyRule = object<PolicyRule>({
  family,
  priority: u32,
  action: word(),
  table: u32,
  goto: optional(u32),
  source: optional(prefix),
  destination: optional(prefix),
  inputInterface: optional(name),
  outputInterface: optional(name),
  mark: optional(number),
  mask: optional(number),
  tos: optional(number),
  invert: optional(flag),
  uids: optional(range),
  ipProtocol: optional(number),
  sourcePorts: optional(range),
  destinationPorts: optional(range),
  suppressPrefixLength: optional(number),
  suppressGroup: optional(number),
  protocol: word(),
  l3mdev: optional(flag),
  flags,
});

export const neighbour = where(
  object<Neighbour>({
    family,
    interface: u32,
    address: ip,
    mac: optional(mac),
    state: word(),
    flags,
    probes: optional(number),
    confirmedSeconds: optional(number),
    usedSeconds: optional(number),
    updatedSeconds: optional(number),
    protocol: optional(word()),
  }),
  (one) => ipFamily(one.address) === one.family,
  "family and address do not fit together",
);

export const forwardingEntry = object<ForwardingEntry>({
  interface: u32,
  mac,
  master: optional(u32),
  vlan: optional(number),
  state: word(),
  flags,
  remote: optional(ip),
});

export const routeAnswer: Shape<RouteAnswer> = v.variant("reachable", [
  v.object({ reachable: v.literal(true), route }),
  v.object({ reachable: v.literal(false), code: name, said: name, route: optional(route) }),
]);
