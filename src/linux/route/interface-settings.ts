/**
 * The per-interface settings of net.ipv4.conf.* and net.ipv6.conf.*, which every link message carries as two arrays:
 * one dump tells rp_filter, forwarding and accept_ra of all interfaces without reading a single file.
 */
import type { Codec } from "../netlink/codec.ts";
import { beginAttribute, endAttribute } from "../netlink/attributes.ts";
import { DecodeError, EncodeError } from "../netlink/wire.ts";

/** IPV4_DEVCONF_* (include/uapi/linux/ip.h) under the names that sysctl has for them. */
export const IPV4_DEVCONF = {
  forwarding: 1,
  mc_forwarding: 2,
  proxy_arp: 3,
  accept_redirects: 4,
  secure_redirects: 5,
  send_redirects: 6,
  shared_media: 7,
  rp_filter: 8,
  accept_source_route: 9,
  bootp_relay: 10,
  log_martians: 11,
  tag: 12,
  arp_filter: 13,
  medium_id: 14,
  disable_xfrm: 15,
  disable_policy: 16,
  force_igmp_version: 17,
  arp_announce: 18,
  arp_ignore: 19,
  promote_secondaries: 20,
  arp_accept: 21,
  arp_notify: 22,
  accept_local: 23,
  src_valid_mark: 24,
  proxy_arp_pvlan: 25,
  route_localnet: 26,
  igmpv2_unsolicited_report_interval: 27,
  igmpv3_unsolicited_report_interval: 28,
  ignore_routes_with_linkdown: 29,
  drop_unicast_in_l2_multicast: 30,
  drop_gratuitous_arp: 31,
  bc_forwarding: 32,
  arp_evict_nocarrier: 33,
} as const;

/** DEVCONF_* (include/uapi/linux/ipv6.h), those that decide whether and how packets leave. */
export const IPV6_DEVCONF = {
  forwarding: 0,
  hop_limit: 1,
  mtu: 2,
  accept_ra: 3,
  accept_redirects: 4,
  autoconf: 5,
  dad_transmits: 6,
  use_tempaddr: 10,
  max_addresses: 15,
  accept_ra_defrtr: 17,
  accept_ra_pinfo: 18,
  proxy_ndp: 22,
  optimistic_dad: 23,
  accept_source_route: 24,
  mc_forwarding: 25,
  disable_ipv6: 26,
  accept_dad: 27,
  ndisc_notify: 29,
  accept_ra_mtu: 35,
  ignore_routes_with_linkdown: 39,
  drop_unsolicited_na: 41,
  keep_addr_on_down: 42,
  addr_gen_mode: 47,
  disable_policy: 48,
} as const;

export type Ipv4Setting = keyof typeof IPV4_DEVCONF;
export type Ipv6Setting = keyof typeof IPV6_DEVCONF;
export type Ipv4Settings = Readonly<Partial<Record<Ipv4Setting, number>>>;
export type Ipv6Settings = Readonly<Partial<Record<Ipv6Setting, number>>>;

function readSettings<N extends string>(
  numbers: Readonly<Record<N, number>>,
  first: number,
): Codec<Readonly<Partial<Record<N, number>>>>["read"] {
  return (wire, start, end) => {
    if ((end - start) % 4 !== 0) throw new DecodeError("", `${end - start} bytes are no list of settings`);
    const settings: Partial<Record<N, number>> = {};
    for (const name in numbers) {
      const at = start + (numbers[name] - first) * 4;
      if (at + 4 <= end) settings[name] = wire.view.getInt32(at, true);
    }
    return settings;
  };
}

/**
 * IFLA_INET_CONF. The kernel sends an array and takes a nest of single settings (devinet.c, inet_set_link_af): the
 * one attribute in these tables whose two directions differ.
 */
export const ipv4Settings: Codec<Ipv4Settings> = {
  kind: "ipv4-devconf",
  nested: true,
  write(writer, settings) {
    for (const [name, value] of Object.entries(settings)) {
      const number = (IPV4_DEVCONF as Readonly<Record<string, number>>)[name];
      if (number === undefined) throw new EncodeError(name, "is no IPv4 interface setting");
      const at = beginAttribute(writer, number);
      const payload = writer.reserve(4);
      writer.view.setInt32(payload, value, true);
      endAttribute(writer, at);
    }
  },
  read: readSettings(IPV4_DEVCONF, 1),
};

/** IFLA_INET6_CONF: told, never taken. */
export const ipv6Settings: Codec<Ipv6Settings> = {
  kind: "ipv6-devconf",
  write(_writer, settings) {
    if (Object.keys(settings).length > 0)
      throw new EncodeError("", "IPv6 settings are written through sysctl");
  },
  read: readSettings(IPV6_DEVCONF, 0),
};

/** The settings that decide what making and joining a link must change; the rest of the arrays is passed over. */
const IPV4_STATE = { forwarding: IPV4_DEVCONF.forwarding } as const;
const { forwarding, accept_ra, disable_ipv6, accept_dad, ndisc_notify, keep_addr_on_down } = IPV6_DEVCONF;
const IPV6_STATE = {
  forwarding,
  accept_ra,
  disable_ipv6,
  accept_dad,
  ndisc_notify,
  keep_addr_on_down,
} as const;

export type Ipv4State = Readonly<Partial<Record<keyof typeof IPV4_STATE, number>>>;
export type Ipv6State = Readonly<Partial<Record<keyof typeof IPV6_STATE, number>>>;

export const ipv4State: Codec<Ipv4State> = { ...ipv4Settings, read: readSettings(IPV4_STATE, 1) };
export const ipv6State: Codec<Ipv6State> = { ...ipv6Settings, read: readSettings(IPV6_STATE, 0) };
