/** What stands before an IP header on a link: frame types and link layers. */

/** ETH_P_* (include/uapi/linux/if_ether.h). */
export const ETH_P = {
  all: 0x0003,
  ip: 0x0800,
  arp: 0x0806,
  "8021q": 0x8100,
  ip6: 0x86dd,
  "8021ad": 0x88a8,
} as const;

/** ARPHRD_* (include/uapi/linux/if_arp.h), those that a pod's traffic meets. */
export const ARPHRD = {
  ether: 1,
  infiniband: 32,
  ppp: 512,
  rawip: 519,
  ipip: 768,
  tunnel6: 769,
  loopback: 772,
  sit: 776,
  gre: 778,
  gre6: 823,
  none: 65534,
} as const;

/** IPV6_MIN_MTU (RFC 8200): below it the kernel takes IPv6 from a link, addresses and routes with it (addrconf_notify). */
export const IPV6_MIN_MTU = 1280;

/** The length of a frame's header without tags: ETH_HLEN (include/uapi/linux/if_ether.h). */
export const ETH_HLEN = 14;

/** LOOPBACK_IFINDEX (include/net/flow.h): each namespace has its loopback first. */
export const LOOPBACK_INDEX = 1;

/** The longest name of an interface: IFNAMSIZ less the NUL (include/uapi/linux/if.h). */
export const INTERFACE_NAME_BYTES = 15;
