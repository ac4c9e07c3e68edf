/** Links on the wire: struct ifinfomsg and IFLA_* (include/uapi/linux/if_link.h). */
import { macBytes, macText } from "../../address/mac.ts";
import { attribute, AttributeSet, nested, repeated, tagged } from "../netlink/attributes.ts";
import type { AttributesOf } from "../netlink/attributes.ts";
import { be16, be32, i32, ip, mac, string, struct, u16, u32, u8 } from "../netlink/codec.ts";
import type { Codec } from "../netlink/codec.ts";
import type { MessageSpec } from "../netlink/message.ts";
import { DecodeError } from "../netlink/wire.ts";
import { ipv4Settings, ipv4State, ipv6Settings, ipv6State } from "./interface-settings.ts";
import { linkStatistics } from "./link-statistics.ts";

export const ifinfomsg = struct("ifinfomsg", {
  family: "u8",
  pad: "u8",
  type: "u16",
  index: "i32",
  flags: "u32",
  change: "u32",
});

/** struct ifla_bridge_id: two bytes of priority, six of MAC; as brctl and `ip` write it: "8000.02:42:0a:00:00:01". */
const bridgeId: Codec<string> = {
  kind: "ifla_bridge_id",
  write(writer, value) {
    const [priority = "", address = ""] = value.split(".");
    const at = writer.reserve(2);
    writer.view.setUint16(at, Number.parseInt(priority, 16), false);
    writer.append(macBytes(address));
  },
  read(wire, start, end) {
    if (end - start !== 8) throw new DecodeError("", `${end - start} bytes are no bridge id`);
    const priority = wire.view.getUint16(start, false).toString(16).padStart(4, "0");
    return `${priority}.${macText(wire.bytes, start + 2, start + 8)}`;
  },
};

/** IFLA_BR_*. Times are in clock ticks of 10 ms (USER_HZ). */
export const bridgeAttributes = new AttributeSet(() => ({
  forwardDelay: attribute("IFLA_BR_FORWARD_DELAY", 1, u32),
  helloTime: attribute("IFLA_BR_HELLO_TIME", 2, u32),
  maxAge: attribute("IFLA_BR_MAX_AGE", 3, u32),
  ageingTime: attribute("IFLA_BR_AGEING_TIME", 4, u32),
  stpState: attribute("IFLA_BR_STP_STATE", 5, u32),
  priority: attribute("IFLA_BR_PRIORITY", 6, u16),
  vlanFiltering: attribute("IFLA_BR_VLAN_FILTERING", 7, u8),
  vlanProtocol: attribute("IFLA_BR_VLAN_PROTOCOL", 8, be16),
  groupForwardMask: attribute("IFLA_BR_GROUP_FWD_MASK", 9, u16),
  rootId: attribute("IFLA_BR_ROOT_ID", 10, bridgeId),
  bridgeId: attribute("IFLA_BR_BRIDGE_ID", 11, bridgeId),
  rootPort: attribute("IFLA_BR_ROOT_PORT", 12, u16),
  rootPathCost: attribute("IFLA_BR_ROOT_PATH_COST", 13, u32),
  topologyChange: attribute("IFLA_BR_TOPOLOGY_CHANGE", 14, u8),
  groupAddress: attribute("IFLA_BR_GROUP_ADDR", 20, mac),
  multicastRouter: attribute("IFLA_BR_MCAST_ROUTER", 22, u8),
  multicastSnooping: attribute("IFLA_BR_MCAST_SNOOPING", 23, u8),
  callIptables: attribute("IFLA_BR_NF_CALL_IPTABLES", 36, u8),
  callIp6tables: attribute("IFLA_BR_NF_CALL_IP6TABLES", 37, u8),
  callArptables: attribute("IFLA_BR_NF_CALL_ARPTABLES", 38, u8),
  defaultVlan: attribute("IFLA_BR_VLAN_DEFAULT_PVID", 39, u16),
}));

