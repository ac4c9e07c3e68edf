/**
 * The whole shape of a snapshot: what a stranger's file holds besides is left out, and what does not fit is refused with
 * its place, before anything is concluded from it. The types see to it that no field is forgotten here.
 */
import type { TimeoutPolicy } from "../../linux/conntrack/timeout-policy.ts";
import type { HashlimitBucket, HashlimitTable } from "../../linux/xtables/hashlimit-table.ts";
import { NAT_BACKENDS } from "../../nat/backends/backends.ts";
import type { PortRange } from "../../linux/ip-protocol.ts";
import type { FastPathState, LinkTranslation } from "../../nat/backends/link-translation.ts";
import type { AddressRange, NatIntent, NatSource, Translation } from "../../nat/intent.ts";
import type { RealServer, VirtualService } from "../../kernel/procfs.ts";
import type { IpsetEntry } from "../../linux/ipset.ts";
import type { ResolvConf } from "../../linux/resolv-conf.ts";
import type { Listener } from "../../linux/socket-diag.ts";
import {
  PLUGIN_FAULTS,
  SNAPSHOT_FORMAT,
  type ConfigFile,
  type ConnectionCount,
  type ConntrackReading,
  type ConntrackState,
  type CounterReading,
  type ExpectedInterface,
  type FlowGroup,
  type IpsetState,
  type Missing,
  type NamespaceState,
  type NetworkPlugin,
  type Offloads,
  type PodState,
  type PortUse,
  type ProgramState,
  type RecordedAnswer,
  type RecordedNat,
  type RecordedQuery,
  type Snapshot,
  type WayoutState,
} from "../snapshot.ts";
import { address, forwardingEntry, link, neighbour, policyRule, route, routeAnswer } from "./network.ts";
import {
  family,
  flag,
  integer,
  ip,
  list,
  name,
  number,
  object,
  oneOf,
  optional,
  port,
  prefix,
  record,
  text,
  u32,
  yes,
  type Shape,
} from "./pieces.ts";
import { ipsec } from "./ipsec.ts";
import { ruleset, table } from "./rules.ts";

const MOST_PODS = 10_000;
const MOST_READINGS = 1000;

// ── Beside the network itself ────────────────────────────────────────────────────────────────────────────────────

const listener = object<Listener>({
  protocol: oneOf(["tcp", "udp"]),
  address: ip,
  port,
  uid: u32,
  onlyIpv6: optional(yes),
  transparent: optional(yes),
  interface: optional(u32),
});

const virtualService = object<VirtualService>({
  protocol: oneOf(["tcp", "udp", "sctp"]),
  address: ip,
  port,
  mark: optional(u32),
  destinations: number,
  servers: optional(list(object<RealServer>({ address: ip, port, weight: number, forward: name }))),
});

const hashlimit = object<HashlimitTable>({
  name,
  family,
  buckets: list(object<HashlimitBucket>({ key: name, credit: number, cap: number, cost: number })),
});

const ipset = object<IpsetState>({
  name,
  index: u32,
  type: name,
  family,
  entries: list(object<IpsetEntry>({ value: name, nomatch: flag })),
});

const reading = object<ConntrackReading>({
  invalid: number,
  insertFailed: number,
  drop: number,
  earlyDrop: number,
  clash: number,
  searchRestart: number,
});

const flowGroup = object<FlowGroup>({
  protocol: name,
  source: ip,
  sourcePort: port,
  destination: ip,
  destinationPort: port,
  translatedTo: ip,
  answeredBy: ip,
  answeredPort: port,
  count: number,
  timeoutSeconds: number,
  answered: flag,
});

const conntrack = object<ConntrackState>({
  count: number,
  max: number,
  buckets: number,
  readings: list(reading, MOST_READINGS),
  portUse: optional(
    list(
      object<PortUse>({
        protocol: name,
        outgoing: ip,
        destination: ip,
        port,
        used: number,
        ended: optional(number),
      }),
    ),
  ),
  flows: optional(list(flowGroup)),
  connections: optional(
    list(object<ConnectionCount>({ protocol: name, source: ip, destination: ip, open: number })),
  ),
});

const query = object<RecordedQuery>({
  destination: ip,
  source: optional(ip),
  iif: optional(name),
  mark: optional(number),
});

