/** Everything a trace gathers, before anything is concluded from it: one plain value. */
import type { IpFamily } from "../address/ip.ts";
import type { KernelDrop } from "../kernel/bpf/drops.ts";
import type { ConntrackEntry } from "../linux/conntrack/entry.ts";
import type { TraceEvent } from "../kernel/nftables/events.ts";
import type { Table } from "../linux/nftables/ruleset.ts";
import type { CapturedPacket } from "../kernel/packet-socket.ts";
import type { Counters } from "../kernel/procfs.ts";
import type { Address } from "../linux/route/address.ts";
import type { Link } from "../linux/route/link.ts";
import type { Neighbour } from "../linux/route/neighbour.ts";
import type { RouteAnswer } from "../linux/route/route.ts";
import type { TraceProtocol } from "./observe/destination.ts";
import type { ExchangeState } from "./observe/exchange.ts";

/** What the kernel says about the path before a packet is sent. */
export interface PathSurvey {
  readonly pod: PodSide;
  /** Absent when the other end of the pod's veth was not found, or no route leads out of the pod. */
  readonly node?: NodeSide;
}

export interface PodSide {
  readonly name: string;
  readonly path: string;
  readonly inode: number;
  readonly links: readonly Link[];
  readonly addresses: readonly Address[];
  /** The kernel's answer to "where would this go", in the pod. */
  readonly route: RouteAnswer;
  /** The interface that the route uses, or eth0, or the only one there is. */
  readonly link?: Link;
  /** The next hop: a gateway, or the destination itself on the same network. */
  readonly nextHop?: string;
  /** Lists that were given up: they are empty, or have only what the packet's own interface has. */
  readonly unread?: readonly NotObserved[];
}

export interface NodeSide {
  readonly path: string;
  readonly inode: number;
  readonly links: readonly Link[];
  readonly addresses: readonly Address[];
  /** The node's end of the pod's veth. */
  readonly hostLink?: Link;
  readonly bridge?: Link;
  /** The bridge port is locked, and the bridge does not know the pod's MAC address behind it. */
  readonly isLockedOut?: true;
  /** The interface that the pod's own sits on (macvlan): its packets leave there, past the node's IP layer. */
  readonly lower?: Link;
  /** Where the node's IP layer receives the pod's packets: the bridge, or the host veth. */
  readonly entry?: Link;
  /** The kernel's answer for this source and incoming interface. */
  readonly route?: RouteAnswer;
  /** The node's own route back to the pod: reverse path filtering compares it with where packets come from. */
  readonly routeBack?: RouteAnswer;
  /** The interface that leads out. */
  readonly out?: Link;
  readonly nextHop?: string;
  /** Forwarding and reverse path filtering, as far as they touch this path. */
  readonly sysctls: Readonly<Record<string, string>>;
  /** Tables of iptables-legacy that exist. */
  readonly iptablesLegacy: readonly string[];
}

/** A packet and where it was seen. */
export interface SeenPacket extends CapturedPacket {
  readonly where: "pod" | "node";
}

/** A tracked connection as it was at one moment. */
export interface FlowEvent {
  readonly kind: "new" | "update" | "destroy";
  readonly entry: ConntrackEntry;
}

/** The two ends as the pod has them. */
export interface FlowEnds {
  readonly family: IpFamily;
  readonly protocol: TraceProtocol;
  readonly source: string;
  readonly destination: string;
  /** Ports; of ICMP the id of the echo request, on the source's side only. */
  readonly sourcePort: number;
  readonly destinationPort?: number;
  /** Both ends behind every translation, as conntrack has them; once there is an entry, and where there are ports. */
  readonly outside?: OutsideEnds;
}

export interface OutsideEnds {
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

/** What is known of a flow before its first packet is seen: of one that flows by itself not even the pod's port. */
export type FlowPattern = Omit<FlowEnds, "sourcePort" | "outside"> & { readonly sourcePort?: number };

/** Something that could not be looked at, and why. */
export interface NotObserved {
  readonly what: string;
  readonly why: string;
}

export interface TraceEvidence {
  readonly survey: PathSurvey;
  readonly flow: FlowEnds;
  /** Name of the pod of this node that the packet is for, when it is for one. */
  readonly peer?: string;
  /** A host outside began it, and the pod answers. */
  readonly isInbound?: true;
  /** Absent when existing traffic was followed. */
  readonly exchange?: {
    readonly state: ExchangeState;
    readonly beganUs: number;
    /** A TCP connection was made, whatever came of the request over it. */
    readonly connected: boolean;
    readonly deliveredUs?: number;
    readonly timeoutMs: number;
  };
  /** In the order of time. */
  readonly packets: readonly SeenPacket[];
  /** Packets that the kernel had no room to keep for us. */
  readonly lostPackets: number;
  readonly ruleEvents: { readonly pod: readonly TraceEvent[]; readonly node: readonly TraceEvent[] };
  readonly rulesets: { readonly pod: readonly Table[]; readonly node: readonly Table[] };
  readonly flowEvents: readonly FlowEvent[];
  /** The entry at the end. */
  readonly entry?: ConntrackEntry;
  readonly drops: readonly KernelDrop[];
  /** Counters that moved meanwhile, by all of the namespace's traffic. */
  readonly growth: { readonly pod: Counters; readonly node: Counters };
  /** Rules of iptables-legacy whose counters moved. */
  readonly legacyGrowth: readonly LegacyGrowth[];
  /** Of the pod; read when its kernel had no port for the exchange. */
  readonly localPorts?: LocalPorts;
  /** Neighbour tables at the end. */
  readonly neighbours: { readonly pod: readonly Neighbour[]; readonly node: readonly Neighbour[] };
  readonly missing: readonly NotObserved[];
}

/** The ports that the pod's kernel gives to those who ask for none. */
export interface LocalPorts {
  /** net.ipv4.ip_local_port_range */
  readonly range: string;
  readonly size: number;
  /** net.ipv4.ip_local_reserved_ports, when there are any. */
  readonly reserved?: string;
  /** So many of the range it keeps from those who ask for none. */
  readonly withheld: number;
  /** Of the range, held by sockets that are in the way. */
  readonly used: number;
}

export interface LegacyGrowth {
  readonly table: string;
  readonly chain: string;
  /** As iptables-save writes it; "policy DROP" for a chain's policy. */
  readonly rule: string;
  readonly verdict: string;
  readonly packets: number;
}