/** IFLA_BRPORT_*. */
export const bridgePortAttributes = new AttributeSet(() => ({
  state: attribute("IFLA_BRPORT_STATE", 1, u8),
  priority: attribute("IFLA_BRPORT_PRIORITY", 2, u16),
  cost: attribute("IFLA_BRPORT_COST", 3, u32),
  hairpin: attribute("IFLA_BRPORT_MODE", 4, u8),
  guard: attribute("IFLA_BRPORT_GUARD", 5, u8),
  rootBlock: attribute("IFLA_BRPORT_PROTECT", 6, u8),
  fastLeave: attribute("IFLA_BRPORT_FAST_LEAVE", 7, u8),
  learning: attribute("IFLA_BRPORT_LEARNING", 8, u8),
  flood: attribute("IFLA_BRPORT_UNICAST_FLOOD", 9, u8),
  proxyArp: attribute("IFLA_BRPORT_PROXYARP", 10, u8),
  rootId: attribute("IFLA_BRPORT_ROOT_ID", 13, bridgeId),
  bridgeId: attribute("IFLA_BRPORT_BRIDGE_ID", 14, bridgeId),
  id: attribute("IFLA_BRPORT_ID", 17, u16),
  number: attribute("IFLA_BRPORT_NO", 18, u16),
  multicastRouter: attribute("IFLA_BRPORT_MULTICAST_ROUTER", 25, u8),
  multicastFlood: attribute("IFLA_BRPORT_MCAST_FLOOD", 27, u8),
  vlanTunnel: attribute("IFLA_BRPORT_VLAN_TUNNEL", 29, u8),
  broadcastFlood: attribute("IFLA_BRPORT_BCAST_FLOOD", 30, u8),
  neighbourSuppression: attribute("IFLA_BRPORT_NEIGH_SUPPRESS", 32, u8),
  isolated: attribute("IFLA_BRPORT_ISOLATED", 33, u8),
  locked: attribute("IFLA_BRPORT_LOCKED", 39, u8),
}));

/** IFLA_VLAN_*. */
export const vlanAttributes = new AttributeSet(() => ({
  id: attribute("IFLA_VLAN_ID", 1, u16),
  protocol: attribute("IFLA_VLAN_PROTOCOL", 5, be16),
}));

/** IFLA_VXLAN_*. */
export const vxlanAttributes = new AttributeSet(() => ({
  id: attribute("IFLA_VXLAN_ID", 1, u32),
  group: attribute("IFLA_VXLAN_GROUP", 2, ip),
  link: attribute("IFLA_VXLAN_LINK", 3, u32),
  local: attribute("IFLA_VXLAN_LOCAL", 4, ip),
  ttl: attribute("IFLA_VXLAN_TTL", 5, u8),
  learning: attribute("IFLA_VXLAN_LEARNING", 7, u8),
  port: attribute("IFLA_VXLAN_PORT", 15, be16),
  group6: attribute("IFLA_VXLAN_GROUP6", 16, ip),
  local6: attribute("IFLA_VXLAN_LOCAL6", 17, ip),
  udpChecksum: attribute("IFLA_VXLAN_UDP_CSUM", 18, u8),
  collectMetadata: attribute("IFLA_VXLAN_COLLECT_METADATA", 25, u8),
  label: attribute("IFLA_VXLAN_LABEL", 26, be32),
}));

/** IFLA_MACVLAN_*. */
export const macvlanAttributes = new AttributeSet(() => ({
  mode: attribute("IFLA_MACVLAN_MODE", 1, u32),
  flags: attribute("IFLA_MACVLAN_FLAGS", 2, u16),
}));

/** IFLA_TUN_*. */
export const tunAttributes = new AttributeSet(() => ({
  owner: attribute("IFLA_TUN_OWNER", 1, u32),
  group: attribute("IFLA_TUN_GROUP", 2, u32),
  type: attribute("IFLA_TUN_TYPE", 3, u8),
  persist: attribute("IFLA_TUN_PERSIST", 6, u8),
}));

