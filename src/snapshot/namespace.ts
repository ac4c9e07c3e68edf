/** Reads one network namespace, once, into the plain value that the doctor judges. */
import { ipFamily } from "../address/ip.ts";
import { messageOf } from "../error.ts";
import { ERRNO, SystemError } from "../linux/errno.ts";
import { OWN_NAMESPACE, type NetworkNamespace } from "../kernel/namespace.ts";
import { NetlinkError } from "../linux/netlink/netlink-error.ts";
import {
  NETLINK_NETFILTER,
  NETLINK_ROUTE,
  NETLINK_SOCK_DIAG,
  NETLINK_XFRM,
  openTransport,
  type NetlinkTransport,
} from "../kernel/netlink/transport.ts";
import { readTimeoutPolicies } from "../kernel/conntrack/timeout-policies.ts";
import { readIpsec } from "../kernel/ipsec.ts";
import { readHashlimits } from "../kernel/hashlimit.ts";
import { readListeners } from "../kernel/listeners.ts";
import { defaultTtl } from "../kernel/inet-socket.ts";
import { namesIn } from "../kernel/file.ts";
import { readIpsets } from "../kernel/ipset/ipset.ts";
import { readLegacyTables } from "../kernel/iptables-legacy/iptables-legacy.ts";
import { Nftables } from "../kernel/nftables/nftables.ts";
import type { Ruleset } from "../linux/nftables/ruleset.ts";
import { cpuStatistics, networkCounters, sumCpuStatistics, virtualServices } from "../kernel/procfs.ts";
import type { Address } from "../linux/route/address.ts";
import type { Link } from "../linux/route/link.ts";
import type { Neighbour, NeighbourPlace } from "../linux/route/neighbour.ts";
import type { Route } from "../linux/route/route.ts";
import { KERNEL_RULES, type PolicyRule } from "../linux/route/rule.ts";
import { NETNSA_NSID_NOT_ASSIGNED } from "../linux/route/namespace-id.ts";
import { readOffloads } from "../kernel/route/offloads.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import { translationAtLinks } from "../nat/backends/at-links.ts";
import { MOST_POD_BYTES, podSocket } from "../pods/pod-socket.ts";
import { readPrograms } from "./bpf-programs.ts";
import type {
  ConntrackReading,
  ConntrackState,
  CounterReading,
  Missing,
  NamespaceState,
  Offloads,
  RecordedAnswer,
  RecordedQuery,
} from "./snapshot.ts";
import { present } from "../present.ts";

/** Settings that decide about a path and belong to no interface. */
export const SYSCTLS: readonly string[] = [
  "net.ipv4.ip_forward",
  "net.ipv4.ip_default_ttl",
  "net.ipv4.ip_local_port_range",
  "net.ipv4.fib_multipath_hash_policy",
  "net.ipv4.fib_multipath_use_neigh",
  "net.ipv4.tcp_mtu_probing",
  "net.ipv4.neigh.default.gc_thresh3",
  "net.ipv4.vs.conntrack",
  "net.bridge.bridge-nf-call-iptables",
  "net.bridge.bridge-nf-call-ip6tables",
  "net.netfilter.nf_conntrack_max",
  "net.netfilter.nf_conntrack_count",
  "net.netfilter.nf_conntrack_buckets",
  "net.netfilter.nf_conntrack_tcp_be_liberal",
  "net.netfilter.nf_conntrack_tcp_loose",
  "net.netfilter.nf_conntrack_tcp_timeout_established",
  "net.netfilter.nf_conntrack_udp_timeout_stream",
  "net.ipv4.conf.all.forwarding",
  "net.ipv4.conf.all.rp_filter",
  "net.ipv4.conf.all.src_valid_mark",
  "net.ipv4.conf.all.log_martians",
  "net.ipv4.conf.all.arp_ignore",
  "net.ipv4.conf.all.proxy_arp",
  "net.ipv4.conf.all.route_localnet",
  "net.ipv4.conf.all.ignore_routes_with_linkdown",
  "net.ipv4.conf.default.forwarding",
  "net.ipv4.conf.default.rp_filter",
  "net.ipv6.conf.all.forwarding",
  "net.ipv6.conf.all.disable_ipv6",
  "net.ipv6.conf.all.proxy_ndp",
  "net.ipv6.conf.default.forwarding",
];

