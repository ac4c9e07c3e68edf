/** Switches of interfaces under /proc/sys/net/…/conf (include/uapi/linux/netconf.h): as they are, and when one is turned. */
import { attribute, AttributeSet } from "../netlink/attributes.ts";
import { i32, struct } from "../netlink/codec.ts";
import { request, type MessageOf, type MessageSpec, type Request } from "../netlink/message.ts";
import { AF_INET, AF_INET6 } from "../socket.ts";

export const netconfmsg = struct("netconfmsg", { family: "u8" });

/** NETCONFA_IFINDEX_ALL, NETCONFA_IFINDEX_DEFAULT: no interface, but `conf/all` and `conf/default`. */
export const NETCONFA_IFINDEX_ALL = -1;
export const NETCONFA_IFINDEX_DEFAULT = -2;

export const netconfAttributes = new AttributeSet(() => ({
  interface: attribute("NETCONFA_IFINDEX", 1, i32),
  forwarding: attribute("NETCONFA_FORWARDING", 2, i32),
  rpFilter: attribute("NETCONFA_RP_FILTER", 3, i32),
}));

export const RTM_NEWNETCONF = {
  name: "RTM_NEWNETCONF",
  type: 80,
  header: netconfmsg,
  attributes: netconfAttributes,
} as const satisfies MessageSpec;

export const RTM_GETNETCONF = {
  ...RTM_NEWNETCONF,
  name: "RTM_GETNETCONF",
  type: 82,
} as const satisfies MessageSpec;

/** IPv4's `conf/all`. */
export function settingsOfAllRequest(): Request {
  return request(
    RTM_GETNETCONF,
    "reading net.ipv4.conf.all",
    { family: AF_INET },
    { interface: NETCONFA_IFINDEX_ALL },
  );
}

/** Those of every interface of a family, with `conf/all` and `conf/default`. */
export function settingsRequest(family: 4 | 6): Request {
  const header = { family: family === 4 ? AF_INET : AF_INET6 };
  return request(RTM_GETNETCONF, `reading net.ipv${family}.conf`, header, {});
}

/** One switch that was turned. */
export interface TurnedSetting {
  readonly family: 4 | 6;
  /** Index, or NETCONFA_IFINDEX_ALL, or NETCONFA_IFINDEX_DEFAULT. */
  readonly interface: number;
  readonly setting: "forwarding" | "rp_filter";
  readonly value: number;
}

/** undefined for other families and switches, and for all switches of an interface that is new. */
export function turnedSettingOf({
  header,
  attributes: { interface: index, forwarding, rpFilter },
}: MessageOf<typeof RTM_NEWNETCONF>): TurnedSetting | undefined {
  if (index === undefined || (header.family !== AF_INET && header.family !== AF_INET6)) return undefined;
  if ((forwarding === undefined) === (rpFilter === undefined)) return undefined;
  const family = header.family === AF_INET ? 4 : 6;
  return forwarding === undefined
    ? { family, interface: index, setting: "rp_filter", value: rpFilter! }
    : { family, interface: index, setting: "forwarding", value: forwarding };
}
