/**
 * Everything the kernel says about one node at one instant, as one plain JSON value. The doctor reads nothing else, so
 * a snapshot taken here can be judged anywhere. Nothing in it is secret: no process, no environment, no payload.
 *
 * This is a file format. A change of meaning, or a field that readers cannot do without, raises SNAPSHOT_VERSION;
 * an added optional field does not.
 */
import type { ResolvConf } from "../linux/resolv-conf.ts";
import type { IpFamily } from "../address/ip.ts";
import type { OutgoingPortUse } from "../flows/flow-statistics.ts";
import type { LinkTranslation } from "../nat/backends/link-translation.ts";
import type { NatBackendName } from "../nat/backends/backends.ts";
import type { NatIntent } from "../nat/intent.ts";
import type { Address } from "../linux/route/address.ts";
import type { Link } from "../linux/route/link.ts";
import type { IpsetEntry } from "../linux/ipset.ts";
import type { VirtualService } from "../kernel/procfs.ts";
import type { ForwardingEntry, Neighbour } from "../linux/route/neighbour.ts";
import type { Route, RouteAnswer } from "../linux/route/route.ts";
import type { PolicyRule } from "../linux/route/rule.ts";
import type { HashlimitTable } from "../linux/xtables/hashlimit-table.ts";
import type { TimeoutPolicy } from "../linux/conntrack/timeout-policy.ts";
import type { IpsecState } from "../linux/xfrm.ts";
import type { Listener } from "../linux/socket-diag.ts";
import type { Ruleset, Table } from "../linux/nftables/ruleset.ts";

export const SNAPSHOT_FORMAT = "wayout-snapshot";
export const SNAPSHOT_VERSION = 2;

export interface Snapshot {
  readonly format: typeof SNAPSHOT_FORMAT;
  readonly version: number;
  /** Version of the wayout that took it. */
  readonly wayout: string;
  /** ISO 8601, UTC. */
  readonly takenAt: string;
  readonly kernelRelease: string;
  readonly node: NamespaceState;
  readonly pods: readonly PodState[];
  /** Ids of the containers of everybody who lives here; absent when not everybody was asked for. */
  readonly containers?: readonly string[];
  /** The node's configuration files that decide what sysctls become, and its own resolver. */
  readonly files: readonly ConfigFile[];
  /** The CNI plugins that container runtimes of this node need; absent where none of them has a network. */
  readonly networkPlugins?: readonly NetworkPlugin[];
  /** What could not be read, and why. The checks that needed it say so. */
  readonly missing: readonly Missing[];
  /** Our own record of what we set up on this node: absent when we set up nothing. */
  readonly wayoutState?: WayoutState;
}

/** One place a check wanted to look at and could not. */
export interface Missing {
  /** `node`, or the pod's name. */
  readonly where: string;
  /** What, as a stable word: `ruleset`, `programs`, `sysctl net.ipv4.ip_forward`, `/etc/sysctl.d/10-x.conf`. */
  readonly what: string;
  readonly why: string;
  /** True: there is no such thing on this machine; false or absent: it is there, or may be, and was not read. */
  readonly absent?: true;
  /** errno name, where the kernel refused: EPERM says nothing of what is there. */
  readonly code?: string;
}

/** Whether it was not read for want of privilege. */
export function isForbidden(missing: Missing | undefined): boolean {
  return missing?.code === "EPERM" || missing?.code === "EACCES";
}

export const PLUGIN_FAULTS = [
  "missing",
  "not-executable",
  "another-machine",
  "damaged",
  "another-build",
] as const;
export type PluginFault = (typeof PLUGIN_FAULTS)[number];

/** A CNI plugin without which no pod starts, as its file was found. */
export interface NetworkPlugin {
  /** `containerd`, `CRI-O`, `podman`. */
  readonly runtime: string;
  /** The network's configuration that names it. */
  readonly file: string;
  readonly type: string;
  /** Where the runtime looks for it, in this order. */
  readonly directories: readonly string[];
  /** Where it lies; absent when it is in none of the directories. */
  readonly path?: string;
  /** Where it lies without being looked for; only told of one that is missing. */
  readonly elsewhere?: string;
  /** What keeps it from being executed, or from being this wayout's; absent: nothing. */
  readonly fault?: PluginFault;
  /** What was read of it that says so. */
  readonly said?: string;
}

