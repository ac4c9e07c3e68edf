/** The ipsets of a namespace, which iptables rules ask with `-m set` (include/uapi/linux/netfilter/ipset/ip_set.h). */
import { IP_PROTOCOL, protocolName } from "../../linux/ip-protocol.ts";
import { ipText } from "../../address/ip.ts";
import type { IpsetContents, IpsetEntry } from "../../linux/ipset.ts";
import { macText } from "../../address/mac.ts";
import {
  attribute,
  AttributeSet,
  listOf,
  nested,
  type AttributesOf,
} from "../../linux/netlink/attributes.ts";
import { be16, be32, bytes, string, u8 } from "../../linux/netlink/codec.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import { decode, NLMSG_DONE, request, type MessageSpec } from "../../linux/netlink/message.ts";
import { NetlinkError } from "../../linux/netlink/netlink-error.ts";
import { nfgenmsg, nfnlType } from "../../linux/netlink/nfnetlink.ts";
import { NFPROTO } from "../../linux/netfilter.ts";
import { NETLINK_NETFILTER, openTransport, type NetlinkTransport } from "../netlink/transport.ts";
import type { NetworkNamespace } from "../namespace.ts";
import { present } from "../../present.ts";

const NFNL_SUBSYS_IPSET = 6;
/** The protocol's version that tells a set's index. */
const IPSET_PROTOCOL = 7;
const IPSET_FLAG_NOMATCH = 4;

export interface Ipset extends IpsetContents {
  readonly name: string;
  /** The number that iptables rules call it by. */
  readonly index: number;
}

const addressAttributes = new AttributeSet(() => ({
  ipv4: attribute("IPSET_ATTR_IPADDR_IPV4", 1, bytes),
  ipv6: attribute("IPSET_ATTR_IPADDR_IPV6", 2, bytes),
}));
const address = nested(addressAttributes);

export const entryAttributes = new AttributeSet(() => ({
  ip: attribute("IPSET_ATTR_IP", 1, address),
  ipTo: attribute("IPSET_ATTR_IP_TO", 2, address),
  cidr: attribute("IPSET_ATTR_CIDR", 3, u8),
  port: attribute("IPSET_ATTR_PORT", 4, be16),
  portTo: attribute("IPSET_ATTR_PORT_TO", 5, be16),
  timeout: attribute("IPSET_ATTR_TIMEOUT", 6, be32),
  proto: attribute("IPSET_ATTR_PROTO", 7, u8),
  flags: attribute("IPSET_ATTR_CADT_FLAGS", 8, be32),
  mark: attribute("IPSET_ATTR_MARK", 10, be32),
  ether: attribute("IPSET_ATTR_ETHER", 17, bytes),
  name: attribute("IPSET_ATTR_NAME", 18, string),
  ip2: attribute("IPSET_ATTR_IP2", 20, address),
  cidr2: attribute("IPSET_ATTR_CIDR2", 21, u8),
  iface: attribute("IPSET_ATTR_IFACE", 23, string),
}));

export const ipsetAttributes = new AttributeSet(() => ({
  protocol: attribute("IPSET_ATTR_PROTOCOL", 1, u8),
  name: attribute("IPSET_ATTR_SETNAME", 2, string),
  type: attribute("IPSET_ATTR_TYPENAME", 3, string),
  revision: attribute("IPSET_ATTR_REVISION", 4, u8),
  family: attribute("IPSET_ATTR_FAMILY", 5, u8),
  entries: attribute(
    "IPSET_ATTR_ADT",
    8,
    listOf(nested(entryAttributes), { name: "IPSET_ATTR_DATA", number: 7 }),
  ),
  index: attribute("IPSET_ATTR_INDEX", 11, be16),
}));

const IPSET_CMD_LIST = {
  name: "IPSET_CMD_LIST",
  type: nfnlType(NFNL_SUBSYS_IPSET, 7),
  header: nfgenmsg,
  attributes: ipsetAttributes,
} as const satisfies MessageSpec;