/** Decides in a pod where a rule asks for marks. */
const MARK_SYSCTL = "net.ipv4.conf.all.src_valid_mark";

/** Collects what could not be read, so that nothing is silently absent. */
export class Gaps {
  readonly missing: Missing[] = [];

  /** Told once, however often it was tried: a file is read for several things. */
  note(where: string, what: string, error: unknown): void {
    const code = error instanceof SystemError || error instanceof NetlinkError ? error.code : undefined;
    const why = messageOf(error);
    if (this.missing.some((one) => one.where === where && one.what === what && one.why === why)) return;
    this.missing.push(present({ where, what, why, code }));
  }

  /** There is no such thing here, and so nothing that could have been overlooked. */
  absent(where: string, what: string, why: string): void {
    this.missing.push({ where, what, why, absent: true });
  }

  /** The names in a directory of the node, sorted; none where there is no such directory, or with a note. */
  names(directory: string): string[] {
    return this.try("node", directory, () => namesIn(directory)) ?? [];
  }

  /** The value, or undefined with a note. */
  try<T>(where: string, what: string, read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      this.note(where, what, error);
      return undefined;
    }
  }
}

export interface ReadOptions {
  /** How the namespace is called in Missing.where. */
  readonly name: string;
  /** Questions for the kernel's routing. */
  readonly queries?: readonly RecordedQuery[];
  /** `node` also reads settings, counters, conntrack and programs, which decide nothing in a pod. */
  readonly role: "node" | "pod";
  /** Decodes rules when they are first looked at: see RulesetOptions.deferred. */
  readonly deferred?: boolean;
  /** Of the neighbours only next hops: a dump walks the entries of every namespace of the machine. */
  readonly onlyNextHops?: boolean;
  /** The node's namespace, for a pod: by its number there the pod's links are told from others. */
  readonly node?: NetworkNamespace;
  /** Looks at the links first: false ends the reading at once. */
  readonly belongs?: (route: Rtnetlink, links: readonly Link[]) => boolean;
}

/**
 * Reads a namespace; undefined when it does not belong. Counters have one reading; `readAgain` adds the second.
 */
export function readNamespace(
  namespace: NetworkNamespace,
  options: ReadOptions,
  gaps: Gaps,
): NamespaceState | undefined {
  // In one visit: a node has hundreds of namespaces, and to enter and leave one takes as long as a question to it.
  return namespace.run(() => readInside(namespace, options, gaps));
}

/** The thread is in the namespace. */
function readInside(
  namespace: NetworkNamespace,
  options: ReadOptions,
  gaps: Gaps,
): NamespaceState | undefined {
  const { name, role } = options;
  const read = <T>(what: string, from: () => T[]): T[] => gaps.try(name, what, from) ?? [];
  using sources = openSources(namespace, role);
  const { route, netfilter } = sources;
  const links = read("links", () => route.links({ statistics: false }));
  if (options.belongs?.(route, links) === false) return undefined;
  const queries = options.queries ?? [];
  const ruleset = readRuleset(netfilter, options, gaps);
  const rules = read("rules", () => route.rules());
  const addresses = read("addresses", () => route.addresses());
  const routes = read("routes", () => route.routes());
  const askable = role === "node" ? queries : queries.filter((query) => hasSource(addresses, query));
  const routeAnswers = answers(route, links, askable, name, gaps);
  const legacy = read("iptables-legacy", () =>
    readLegacyTables(role === "pod" ? { mostBytes: MOST_POD_BYTES } : {}),
  );
  const decides = present({ legacy, rules, addresses, ruleset });
  const listeners =
    role === "node" || asksForSockets(decides, queries)
      ? gaps.try(name, "listeners", () => readListeners(sources.sockets))
      : undefined;
  const tables = [...(ruleset?.tables ?? []), ...legacy];
  const timeouts =
    role === "node"
      ? gaps.try(name, "timeout policies", () => readTimeoutPolicies(tables, netfilter))
      : undefined;
  const ipsec = gaps.try(name, "ipsec", () => readIpsec(sources.ipsec));
  return {
    ...emptyState(namespace, links),
    ...(options.node === undefined ? {} : nodeNumber(route, options.node, name, gaps)),
    ...decides,
    ...present({ ipsec, timeoutPolicies: timeouts }),
    routes,
    neighbours: read("neighbours", () =>
      options.onlyNextHops === true ? nextHopsOf(route, routes, routeAnswers) : route.neighbours(),
    ),
    ...present({
      proxies: role === "node" ? read("proxies", () => route.neighbours({ proxies: true })) : undefined,
      listeners,
    }),
    ipsets: hasRules(decides) ? read("ipset", () => readIpsets(netfilter())) : [],
    ...(role === "node"
      ? readNodeParts(namespace, route, links, name, gaps)
      : { sysctls: readPodSysctls(name, route, rules, gaps) }),
    routeAnswers,
  };
}