/** A text file as it was, or why it was not. */
export interface ConfigFile {
  readonly path: string;
  readonly text?: string;
}

/** What wayout remembers of what it set up on this node. */
export interface WayoutState {
  readonly nat: readonly RecordedNat[];
}

/** NAT rules that were installed and shall stand. */
export interface RecordedNat {
  /** The file that says so. */
  readonly record: string;
  readonly backend: NatBackendName;
  readonly intent: NatIntent;
}

/** A pod: a namespace that lives on the node, with the name a person uses for it. */
export interface PodState {
  readonly name: string;
  /** Other names it answers to: container id, namespace/pod, path. */
  readonly aliases: readonly string[];
  /** `netns`, `podman`, `containerd`, `cni`, `pid`. */
  readonly source: string;
  /** When its namespace was made (file time of the name or start of the process), ISO; absent when unknown. */
  readonly since?: string;
  /** Undefined when the namespace could not be entered (it is gone, or we may not); `missing` says why. */
  readonly state?: NamespaceState;
  /** What /etc/resolv.conf says, as the pod's processes see it; absent when there is none, or it was not read whole. */
  readonly resolvConf?: ResolvConf;
  /** Addresses on which something in the pod listens for UDP port 53, e.g. `127.0.0.53`; `0.0.0.0` is any. */
  readonly dnsListeners?: readonly string[];
  /** What the runtime promised the pod (CNI result): used to tell a missing interface from one that never was. */
  readonly expected?: ExpectedInterface;
}

/** What the pod was given, by what others than the pod say. */
export interface ExpectedInterface {
  /** The file that says so; absent for the result that a CNI runtime keeps. */
  readonly record?: string;
  readonly name: string;
  /** With prefix length, as the CNI result has it. */
  readonly addresses: readonly string[];
  readonly gateways: readonly string[];
  /** In small letters; absent where nobody says. */
  readonly mac?: string;
  readonly network?: string;
  /** The CNI plugin that was told to masquerade what the pod sends, by its type. */
  readonly masqueradedBy?: string;
}

/** One network namespace. */
export interface NamespaceState {
  /** The kernel's inode number of the namespace. */
  readonly inode: number;
  /**
   * Of a pod: the number by which it knows the node's namespace, as in IFLA_LINK_NETNSID of its links; -1 when it knows
   * none. Absent: not asked for.
   */
  readonly nodeNamespaceId?: number;
  /** How commands enter it: a path; absent for the namespace in which commands run anyway. */
  readonly path?: string;
  readonly links: readonly Link[];
  readonly addresses: readonly Address[];
  /** Of all tables, local and multicast included. */
  readonly routes: readonly Route[];
  readonly rules: readonly PolicyRule[];
  readonly neighbours: readonly Neighbour[];
  /** Addresses that are answered for although they are another host's (`ip neigh add proxy`); absent: not read. */
  readonly proxies?: readonly Neighbour[];
  /** Sockets that listen; absent when they were not read. */
  readonly listeners?: readonly Listener[];
  /** Virtual services of IPVS; absent where it is not loaded. */
  readonly virtualServices?: readonly VirtualService[];
  /** Named timeouts of connection tracking; absent where no rule asks for one. */
  readonly timeoutPolicies?: readonly TimeoutPolicy[];
  /** What IPsec encrypts, refuses and demands; absent where it has no policy. */
  readonly ipsec?: IpsecState;
  /** Entries of the bridges' forwarding databases; absent where no port is locked or deaf, so that they decide nothing. */
  readonly forwarding?: readonly ForwardingEntry[];
  /** Buckets of xt_hashlimit by the name of their table: what the kernel says of them now. */
  readonly hashlimits?: readonly HashlimitTable[];
  /** Offloads of the links that a path may use, by link name; a link that refused to say is absent. */
  readonly offloads: Readonly<Record<string, Offloads>>;
  /** By kernel name with dots (`net.ipv4.conf.eth0.rp_filter`; an interface's own dots are slashes), trimmed. */
  readonly sysctls: Readonly<Record<string, string>>;
  /** The whole nf_tables ruleset; absent when the kernel has none or refused (see Snapshot.missing). */
  readonly ruleset?: Ruleset;
  /** The tables of iptables-legacy and ip6tables-legacy that exist here, as nf_tables would have them. */
  readonly legacy: readonly Table[];
  readonly ipsets: readonly IpsetState[];
  readonly conntrack?: ConntrackState;
  /** Two readings, the second a while after the first, so that deltas can be told. */
  readonly counters: readonly CounterReading[];
  /** Programs that see packets before or beside netfilter: they cannot be predicted, only named. */
  readonly programs: readonly ProgramState[];
  /** What a backend of ours translates at links, beside all rules; absent where none does. */
  readonly linkTranslation?: LinkTranslation;
  /** What the kernel answered when it was asked where a packet would go. */
  readonly routeAnswers: readonly RecordedAnswer[];
}