const program = object<ProgramState>({
  link: name,
  hook: name,
  id: optional(number),
  name: optional(name),
  kind: optional(name),
});

const translation = object<Translation>({
  snat: optional(object<AddressRange>({ first: ip, last: ip })),
  ports: optional(object<PortRange>({ first: port, last: port })),
  fullyRandom: flag,
  drop: optional(yes),
});

const intent = object<NatIntent>({
  owner: name,
  sources: list(
    object<NatSource>({
      cidr: prefix,
      translation,
      inInterfaces: optional(list(name)),
      outInterfaces: optional(list(name)),
      fromNode: optional(yes),
    }),
  ),
  untranslated: list(prefix),
});

const linkTranslation = object<LinkTranslation>({
  backend: oneOf(NAT_BACKENDS),
  intents: list(intent),
  egress: list(name),
  ingress: list(name),
  guard: object<LinkTranslation["guard"]>({ family: name, table: name }),
  room: number,
  counts: record(number),
  fastPath: optional(object<FastPathState>({ open: yes, obstacles: list(text) })),
});

const namespaceState: Shape<NamespaceState> = object<NamespaceState>({
  inode: number,
  nodeNamespaceId: optional(number),
  path: optional(name),
  links: list(link),
  addresses: list(address),
  routes: list(route),
  rules: list(policyRule),
  neighbours: list(neighbour),
  proxies: optional(list(neighbour)),
  listeners: optional(list(listener)),
  virtualServices: optional(list(virtualService)),
  timeoutPolicies: optional(
    list(object<TimeoutPolicy>({ name, family, protocol: integer(0, 0xff), timeouts: record(number) })),
  ),
  ipsec: optional(ipsec),
  forwarding: optional(list(forwardingEntry)),
  hashlimits: optional(list(hashlimit)),
  offloads: record(object<Offloads>({ txChecksum: flag })),
  sysctls: record(text),
  ruleset: optional(ruleset),
  legacy: list(table),
  ipsets: list(ipset),
  conntrack: optional(conntrack),
  counters: list(object<CounterReading>({ at: name, values: record(number) }), MOST_READINGS),
  programs: list(program),
  linkTranslation: optional(linkTranslation),
  routeAnswers: list(object<RecordedAnswer>({ query, answer: routeAnswer })),
});

// ── Pods, and what was set up for them ───────────────────────────────────────────────────────────────────────────

const resolvConf = object<ResolvConf>({
  nameservers: list(name, 1000),
  domain: optional(name),
  search: list(name, 1000),
  options: list(name, 1000),
});

const expected = object<ExpectedInterface>({
  record: optional(name),
  name,
  addresses: list(prefix, 1000),
  gateways: list(ip, 1000),
  mac: optional(name),
  network: optional(name),
  masqueradedBy: optional(name),
});

const pod = object<PodState>({
  name,
  aliases: list(name, 1000),
  source: name,
  since: optional(name),
  state: optional(namespaceState),
  resolvConf: optional(resolvConf),
  dnsListeners: optional(list(ip, 1000)),
  expected: optional(expected),
});

const wayoutState = object<WayoutState>({
  nat: list(object<RecordedNat>({ record: name, backend: oneOf(NAT_BACKENDS), intent })),
});

export const SNAPSHOT_SHAPE = object<Snapshot>({
  format: oneOf([SNAPSHOT_FORMAT]),
  version: number,
  wayout: name,
  takenAt: name,
  kernelRelease: name,
  node: namespaceState,
  pods: list(pod, MOST_PODS),
  containers: optional(list(name)),
  files: list(object<ConfigFile>({ path: name, text: optional(text) })),
  networkPlugins: optional(
    list(
      object<NetworkPlugin>({
        runtime: name,
        file: name,
        type: name,
        directories: list(name, 100),
        path: optional(name),
        elsewhere: optional(name),
        fault: optional(oneOf(PLUGIN_FAULTS)),
        said: optional(text),
      }),
      1000,
    ),
  ),
  missing: list(
    object<Missing>({
      where: name,
      what: name,
      why: name,
      absent: optional(yes),
      code: optional(name),
    }),
  ),
  wayoutState: optional(wayoutState),
});