/** Sockets of the namespace, each opened when it is first asked for. */
interface Sources extends Disposable {
  readonly route: Rtnetlink;
  readonly netfilter: () => NetlinkTransport;
  readonly sockets: () => NetlinkTransport;
  readonly ipsec: () => NetlinkTransport;
}

/** The thread is in the namespace already. */
function openSources(namespace: NetworkNamespace, role: ReadOptions["role"]): Sources {
  const opened = new Map<number, NetlinkTransport>();
  const open = (protocol: number): NetlinkTransport => {
    const before = opened.get(protocol);
    if (before !== undefined) return before;
    const one = role === "pod" ? podSocket(protocol) : openTransport(protocol);
    opened.set(protocol, one);
    return one;
  };
  return {
    route: new Rtnetlink(open(NETLINK_ROUTE), namespace),
    netfilter: () => open(NETLINK_NETFILTER),
    sockets: () => open(NETLINK_SOCK_DIAG),
    ipsec: () => open(NETLINK_XFRM),
    [Symbol.dispose]() {
      for (const transport of opened.values()) transport.close();
    },
  };
}

function readNodeParts(
  namespace: NetworkNamespace,
  route: Rtnetlink,
  links: readonly Link[],
  name: string,
  gaps: Gaps,
): Partial<NamespaceState> {
  const conntrack = gaps.try(name, "conntrack", () => readConntrack(namespace));
  const services = gaps.try(name, "virtual services", () => virtualServices(namespace));
  const translation = gaps.try(name, "our programs' policy", () => translationAtLinks(namespace));
  const selective = links.some(
    ({ port }) => port?.locked === true || (port?.learning === false && !port.flood),
  );
  return present({
    virtualServices: services,
    forwarding: selective
      ? (gaps.try(name, "forwarding database", () => route.forwardingDatabase()) ?? [])
      : undefined,
    sysctls: readSysctls(name, nodeSysctls(links), gaps),
    hashlimits: gaps.try(name, "hashlimit", readHashlimits) ?? [],
    conntrack,
    counters: [readCounters(namespace)],
    programs: gaps.try(name, "programs", () => readPrograms(namespace, route, links)) ?? [],
    linkTranslation: translation,
    offloads: gaps.try(name, "offloads", () => offloadsOf(namespace, links)) ?? {},
  });
}

/** Only tunnels are asked: elsewhere an unfinished checksum is finished by the interface that takes the packet. */
function offloadsOf(namespace: NetworkNamespace, links: readonly Link[]): Record<string, Offloads> {
  const tunnels = links.filter((link) => link.kind === "vxlan" || link.kind === "geneve");
  if (tunnels.length === 0) return {};
  const features = readOffloads(namespace);
  return Object.fromEntries(
    tunnels.map((link) => [
      link.name,
      { txChecksum: features.get(link.index)?.includes("tx-checksum-ip-generic") === true },
    ]),
  );
}

/**
 * Addresses and, where one of them is of interest, links: enough to know whose address it is.
 * @param node the node's namespace
 * @param belongs looks at the links of who has an address of interest: undefined is returned for a false
 */
