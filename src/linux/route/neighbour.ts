import { ipFamily } from "../../address/ip.ts";
import { attribute, AttributeSet } from "../netlink/attributes.ts";
import { be16, i32, ip, mac, struct, u16, u32, u8 } from "../netlink/codec.ts";
import {
  NLM_F_CREATE,
  NLM_F_REPLACE,
  request,
  type MessageOf,
  type MessageSpec,
  type Request,
} from "../netlink/message.ts";
import { flagNames, numberedNames, routeProtocols, type RouteProtocol, USER_HZ } from "./constants.ts";
import { AF_BRIDGE, AF_INET, AF_INET6, AF_UNSPEC, ipFamilyOf } from "../socket.ts";
import { mapped, present } from "../../present.ts";

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

/** Whose MAC address: this one's, on that link. */
export interface NeighbourPlace {
  readonly interface: number;
  readonly address: string;
}

export interface NeighbourSpec extends NeighbourPlace {
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
  /** "permanent" for a port's own address, "noarp" for one that was set by hand, otherwise how fresh it is. */
  readonly state: NeighbourState;
  readonly flags: readonly string[];
  /** VXLAN: the tunnel's other end. */
  readonly remote?: string;
}

/** NUD_* (include/uapi/linux/neighbour.h): bits, of which an entry has one. */
const neighbourStates = numberedNames({
  none: 0x00,
  incomplete: 0x01,
  reachable: 0x02,
  stale: 0x04,
  delay: 0x08,
  probe: 0x10,
  failed: 0x20,
  noarp: 0x40,
  permanent: 0x80,
});

const NTF_PROXY = 0x08;
/** NTF_*, then NTF_EXT_* eight bits further up. */
const NEIGHBOUR_FLAGS = {
  use: 0x01,
  self: 0x02,
  master: 0x04,
  proxy: NTF_PROXY,
  extern_learn: 0x10,
  offload: 0x20,
  sticky: 0x40,
  router: 0x80,
  managed: 0x100,
  locked: 0x200,
} as const;

export const ndmsg = struct("ndmsg", {
  family: "u8",
  pad1: "u8",
  pad2: "u16",
  index: "i32",
  state: "u16",
  flags: "u8",
  type: "u8",
});

export const ndaCacheinfo = struct("nda_cacheinfo", {
  confirmed: "u32",
  used: "u32",
  updated: "u32",
  references: "u32",
});

/** NDA_*. */
export const neighbourAttributes = new AttributeSet(() => ({
  destination: attribute("NDA_DST", 1, ip),
  mac: attribute("NDA_LLADDR", 2, mac),
  cacheInfo: attribute("NDA_CACHEINFO", 3, ndaCacheinfo),
  probes: attribute("NDA_PROBES", 4, u32),
  vlan: attribute("NDA_VLAN", 5, u16),
  port: attribute("NDA_PORT", 6, be16),
  vni: attribute("NDA_VNI", 7, u32),
  interface: attribute("NDA_IFINDEX", 8, u32),
  master: attribute("NDA_MASTER", 9, u32),
  linkNamespaceId: attribute("NDA_LINK_NETNSID", 10, i32),
  protocol: attribute("NDA_PROTOCOL", 12, u8),
  nextHopId: attribute("NDA_NH_ID", 13, u32),
  extendedFlags: attribute("NDA_FLAGS_EXT", 15, u32),
}));

export const RTM_NEWNEIGH = {
  name: "RTM_NEWNEIGH",
  type: 28,
  header: ndmsg,
  attributes: neighbourAttributes,
} as const satisfies MessageSpec;
export const RTM_DELNEIGH = {
  ...RTM_NEWNEIGH,
  name: "RTM_DELNEIGH",
  type: 29,
} as const satisfies MessageSpec;
export const RTM_GETNEIGH = {
  ...RTM_NEWNEIGH,
  name: "RTM_GETNEIGH",
  type: 30,
} as const satisfies MessageSpec;

type NeighbourMessage = MessageOf<typeof RTM_NEWNEIGH>;

