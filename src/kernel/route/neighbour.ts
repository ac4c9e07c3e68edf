import type { RouteProtocol } from "./constants.ts";

/** NUD_* */
export type NeighbourState =
  | "none"
  | "incomplete"
  | "reachable"
  | "stale"
  | "delay"
  | "probe"
  | "failed"
  | "noarp"
  | "permanent"
  | `${number}`;

/** An entry of the ARP (IPv4) or neighbour discovery (IPv6) table. */
export interface Neighbour {
  readonly family: 4 | 6;
  readonly interface: number;
  readonly address: string;
  /** Absent while unresolved. */
  readonly mac?: string;
  readonly state: NeighbourState;
  /** NTF_*: "router", "proxy", "extern_learn", "use", "managed"… */
  readonly flags: readonly string[];
  readonly probes?: number;
  /** Seconds since it was last confirmed, used, updated. */
  readonly confirmedSeconds?: number;
  readonly usedSeconds?: number;
  readonly updatedSeconds?: number;
  readonly protocol?: RouteProtocol;
}

export interface NeighbourSpec {
  readonly interface: number;
  readonly address: string;
  readonly mac?: string;
  /** Default "permanent" with a MAC. */
  readonly state?: NeighbourState;
  /** Answer for this address instead of its owner. */
  readonly proxy?: boolean;
}

/** An entry of a bridge's (or VXLAN's) forwarding database: behind which port a MAC lives. */
export interface ForwardingEntry {
  readonly interface: number;
  readonly mac: string;
  /** Index of the bridge. */
  readonly master?: number;
  readonly vlan?: number;
  /** "permanent" (own address), "static" (noarp) or "learned". */
  readonly state: NeighbourState;
  readonly flags: readonly string[];
  /** VXLAN: the tunnel's other end. */
  readonly remote?: string;
}