/** The peer of a veth is described by a whole link message of its own, without the netlink header. */
export const peerAttributes = new AttributeSet(() => ({
  mac: attribute("IFLA_ADDRESS", 1, mac),
  name: attribute("IFLA_IFNAME", 3, string),
  mtu: attribute("IFLA_MTU", 4, u32),
  queueLength: attribute("IFLA_TXQLEN", 13, u32),
  namespaceFd: attribute("IFLA_NET_NS_FD", 28, u32),
}));

const peer: Codec<AttributesOf<typeof peerAttributes>> = {
  kind: "nested",
  set: peerAttributes,
  write(writer, value) {
    ifinfomsg.write(writer, {});
    peerAttributes.write(writer, value);
  },
  read: (wire, start, end) => peerAttributes.read(wire, start + ifinfomsg.size, end),
  pathAt: (wire, start, end, offset) => peerAttributes.pathAt(wire, start + ifinfomsg.size, end, offset),
  nameOf: (number) => peerAttributes.nameOf(number),
};

export const vethAttributes = new AttributeSet(() => ({ peer: attribute("VETH_INFO_PEER", 1, peer) }));

/** IFLA_INFO_*. */
export const linkInfoAttributes = new AttributeSet(() => ({
  info: tagged("IFLA_INFO_KIND", 1, "IFLA_INFO_DATA", 2, {
    veth: vethAttributes,
    bridge: bridgeAttributes,
    vlan: vlanAttributes,
    vxlan: vxlanAttributes,
    macvlan: macvlanAttributes,
    tun: tunAttributes,
  }),
  port: tagged("IFLA_INFO_SLAVE_KIND", 4, "IFLA_INFO_SLAVE_DATA", 5, { bridge: bridgePortAttributes }),
}));

/** IFLA_XDP_*. */
export const xdpAttributes = new AttributeSet(() => ({
  fd: attribute("IFLA_XDP_FD", 1, i32),
  attached: attribute("IFLA_XDP_ATTACHED", 2, u8),
  flags: attribute("IFLA_XDP_FLAGS", 3, u32),
  programId: attribute("IFLA_XDP_PROG_ID", 4, u32),
  driverProgramId: attribute("IFLA_XDP_DRV_PROG_ID", 5, u32),
  genericProgramId: attribute("IFLA_XDP_SKB_PROG_ID", 6, u32),
  hardwareProgramId: attribute("IFLA_XDP_HW_PROG_ID", 7, u32),
}));

export const propertyAttributes = new AttributeSet(() => ({
  alternativeNames: repeated("IFLA_ALT_IFNAME", 53, string),
}));

export const inetAttributes = new AttributeSet(() => ({
  settings: attribute("IFLA_INET_CONF", 1, ipv4Settings),
}));

/** IFLA_INET6_*. */
export const inet6Attributes = new AttributeSet(() => ({
  flags: attribute("IFLA_INET6_FLAGS", 1, u32),
  settings: attribute("IFLA_INET6_CONF", 2, ipv6Settings),
  token: attribute("IFLA_INET6_TOKEN", 7, ip),
  addressGeneration: attribute("IFLA_INET6_ADDR_GEN_MODE", 8, u8),
}));

/** IFLA_AF_SPEC of a message that is about no particular family: one nest an address family. */
export const afSpecAttributes = new AttributeSet(() => ({
  inet: attribute("AF_INET", 2, nested(inetAttributes)),
  inet6: attribute("AF_INET6", 10, nested(inet6Attributes)),
}));

