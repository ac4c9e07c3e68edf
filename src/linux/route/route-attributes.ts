/** Routes on the wire: struct rtmsg, RTA_* and RTAX_* (include/uapi/linux/rtnetlink.h). */
import { ipBytes, ipFamily, ipText } from "../../address/ip.ts";
import { attribute, AttributeSet, nested } from "../netlink/attributes.ts";
import type { AttributesOf } from "../netlink/attributes.ts";
import { be16, bytes, ip, string, struct, u16, u32, u8, type Codec } from "../netlink/codec.ts";
import type { MessageSpec } from "../netlink/message.ts";
import { align4, DecodeError } from "../netlink/wire.ts";
import { AF_INET, AF_INET6 } from "../socket.ts";

export const rtmsg = struct("rtmsg", {
  family: "u8",
  destinationLength: "u8",
  sourceLength: "u8",
  tos: "u8",
  table: "u8",
  protocol: "u8",
  scope: "u8",
  type: "u8",
  flags: "u32",
});

/** RTAX_*. RTT is in eighths, its variance in quarters of a millisecond. */
export const metricsAttributes = new AttributeSet(() => ({
  lock: attribute("RTAX_LOCK", 1, u32),
  mtu: attribute("RTAX_MTU", 2, u32),
  window: attribute("RTAX_WINDOW", 3, u32),
  rtt: attribute("RTAX_RTT", 4, u32),
  rttVariance: attribute("RTAX_RTTVAR", 5, u32),
  ssthresh: attribute("RTAX_SSTHRESH", 6, u32),
  congestionWindow: attribute("RTAX_CWND", 7, u32),
  advmss: attribute("RTAX_ADVMSS", 8, u32),
  reordering: attribute("RTAX_REORDERING", 9, u32),
  hopLimit: attribute("RTAX_HOPLIMIT", 10, u32),
  initialCongestionWindow: attribute("RTAX_INITCWND", 11, u32),
  features: attribute("RTAX_FEATURES", 12, u32),
  rtoMin: attribute("RTAX_RTO_MIN", 13, u32),
  initialReceiveWindow: attribute("RTAX_INITRWND", 14, u32),
  quickAck: attribute("RTAX_QUICKACK", 15, u32),
  congestionControl: attribute("RTAX_CC_ALGO", 16, string),
  fastOpenNoCookie: attribute("RTAX_FASTOPEN_NO_COOKIE", 17, u32),
}));

/** struct rtvia: a next hop of the other address family, its family in front. */
const via: Codec<string> = {
  kind: "rtvia",
  write(writer, value) {
    const at = writer.reserve(2);
    writer.view.setUint16(at, ipFamily(value) === 4 ? AF_INET : AF_INET6, true);
    writer.append(ipBytes(value));
  },
  read(wire, start, end) {
    const length = end - start - 2;
    if (length !== 4 && length !== 16) throw new DecodeError("", `${length} bytes are not an IP address`);
    return ipText(wire.bytes, start + 2, end);
  },
};

export const rtaCacheinfo = struct("rta_cacheinfo", {
  clientReferences: "u32",
  lastUse: "u32",
  expires: "i32",
  error: "i32",
  used: "u32",
  id: "u32",
  timestamp: "u32",
  timestampAge: "u32",
});

export const nextHopAttributes = new AttributeSet(() => ({
  gateway: attribute("RTA_GATEWAY", 5, ip),
  flow: attribute("RTA_FLOW", 11, u32),
  via: attribute("RTA_VIA", 18, via),
  encapsulationType: attribute("RTA_ENCAP_TYPE", 21, u16),
  encapsulation: attribute("RTA_ENCAP", 22, bytes),
}));

export interface WireNextHop {
  readonly flags: number;
  /** Weight less one. */
  readonly hops: number;
  readonly interface: number;
  readonly attributes: AttributesOf<typeof nextHopAttributes>;
}

const RTNEXTHOP_SIZE = 8;

