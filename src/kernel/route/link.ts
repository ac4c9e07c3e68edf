import type { BridgeDetails, BridgePort } from "./bridge.ts";
import type { LinkStatistics } from "./link-statistics.ts";

/** RFC 2863 operational state (IF_OPER_*, include/uapi/linux/if.h). */
export type OperationalState =
  | "unknown"
  | "notpresent"
  | "down"
  | "lowerlayerdown"
  | "testing"
  | "dormant"
  | "up"
  | `${number}`;

/** One network interface as the kernel describes it. Absent fields are those the kernel did not send. */
export interface Link {
  readonly index: number;
  readonly name: string;
  /** IFLA_PROP_LIST: other names the link answers to. */
  readonly alternativeNames: readonly string[];
  readonly alias?: string;
  /** "veth", "bridge", "vxlan"…: IFLA_INFO_KIND; absent for hardware and loopback. */
  readonly kind?: string;
  /** ARPHRD_* of the link layer: "ether", "loopback", "none" or the number. */
  readonly layer: string;
  /** Link-layer address; empty text when it has none. */
  readonly mac: string;
  readonly broadcast: string;
  readonly permanentMac?: string;
  readonly mtu: number;
  readonly minMtu?: number;
  readonly maxMtu?: number;
  /** IFF_* without the prefix, lowest bit first: "UP", "BROADCAST", "RUNNING", "LOWER_UP"… */
  readonly flags: readonly string[];
  /** IFF_UP: somebody set it up. */
  readonly up: boolean;
  readonly operState: OperationalState;
  /** Whether the other end is there. */
  readonly carrier?: boolean;
  readonly carrierChanges?: number;
  /** Index of the bridge, bond or VRF it is enslaved to. */
  readonly master?: number;
  /** Index of the link below or, for veth, of the peer; in another namespace when `linkNamespaceId` is there. */
  readonly link?: number;
  /** Our namespace's number (RTM_GETNSID) for the one `link` lives in. */
  readonly linkNamespaceId?: number;
  readonly group: number;
  readonly promiscuity: number;
  readonly allMulticast?: number;
  readonly queueLength: number;
  readonly queues: { readonly tx: number; readonly rx: number };
  /** Root queueing discipline: "noqueue", "fq_codel"… */
  readonly qdisc?: string;
  readonly gsoMaxSize?: number;
  readonly gsoMaxSegments?: number;
  readonly statistics?: LinkStatistics;
  /** XDP programs attached to it. */
  readonly xdp?: {
    readonly mode: "driver" | "generic" | "hardware" | "multiple";
    readonly programIds: readonly number[];
  };
  /** How IPv6 link-local addresses are made: IN6_ADDR_GEN_MODE_*. */
  readonly ipv6AddressGeneration?: "eui64" | "none" | "stable-privacy" | "random" | `${number}`;
  readonly bridge?: BridgeDetails;
  readonly port?: BridgePort;
  /** IFLA_INFO_SLAVE_KIND: what kind of master it serves ("bridge", "bond", "vrf"). */
  readonly portKind?: string;
  readonly vlan?: { readonly id: number; readonly protocol: "802.1Q" | "802.1ad" | `${number}` };
  readonly vxlan?: VxlanDetails;
  readonly macvlan?: { readonly mode: MacvlanMode };
  readonly tun?: { readonly mode: "tun" | "tap"; readonly persistent: boolean };
}

export type MacvlanMode = "private" | "vepa" | "bridge" | "passthru" | "source" | `${number}`;

export interface VxlanDetails {
  readonly id: number;
  readonly remote?: string;
  readonly local?: string;
  readonly lower?: number;
  readonly port?: number;
  readonly learning?: boolean;
}

/** What a new veth pair looks like. The peer is made directly in its own namespace, under its final name. */
export interface VethSpec {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** Index of the bridge that `name` joins at once. */
  readonly master?: number;
  readonly peer: {
    readonly name: string;
    readonly mac?: string;
    readonly mtu?: number;
    /** File descriptor of the namespace it is made in; ours when absent. */
    readonly namespaceFd?: number;
  };
}

export interface BridgeSpec {
  readonly name: string;
  /** Pinned: without it a bridge takes its lowest port's MAC and changes it as ports come and go. */
  readonly mac?: string;
  readonly mtu?: number;
  readonly up?: boolean;
  readonly stp?: boolean;
  readonly vlanFiltering?: boolean;
  /** The VLAN of untagged frames; 0 for none. Needs a kernel with bridge VLAN filtering. */
  readonly defaultVlan?: number;
}

/** What setLink changes; absent fields stay as they are. */
export interface LinkChange {
  readonly up?: boolean;
  readonly name?: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** Index of the new master; 0 takes it out of its master. */
  readonly master?: number;
  readonly alias?: string;
  readonly promiscuous?: boolean;
  readonly allMulticast?: boolean;
  readonly arp?: boolean;
  readonly queueLength?: number;
  /** Moves the link to the namespace of this file descriptor. */
  readonly namespaceFd?: number;
  readonly ipv6AddressGeneration?: "eui64" | "none";
  /** IPV4_DEVCONF_* by number (include/uapi/linux/ip.h): the interface's net.ipv4.conf values. */
  readonly ipv4Configuration?: Readonly<Record<number, number>>;
}