/** IFLA_*. */
export const linkAttributes = new AttributeSet(() => ({
  mac: attribute("IFLA_ADDRESS", 1, mac),
  broadcast: attribute("IFLA_BROADCAST", 2, mac),
  name: attribute("IFLA_IFNAME", 3, string),
  mtu: attribute("IFLA_MTU", 4, u32),
  link: attribute("IFLA_LINK", 5, u32),
  qdisc: attribute("IFLA_QDISC", 6, string),
  master: attribute("IFLA_MASTER", 10, u32),
  queueLength: attribute("IFLA_TXQLEN", 13, u32),
  operState: attribute("IFLA_OPERSTATE", 16, u8),
  linkMode: attribute("IFLA_LINKMODE", 17, u8),
  linkInfo: attribute("IFLA_LINKINFO", 18, nested(linkInfoAttributes)),
  namespacePid: attribute("IFLA_NET_NS_PID", 19, u32),
  alias: attribute("IFLA_IFALIAS", 20, string),
  statistics: attribute("IFLA_STATS64", 23, linkStatistics),
  afSpec: attribute("IFLA_AF_SPEC", 26, nested(afSpecAttributes)),
  group: attribute("IFLA_GROUP", 27, u32),
  namespaceFd: attribute("IFLA_NET_NS_FD", 28, u32),
  extMask: attribute("IFLA_EXT_MASK", 29, u32),
  promiscuity: attribute("IFLA_PROMISCUITY", 30, u32),
  txQueues: attribute("IFLA_NUM_TX_QUEUES", 31, u32),
  rxQueues: attribute("IFLA_NUM_RX_QUEUES", 32, u32),
  carrier: attribute("IFLA_CARRIER", 33, u8),
  carrierChanges: attribute("IFLA_CARRIER_CHANGES", 35, u32),
  linkNamespaceId: attribute("IFLA_LINK_NETNSID", 37, i32),
  protoDown: attribute("IFLA_PROTO_DOWN", 39, u8),
  gsoMaxSegments: attribute("IFLA_GSO_MAX_SEGS", 40, u32),
  gsoMaxSize: attribute("IFLA_GSO_MAX_SIZE", 41, u32),
  xdp: attribute("IFLA_XDP", 43, nested(xdpAttributes)),
  carrierUpCount: attribute("IFLA_CARRIER_UP_COUNT", 47, u32),
  carrierDownCount: attribute("IFLA_CARRIER_DOWN_COUNT", 48, u32),
  minMtu: attribute("IFLA_MIN_MTU", 50, u32),
  maxMtu: attribute("IFLA_MAX_MTU", 51, u32),
  properties: attribute("IFLA_PROP_LIST", 52, nested(propertyAttributes)),
  alternativeName: attribute("IFLA_ALT_IFNAME", 53, string),
  permanentMac: attribute("IFLA_PERM_ADDRESS", 54, mac),
  groMaxSize: attribute("IFLA_GRO_MAX_SIZE", 58, u32),
  tsoMaxSize: attribute("IFLA_TSO_MAX_SIZE", 59, u32),
  tsoMaxSegments: attribute("IFLA_TSO_MAX_SEGS", 60, u32),
  allMulticast: attribute("IFLA_ALLMULTI", 61, u32),
}));

export const RTM_NEWLINK = {
  name: "RTM_NEWLINK",
  type: 16,
  header: ifinfomsg,
  attributes: linkAttributes,
} as const satisfies MessageSpec;
export const RTM_DELLINK = {
  name: "RTM_DELLINK",
  type: 17,
  header: ifinfomsg,
  attributes: linkAttributes,
} as const satisfies MessageSpec;