/** What a link leaves to "hardware" (ethtool -k). */
export interface Offloads {
  readonly txChecksum: boolean;
}

export interface IpsetState {
  readonly name: string;
  /** The number that iptables rules call it by. */
  readonly index: number;
  /** `hash:ip`, `hash:net`, `hash:ip,port`, `list:set`, `bitmap:ip`, … */
  readonly type: string;
  readonly family: IpFamily;
  readonly entries: readonly IpsetEntry[];
}

export interface ConntrackState {
  readonly count: number;
  readonly max: number;
  readonly buckets: number;
  /** Summed over the CPUs: two readings like NamespaceState.counters. */
  readonly readings: readonly ConntrackReading[];
  /** Use of source ports by translated flows, the fullest first; absent when the table was not read. */
  readonly portUse?: readonly PortUse[];
  /** Flows without connections (UDP and others), and TCP's whose answers cannot come back; as `portUse`. */
  readonly flows?: readonly FlowGroup[];
  /** Only where a rule limits connections; absent where there are too many to tell. */
  readonly connections?: readonly ConnectionCount[];
}

/** Connections that are open, by who began them and to whom. */
export interface ConnectionCount {
  readonly protocol: string;
  readonly source: string;
  readonly destination: string;
  readonly open: number;
}

export interface ConntrackReading {
  readonly invalid: number;
  readonly insertFailed: number;
  readonly drop: number;
  readonly earlyDrop: number;
  readonly clash: number;
  readonly searchRestart: number;
}

/** How many translated flows go from one outgoing address to one destination port: at most as many as there are ports. */
export type PortUse = Omit<OutgoingPortUse, "of">;

/** Tracked flows that differ in nothing but their source port. */
export interface FlowGroup {
  /** `udp`, `tcp`, `icmp`, … */
  readonly protocol: string;
  readonly source: string;
  /** Of the one that was used last; 0 for protocols without ports, as the other ports. */
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
  /** Whom the answers go to: the source as the other side sees it. */
  readonly translatedTo: string;
  /** Who really answers: the destination behind DNAT. */
  readonly answeredBy: string;
  readonly answeredPort: number;
  readonly count: number;
  /** Until the kernel forgets the one that was used last. */
  readonly timeoutSeconds: number;
  /** Whether an answer came to any of them. */
  readonly answered: boolean;
}

export interface CounterReading {
  /** ISO 8601. */
  readonly at: string;
  /** `Ip.Forwarding`, `Ip.ForwDatagrams`, `TcpExt.IPReversePathFilter`, `IpExt.InNoRoutes`, `Ip6.OutNoRoutes`, … */
  readonly values: Readonly<Record<string, number>>;
}

export interface ProgramState {
  readonly link: string;
  /** `tc ingress`, `tc egress`, `tcx ingress`, `tcx egress`, `xdp`. */
  readonly hook: string;
  readonly id?: number;
  readonly name?: string;
  /** A tc filter that is no BPF program: its kind. */
  readonly kind?: string;
}

/** A question to the kernel's routing, by names instead of interface numbers. */
export interface RecordedQuery {
  readonly destination: string;
  readonly source?: string;
  /** Name of the incoming interface: asks as for a packet to be forwarded. */
  readonly iif?: string;
  readonly mark?: number;
}

/** The kernel's own answer to RTM_GETROUTE. */
export interface RecordedAnswer {
  readonly query: RecordedQuery;
  readonly answer: RouteAnswer;
}