/** RTA_MULTIPATH: a row of struct rtnexthop, each with attributes behind it. */
const multipath: Codec<readonly WireNextHop[]> = {
  kind: "rtnexthop[]",
  write(writer, hops) {
    for (const hop of hops) {
      const at = writer.reserve(RTNEXTHOP_SIZE);
      nextHopAttributes.write(writer, hop.attributes);
      writer.view.setUint16(at, writer.length - at, true);
      writer.bytes[at + 2] = hop.flags;
      writer.bytes[at + 3] = hop.hops;
      writer.view.setInt32(at + 4, hop.interface, true);
    }
  },
  read(wire, start, end) {
    const hops: WireNextHop[] = [];
    for (let at = start; at < end;) {
      const length = nextHopLength(wire.view, at, end);
      hops.push({
        flags: wire.bytes[at + 2]!,
        hops: wire.bytes[at + 3]!,
        interface: wire.view.getInt32(at + 4, true),
        attributes: nextHopAttributes.read(wire, at + RTNEXTHOP_SIZE, at + length),
      });
      at += align4(length);
    }
    return hops;
  },
  pathAt(wire, start, end, offset) {
    for (let at = start, index = 0; at < end; index++) {
      const length = nextHopLength(wire.view, at, end);
      if (offset < at + align4(length)) {
        const inner = nextHopAttributes.pathAt(wire, at + RTNEXTHOP_SIZE, at + length, offset);
        return inner === undefined ? `rtnexthop[${index}]` : `rtnexthop[${index}].${inner}`;
      }
      at += align4(length);
    }
    return undefined;
  },
};

function nextHopLength(view: DataView, at: number, end: number): number {
  const length = end - at < RTNEXTHOP_SIZE ? 0 : view.getUint16(at, true);
  if (length < RTNEXTHOP_SIZE || at + length > end) {
    throw new DecodeError("", `a next hop claims ${length} bytes where ${end - at} are left`);
  }
  return length;
}

/** RTA_*. */
export const routeAttributes = new AttributeSet(() => ({
  destination: attribute("RTA_DST", 1, ip),
  source: attribute("RTA_SRC", 2, ip),
  inputInterface: attribute("RTA_IIF", 3, u32),
  outputInterface: attribute("RTA_OIF", 4, u32),
  gateway: attribute("RTA_GATEWAY", 5, ip),
  priority: attribute("RTA_PRIORITY", 6, u32),
  preferredSource: attribute("RTA_PREFSRC", 7, ip),
  metrics: attribute("RTA_METRICS", 8, nested(metricsAttributes)),
  multipath: attribute("RTA_MULTIPATH", 9, multipath),
  flow: attribute("RTA_FLOW", 11, u32),
  cacheInfo: attribute("RTA_CACHEINFO", 12, rtaCacheinfo),
  table: attribute("RTA_TABLE", 15, u32),
  mark: attribute("RTA_MARK", 16, u32),
  via: attribute("RTA_VIA", 18, via),
  preference: attribute("RTA_PREF", 20, u8),
  encapsulationType: attribute("RTA_ENCAP_TYPE", 21, u16),
  encapsulation: attribute("RTA_ENCAP", 22, bytes),
  expires: attribute("RTA_EXPIRES", 23, u32),
  uid: attribute("RTA_UID", 25, u32),
  ttlPropagate: attribute("RTA_TTL_PROPAGATE", 26, u8),
  ipProtocol: attribute("RTA_IP_PROTO", 27, u8),
  sourcePort: attribute("RTA_SPORT", 28, be16),
  destinationPort: attribute("RTA_DPORT", 29, be16),
  nextHopId: attribute("RTA_NH_ID", 30, u32),
}));

export const RTM_NEWROUTE = {
  name: "RTM_NEWROUTE",
  type: 24,
  header: rtmsg,
  attributes: routeAttributes,
} as const satisfies MessageSpec;
export const RTM_DELROUTE = {
  ...RTM_NEWROUTE,
  name: "RTM_DELROUTE",
  type: 25,
} as const satisfies MessageSpec;
export const RTM_GETROUTE = {
  ...RTM_NEWROUTE,
  name: "RTM_GETROUTE",
  type: 26,
} as const satisfies MessageSpec;
