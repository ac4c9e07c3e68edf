import type { AttributesOf } from "../netlink/attributes.ts";
import { numberedNames } from "./constants.ts";
import type { bridgeAttributes, bridgePortAttributes } from "./link-attributes.ts";
import { present } from "../../present.ts";

/** BR_STATE_* (include/uapi/linux/if_bridge.h). */
export const portStates = numberedNames({
  disabled: 0,
  listening: 1,
  learning: 2,
  forwarding: 3,
  blocking: 4,
});

/** The kernel's clock ticks (USER_HZ) are hundredths of a second on every architecture that matters. */
const TICK_MS = 10;

/** IFLA_BR_*: a bridge's own settings. Times in milliseconds. */
export interface BridgeDetails {
  /** Bridge id as Linux writes it: "8000.02:42:0a:00:00:01". */
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

export function bridgeDetails(data: AttributesOf<typeof bridgeAttributes>): BridgeDetails {
  return present({
    bridgeId: data.bridgeId ?? "",
    stp: (data.stpState ?? 0) !== 0,
    forwardDelayMs: (data.forwardDelay ?? 0) * TICK_MS,
    helloTimeMs: (data.helloTime ?? 0) * TICK_MS,
    maxAgeMs: (data.maxAge ?? 0) * TICK_MS,
    ageingTimeMs: (data.ageingTime ?? 0) * TICK_MS,
    priority: data.priority ?? 0,
    vlanFiltering: data.vlanFiltering === 1,
    defaultVlan: data.defaultVlan,
    multicastSnooping: data.multicastSnooping === 1,
    groupForwardMask: data.groupForwardMask ?? 0,
    callIptables: data.callIptables === 1,
    callIp6tables: data.callIp6tables === 1,
    callArptables: data.callArptables === 1,
  });
}

export function bridgePort(data: AttributesOf<typeof bridgePortAttributes>): BridgePort {
  return {
    state: portStates.nameOf(data.state ?? 0),
    priority: data.priority ?? 0,
    cost: data.cost ?? 0,
    hairpin: data.hairpin === 1,
    guard: data.guard === 1,
    rootBlock: data.rootBlock === 1,
    learning: data.learning === 1,
    flood: data.flood === 1,
    multicastFlood: data.multicastFlood === 1,
    broadcastFlood: data.broadcastFlood === 1,
    isolated: data.isolated === 1,
    neighbourSuppression: data.neighbourSuppression === 1,
    locked: data.locked === 1,
  };
}

/** BRIDGE_VLAN_INFO_* (include/uapi/linux/if_bridge.h). */
export const BRIDGE_VLAN_INFO = { MASTER: 1, PVID: 2, UNTAGGED: 4, RANGE_BEGIN: 8, RANGE_END: 16 } as const;

/** Reads IFLA_BRIDGE_VLAN_INFO: single VLANs, and ranges as a beginning and an end. */
export function bridgeVlansOf(
  infos: readonly { readonly flags?: number; readonly vid?: number }[],
): BridgeVlan[] {
  const vlans: BridgeVlan[] = [];
  let first: number | undefined;
  for (const { flags = 0, vid = 0 } of infos) {
    if ((flags & BRIDGE_VLAN_INFO.RANGE_BEGIN) !== 0) {
      first = vid;
      continue;
    }
    vlans.push({
      first: (flags & BRIDGE_VLAN_INFO.RANGE_END) === 0 ? vid : (first ?? vid),
      last: vid,
      pvid: (flags & BRIDGE_VLAN_INFO.PVID) !== 0,
      untagged: (flags & BRIDGE_VLAN_INFO.UNTAGGED) !== 0,
    });
    first = undefined;
  }
  return vlans;
}

/** The inverse of bridgeVlansOf. */
export function bridgeVlanInfos(vlan: BridgeVlan): { readonly flags: number; readonly vid: number }[] {
  const flags = (vlan.pvid ? BRIDGE_VLAN_INFO.PVID : 0) | (vlan.untagged ? BRIDGE_VLAN_INFO.UNTAGGED : 0);
  if (vlan.first === vlan.last) return [{ flags, vid: vlan.first }];
  return [
    { flags: flags | BRIDGE_VLAN_INFO.RANGE_BEGIN, vid: vlan.first },
    { flags: flags | BRIDGE_VLAN_INFO.RANGE_END, vid: vlan.last },
  ];
}
