/** IFLA_BR_*: a bridge's own settings. Times in milliseconds. */
export interface BridgeDetails {
  /** Bridge id as Linux writes it: "8000.02420a000001". */
  readonly bridgeId: string;
  readonly stp: boolean;
  readonly forwardDelayMs: number;
  readonly helloTimeMs: number;
  readonly maxAgeMs: number;
  readonly ageingTimeMs: number;
  readonly priority: number;
  readonly vlanFiltering: boolean;
  readonly defaultVlan?: number;
  readonly multicastSnooping: boolean;
  readonly groupForwardMask: number;
  /** Whether this bridge hands its frames to iptables, ip6tables, arptables (0/1 of its own, besides the sysctl). */
  readonly callIptables: boolean;
  readonly callIp6tables: boolean;
  readonly callArptables: boolean;
}

/** BR_STATE_* */
export type BridgePortState = "disabled" | "listening" | "learning" | "forwarding" | "blocking" | `${number}`;

/** IFLA_BRPORT_*: a link as the port of a bridge. */
export interface BridgePort {
  readonly state: BridgePortState;
  readonly priority: number;
  readonly cost: number;
  readonly hairpin: boolean;
  readonly guard: boolean;
  readonly rootBlock: boolean;
  readonly learning: boolean;
  readonly flood: boolean;
  readonly multicastFlood: boolean;
  readonly broadcastFlood: boolean;
  readonly isolated: boolean;
  readonly neighbourSuppression: boolean;
  readonly locked: boolean;
}

/** What setBridgePort changes; absent fields stay as they are. */
export interface BridgePortChange {
  readonly state?: BridgePortState;
  readonly hairpin?: boolean;
  readonly isolated?: boolean;
  readonly learning?: boolean;
  readonly flood?: boolean;
  readonly multicastFlood?: boolean;
  readonly broadcastFlood?: boolean;
  readonly cost?: number;
  readonly priority?: number;
}

/** One VLAN, or range of VLANs, of a bridge or a port. */
export interface BridgeVlan {
  readonly first: number;
  readonly last: number;
  /** Untagged frames that come in belong to it. */
  readonly pvid: boolean;
  /** Its frames leave without a tag. */
  readonly untagged: boolean;
}