export function readAddresses(
  namespace: NetworkNamespace,
  name: string,
  interest: ReadonlySet<string>,
  node: NetworkNamespace,
  belongs: NonNullable<ReadOptions["belongs"]>,
  gaps: Gaps,
): NamespaceState | undefined {
  using route = new Rtnetlink(podSocket(NETLINK_ROUTE, { namespace }), namespace);
  const addresses = gaps.try(name, "addresses", () => route.addresses()) ?? [];
  const wanted = addresses.some((one) => interest.has(one.address));
  const links = wanted ? (gaps.try(name, "links", () => route.links({ statistics: false })) ?? []) : [];
  if (wanted && !belongs(route, links)) return undefined;
  return {
    ...emptyState(namespace, links),
    ...(wanted ? nodeNumber(route, node, name, gaps) : {}),
    addresses,
  };
}

function nodeNumber(
  route: Rtnetlink,
  node: NetworkNamespace,
  name: string,
  gaps: Gaps,
): Pick<NamespaceState, "nodeNamespaceId"> {
  const ask = (): number => route.namespaceId(node.fd) ?? NETNSA_NSID_NOT_ASSIGNED;
  const id = gaps.try(name, "number of the node's namespace", ask);
  return id === undefined ? {} : { nodeNamespaceId: id };
}

function emptyState(namespace: NetworkNamespace, links: NamespaceState["links"]): NamespaceState {
  return present({
    inode: namespace.inode,
    // The calling thread's own namespace needs no entering.
    path: namespace.path === OWN_NAMESPACE ? undefined : namespace.path,
    links,
    addresses: [],
    routes: [],
    rules: [],
    neighbours: [],
    offloads: {},
    sysctls: {},
    legacy: [],
    ipsets: [],
    counters: [],
    programs: [],
    routeAnswers: [],
  });
}

/** The ruleset; undefined, with a note, on a kernel without nf_tables. */
function readRuleset(
  netfilter: Sources["netfilter"],
  { name, deferred = false }: ReadOptions,
  gaps: Gaps,
): Ruleset | undefined {
  try {
    return new Nftables(netfilter()).ruleset({ deferred });
  } catch (error) {
    const absent = error instanceof SystemError || error instanceof NetlinkError;
    const lacking = absent && (error.errno === ERRNO.EPROTONOSUPPORT || error.errno === ERRNO.EINVAL);
    if (lacking) gaps.absent(name, "ruleset", "this kernel has no nf_tables");
    else gaps.note(name, "ruleset", error);
    return undefined;
  }
}

/** Those that decide in a pod about what it sends and what comes to it. The thread is there. */
function readPodSysctls(
  name: string,
  route: Rtnetlink,
  rules: readonly PolicyRule[],
  gaps: Gaps,
): Record<string, string> {
  const marked = rules.some((rule) => rule.mark !== undefined);
  const values = marked ? readSysctls(name, [MARK_SYSCTL], gaps) : {};
  const asked: readonly (readonly [string, () => number | undefined])[] = [
    ["net.ipv4.ip_default_ttl", defaultTtl],
    ["net.ipv4.conf.all.rp_filter", () => route.reversePathOfAll()],
  ];
  for (const [sysctl, ask] of asked) {
    const value = gaps.try(name, `sysctl ${sysctl}`, ask);
    if (value !== undefined) values[sysctl] = String(value);
  }
  return values;
}

/** The entries that packets of a namespace may meet: of its gateways, and of destinations without one. */
function nextHopsOf(
  route: Rtnetlink,
  routes: readonly Route[],
  answered: readonly RecordedAnswer[],
): Neighbour[] {
  const places = new Map<string, NeighbourPlace>();
  const add = (link: number | undefined, address: string | undefined): void => {
    if (link === undefined || address === undefined) return;
    places.set(`${link} ${address}`, { interface: link, address });
  };
  for (const one of routes) for (const hop of one.nextHops ?? [one]) add(hop.interface, hop.gateway);
  for (const { query, answer } of answered) {
    if (answer.reachable && answer.route.gateway === undefined) {
      add(answer.route.interface, query.destination);
    }
  }
  return route.neighboursAt([...places.values()]);
}

/** Who has no rule looks at no set. */
function hasRules({ ruleset, legacy }: Pick<NamespaceState, "ruleset" | "legacy">): boolean {
  return (ruleset?.tables.length ?? 0) > 0 || legacy.length > 0;
}

/** Without an address of the family nothing is sent: most pods are asked in vain where their IPv6 would go. */
function hasSource(addresses: readonly Address[], { destination }: RecordedQuery): boolean {
  const family = ipFamily(destination);
  return addresses.some((one) => one.family === family && one.scope !== "host" && one.scope !== "link");
}