type RawEntry = AttributesOf<typeof entryAttributes>;

function addressText(from: RawEntry["ip"], cidr: number | undefined): string {
  const raw = from?.ipv4 ?? from?.ipv6;
  if (raw === undefined || (raw.length !== 4 && raw.length !== 16)) return "";
  return cidr === undefined || cidr === raw.length * 8 ? ipText(raw) : `${ipText(raw)}/${cidr}`;
}

function portText(entry: RawEntry): string {
  const port = entry.port ?? 0;
  if (entry.proto === undefined) return String(port);
  const name = protocolName(entry.proto);
  // Of ICMP the type and code stand in the port's place.
  return entry.proto === IP_PROTOCOL.icmp || entry.proto === IP_PROTOCOL.icmpv6
    ? `${name}:${port >> 8}/${port & 255}`
    : `${name}:${port}`;
}

/** The parts of an entry in the order of the type's name: `hash:ip,port,net`. */
function entryText(type: string, entry: RawEntry): string {
  let addresses = 0;
  const parts = type.slice(type.indexOf(":") + 1).split(",");
  return parts
    .map((part) => {
      switch (part) {
        case "ip":
        case "net":
          return addresses++ === 0 ? addressText(entry.ip, entry.cidr) : addressText(entry.ip2, entry.cidr2);
        case "port":
          return portText(entry);
        case "mark":
          return `0x${(entry.mark ?? 0).toString(16).padStart(8, "0")}`;
        case "mac":
          return entry.ether === undefined ? "" : macText(entry.ether);
        case "iface":
          return entry.iface ?? "";
        case "set":
          return entry.name ?? "";
        default:
          return "";
      }
    })
    .filter((text) => text !== "")
    .join(",");
}

/** A set while its messages come in: a large one needs several. */
interface OpenSet extends Ipset {
  readonly entries: IpsetEntry[];
}

function gather(sets: Map<string, OpenSet>, from: AttributesOf<typeof ipsetAttributes>): void {
  if (from.name === undefined) return;
  let set = sets.get(from.name);
  if (set === undefined) {
    set = {
      name: from.name,
      index: from.index ?? 0,
      type: from.type ?? "",
      family: from.family === NFPROTO.ipv6 ? 6 : 4,
      entries: [],
    };
    sets.set(from.name, set);
  }
  for (const entry of from.entries ?? []) {
    const nomatch = ((entry.flags ?? 0) & IPSET_FLAG_NOMATCH) !== 0;
    set.entries.push({ value: entryText(set.type, entry), nomatch });
  }
}

/** The errors of a kernel that has no ipsets. */
const ABSENT: ReadonlySet<string> = new Set(["EINVAL", "EOPNOTSUPP", "ENOENT"]);

/** Every set with its entries, over a transport. @throws NetlinkError EPERM without privilege over the namespace */
export function readIpsets(transport: NetlinkTransport): Ipset[] {
  const connection = new NetlinkConnection(transport);
  const sets = new Map<string, OpenSet>();
  const ask = request(IPSET_CMD_LIST, "listing ipsets", {}, { protocol: IPSET_PROTOCOL });
  try {
    for (const raw of connection.dumpRaw(ask)) {
      if (raw.type !== NLMSG_DONE) gather(sets, decode(IPSET_CMD_LIST, raw).attributes);
    }
  } catch (error) {
    if (error instanceof NetlinkError && ABSENT.has(error.code)) return [];
    throw error;
  }
  return [...sets.values()];
}

/** Every set of a namespace, of the calling thread's own when absent. */
export function listIpsets(namespace?: NetworkNamespace): Ipset[] {
  const transport = openTransport(NETLINK_NETFILTER, present({ namespace }));
  try {
    return readIpsets(transport);
  } finally {
    transport.close();
  }
}

/** Names by index: what rules need to be shown with the sets' names. */
export function ipsetNames(sets: readonly Ipset[]): ReadonlyMap<number, string> {
  return new Map(sets.map((set) => [set.index, set.name]));
}