/** What of RTM_NEWLINK tells a link's state. Sets inside it name what is wanted of them, too. */
const stateInfo = new AttributeSet(
  () => ({
    info: tagged("IFLA_INFO_KIND", 1, "IFLA_INFO_DATA", 2, {
      bridge: bridgeAttributes.only("vlanFiltering", "defaultVlan"),
    }),
    port: tagged("IFLA_INFO_SLAVE_KIND", 4, "IFLA_INFO_SLAVE_DATA", 5, {
      bridge: bridgePortAttributes.only("state", "hairpin", "isolated"),
    }),
  }),
  "passes over",
);
const stateInet = new AttributeSet(
  () => ({ settings: attribute("IFLA_INET_CONF", 1, ipv4State) }),
  "passes over",
);
const stateInet6 = new AttributeSet(
  () => ({ settings: attribute("IFLA_INET6_CONF", 2, ipv6State) }),
  "passes over",
);
const stateAfSpec = new AttributeSet(() => ({
  inet: attribute("AF_INET", 2, nested(stateInet)),
  inet6: attribute("AF_INET6", 10, nested(stateInet6)),
}));
const linkStateAttributes = new AttributeSet(
  () => ({
    ...linkAttributes.only("mac", "name", "alias", "mtu", "link", "master", "operState", "linkNamespaceId")
      .table,
    linkInfo: attribute("IFLA_LINKINFO", 18, nested(stateInfo)),
    afSpec: attribute("IFLA_AF_SPEC", 26, nested(stateAfSpec)),
  }),
  "passes over",
);
export const RTM_NEWLINK_STATE = {
  name: "RTM_NEWLINK",
  type: 16,
  header: ifinfomsg,
  attributes: linkStateAttributes,
} as const satisfies MessageSpec;
/** A link's name alone: of hundreds of ports no more is asked. */
export const RTM_NEWLINK_NAME = {
  name: "RTM_NEWLINK",
  type: 16,
  header: ifinfomsg,
  attributes: new AttributeSet(() => linkAttributes.only("name", "master").table, "passes over"),
} as const satisfies MessageSpec;
export const RTM_GETLINK = {
  name: "RTM_GETLINK",
  type: 18,
  header: ifinfomsg,
  attributes: linkAttributes,
} as const satisfies MessageSpec;

/** RTEXT_FILTER_* (include/uapi/linux/rtnetlink.h). */
export const RTEXT_FILTER_BRVLAN = 1 << 1;
export const RTEXT_FILTER_BRVLAN_COMPRESSED = 1 << 2;
export const RTEXT_FILTER_SKIP_STATS = 1 << 3;

/** struct bridge_vlan_info (include/uapi/linux/if_bridge.h). */
export const bridgeVlanInfo = struct("bridge_vlan_info", { flags: "u16", vid: "u16" });

/** IFLA_AF_SPEC of a message of family AF_BRIDGE. */
export const bridgeSpecAttributes = new AttributeSet(() => ({
  flags: attribute("IFLA_BRIDGE_FLAGS", 0, u16),
  mode: attribute("IFLA_BRIDGE_MODE", 1, u16),
  vlans: repeated("IFLA_BRIDGE_VLAN_INFO", 2, bridgeVlanInfo),
}));

/** The attributes of a link message of family AF_BRIDGE, where two numbers mean something else. */
export const bridgeLinkAttributes = new AttributeSet(() => ({
  mac: attribute("IFLA_ADDRESS", 1, mac),
  name: attribute("IFLA_IFNAME", 3, string),
  mtu: attribute("IFLA_MTU", 4, u32),
  link: attribute("IFLA_LINK", 5, u32),
  master: attribute("IFLA_MASTER", 10, u32),
  port: attribute("IFLA_PROTINFO", 12, nested(bridgePortAttributes)),
  operState: attribute("IFLA_OPERSTATE", 16, u8),
  afSpec: attribute("IFLA_AF_SPEC", 26, nested(bridgeSpecAttributes)),
  extMask: attribute("IFLA_EXT_MASK", 29, u32),
}));

export const RTM_SETLINK_BRIDGE = {
  name: "RTM_SETLINK",
  type: 19,
  header: ifinfomsg,
  attributes: bridgeLinkAttributes,
} as const satisfies MessageSpec;
export const RTM_DELLINK_BRIDGE = {
  name: "RTM_DELLINK",
  type: 17,
  header: ifinfomsg,
  attributes: bridgeLinkAttributes,
} as const satisfies MessageSpec;
export const RTM_GETLINK_BRIDGE = {
  name: "RTM_GETLINK",
  type: 18,
  header: ifinfomsg,
  attributes: bridgeLinkAttributes,
} as const satisfies MessageSpec;
export const RTM_NEWLINK_BRIDGE = {
  name: "RTM_NEWLINK",
  type: 16,
  header: ifinfomsg,
  attributes: bridgeLinkAttributes,
} as const satisfies MessageSpec;