/** Whether sockets of the namespace can decide about a packet: one for itself, or one that rules look at or redirect. */
function asksForSockets(
  state: Pick<NamespaceState, "ruleset" | "legacy" | "rules" | "addresses">,
  queries: readonly RecordedQuery[],
): boolean {
  return (
    hasRules(state) ||
    state.rules.some((rule) => !KERNEL_RULES.has(rule.priority)) ||
    queries.some(({ destination }) => state.addresses.some((one) => one.address === destination))
  );
}

function nodeSysctls(links: readonly Link[]): string[] {
  const bridges = links.filter((link) => link.kind === "bridge");
  return [...SYSCTLS, ...bridges.map((link) => `net.ipv6.conf.${link.name}.force_forwarding`)];
}

/** The thread is in the namespace already. */
function readSysctls(where: string, names: readonly string[], gaps: Gaps): Record<string, string> {
  const values: Record<string, string> = {};
  for (const name of names) {
    const value = gaps.try(where, `sysctl ${name}`, () => readSysctl(undefined, name));
    if (value !== undefined) values[name] = value;
  }
  return values;
}

export function readCounters(namespace: NetworkNamespace): CounterReading {
  return { at: new Date().toISOString(), values: networkCounters(namespace) };
}

/** Undefined where conntrack is not loaded. */
function readConntrack(namespace: NetworkNamespace): ConntrackState | undefined {
  const number = (name: string): number | undefined => {
    const text = readSysctl(namespace, `net.netfilter.nf_conntrack_${name}`);
    return text === undefined ? undefined : Number(text);
  };
  const count = number("count");
  const max = number("max");
  if (count === undefined || max === undefined) return undefined;
  return { count, max, buckets: number("buckets") ?? 0, readings: [readConntrackCounters(namespace)] };
}

export function readConntrackCounters(namespace: NetworkNamespace): ConntrackReading {
  const sum = sumCpuStatistics(cpuStatistics(namespace, "nf_conntrack") ?? []);
  return {
    invalid: sum["invalid"] ?? 0,
    insertFailed: sum["insert_failed"] ?? 0,
    drop: sum["drop"] ?? 0,
    earlyDrop: sum["early_drop"] ?? 0,
    clash: sum["clashres"] ?? 0,
    searchRestart: sum["search_restart"] ?? 0,
  };
}

function answers(
  route: Rtnetlink,
  links: readonly Link[],
  queries: readonly RecordedQuery[],
  name: string,
  gaps: Gaps,
): RecordedAnswer[] {
  const byName = new Map(links.map((link) => [link.name, link.index]));
  const askable = queries.filter(({ iif }) => iif === undefined || byName.has(iif));
  const given = gaps.try(name, "route answers", () =>
    route.routesTo(
      askable.map(({ destination, source, mark, iif }) =>
        present({
          destination,
          source,
          mark,
          inputInterface: iif === undefined ? undefined : byName.get(iif)!,
        }),
      ),
    ),
  );
  const recorded: RecordedAnswer[] = [];
  for (const [index, answer] of (given ?? []).entries()) {
    const query = askable[index]!;
    if (answer instanceof Error) gaps.note(name, `route to ${query.destination}`, answer);
    else recorded.push({ query, answer });
  }
  return recorded;
}

/** Asks the kernel about more packets. */
export function recordAnswers(
  namespace: NetworkNamespace,
  state: NamespaceState,
  queries: readonly RecordedQuery[],
  name: string,
  gaps: Gaps,
): NamespaceState {
  if (queries.length === 0) return state;
  using route = Rtnetlink.open(namespace);
  const recorded = answers(route, state.links, queries, name, gaps);
  return { ...state, routeAnswers: [...state.routeAnswers, ...recorded] };
}

/** The second reading of everything that counts. */
export function readAgain(namespace: NetworkNamespace, state: NamespaceState): NamespaceState {
  const { conntrack } = state;
  return {
    ...state,
    counters: [...state.counters, readCounters(namespace)],
    ...present({
      conntrack:
        conntrack === undefined
          ? undefined
          : { ...conntrack, readings: [...conntrack.readings, readConntrackCounters(namespace)] },
    }),
  };
}