function flagsOf({ header, attributes }: NeighbourMessage): readonly string[] {
  return flagNames(NEIGHBOUR_FLAGS, header.flags | ((attributes.extendedFlags ?? 0) << 8));
}

/** Reads RTM_NEWNEIGH; undefined for what is no ARP or neighbour discovery entry. */
export function neighbourOf(message: NeighbourMessage): Neighbour | undefined {
  const { header, attributes: a } = message;
  const family = ipFamilyOf(header.family);
  if (family === undefined || a.destination === undefined) return undefined;
  return present({
    family,
    interface: header.index,
    address: a.destination,
    mac: a.mac,
    state: neighbourStates.nameOf(header.state),
    flags: flagsOf(message),
    probes: a.probes,
    confirmedSeconds: mapped(a.cacheInfo, (times) => (times.confirmed ?? 0) / USER_HZ),
    usedSeconds: mapped(a.cacheInfo, (times) => (times.used ?? 0) / USER_HZ),
    updatedSeconds: mapped(a.cacheInfo, (times) => (times.updated ?? 0) / USER_HZ),
    protocol: mapped(a.protocol, routeProtocols.nameOf),
  });
}

/** Reads RTM_NEWNEIGH of family AF_BRIDGE. */
export function forwardingEntryOf(message: NeighbourMessage): ForwardingEntry | undefined {
  const { header, attributes: a } = message;
  if (header.family !== AF_BRIDGE || a.mac === undefined) return undefined;
  return present({
    interface: header.index,
    mac: a.mac,
    master: a.master,
    vlan: a.vlan,
    state: neighbourStates.nameOf(header.state),
    flags: flagsOf(message),
    remote: a.destination,
  });
}

/** Sets the entry, whether or not there is one. @throws AddressError */
export function setNeighbourRequest(spec: NeighbourSpec): Request {
  const proxy = spec.proxy === true;
  return request(
    RTM_NEWNEIGH,
    `setting neighbour ${spec.address} on link ${spec.interface}`,
    {
      family: ipFamily(spec.address) === 4 ? AF_INET : AF_INET6,
      index: spec.interface,
      state: proxy
        ? 0
        : neighbourStates.numberOf(spec.state ?? (spec.mac === undefined ? "none" : "permanent")),
      flags: proxy ? NTF_PROXY : 0,
    },
    present({ destination: spec.address, mac: spec.mac }),
    NLM_F_CREATE | NLM_F_REPLACE,
  );
}

/** @throws AddressError */
export function deleteNeighbourRequest(
  spec: Pick<NeighbourSpec, "interface" | "address" | "proxy">,
): Request {
  return request(
    RTM_DELNEIGH,
    `deleting neighbour ${spec.address} from link ${spec.interface}`,
    {
      family: ipFamily(spec.address) === 4 ? AF_INET : AF_INET6,
      index: spec.interface,
      flags: spec.proxy === true ? NTF_PROXY : 0,
    },
    { destination: spec.address },
  );
}

/** @param proxies the addresses answered for, instead of the entries learned */
export function dumpNeighboursRequest(
  family: 4 | 6 | undefined,
  interfaceIndex: number | undefined,
  proxies: boolean,
): Request {
  return request(
    RTM_GETNEIGH,
    "reading the neighbours",
    {
      family: family === undefined ? AF_UNSPEC : family === 4 ? AF_INET : AF_INET6,
      flags: proxies ? NTF_PROXY : 0,
    },
    present({ interface: interfaceIndex }),
  );
}

/** One entry, where there is one (ENOENT): a dump walks the entries of every namespace of the machine. */
export function getNeighbourRequest({ interface: index, address }: NeighbourPlace): Request {
  return request(
    RTM_GETNEIGH,
    `reading neighbour ${address} on link ${index}`,
    { family: ipFamily(address) === 4 ? AF_INET : AF_INET6, index },
    { destination: address },
  );
}

export function dumpForwardingDatabaseRequest(): Request {
  return request(RTM_GETNEIGH, "reading the forwarding database", { family: AF_BRIDGE }, {});
}
