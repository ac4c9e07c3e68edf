/**
 * The article's world on paper: names, addresses, and who is connected to whom. "The internet" is played with
 * documentation ranges (RFC 5737, RFC 3849); nothing here is ever sent outside the lab's own namespaces.
 *
 *   ns-blue  10.0.0.1 ─ veth-blue ─┐                      ┌─ router 203.0.113.1
 *                                  ├ br0 [node] eth0 ─────┤  HTTP   198.51.100.80
 *   ns-green 10.0.0.2 ─ veth-green ┘ 10.0.0.254           └─ DNS    198.51.100.53
 *                                      203.0.113.5
 */

export interface PodPlan {
  readonly role: "blue" | "green";
  readonly namespace: string;
  /** Host side of the veth pair; the pod's side is always eth0. */
  readonly veth: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

export const PLAN = {
  node: {
    namespace: "wayout-node",
    bridge: "br0",
    uplink: "eth0",
    gatewayIpv4: "10.0.0.254",
    gatewayIpv6: "fd00:10::254",
    uplinkIpv4: "203.0.113.5",
    uplinkIpv6: "2001:db8:113::5",
  },
  pods: {
    blue: {
      role: "blue",
      namespace: "ns-blue",
      veth: "veth-blue",
      ipv4: "10.0.0.1",
      ipv6: "fd00:10::1",
    },
    green: {
      role: "green",
      namespace: "ns-green",
      veth: "veth-green",
      ipv4: "10.0.0.2",
      ipv6: "fd00:10::2",
    },
  } satisfies Record<string, PodPlan>,
  podInterface: "eth0",
  podNetworkIpv4: "10.0.0.0/24",
  podNetworkIpv6: "fd00:10::/64",
  podPrefixIpv4: 24,
  podPrefixIpv6: 64,
  internet: {
    namespace: "wayout-internet",
    /** The router's end of the veth pair whose other end is the node's eth0. */
    link: "to-node",
    routerIpv4: "203.0.113.1",
    routerIpv6: "2001:db8:113::1",
    httpIpv4: "198.51.100.80",
    httpIpv6: "2001:db8:198::80",
    dnsIpv4: "198.51.100.53",
    dnsIpv6: "2001:db8:198::53",
    /** The one site of this internet. */
    site: "api.github.com",
  },
  uplinkPrefixIpv4: 24,
  uplinkPrefixIpv6: 64,
  /** What eth0 gets when "DHCP" gives it another address. */
  otherUplinkIpv4: "203.0.113.77",
} as const;

/** Names that `ip netns` shows while the lab is up, in the order in which they are made. */
export const LAB_NAMESPACES = [
  PLAN.internet.namespace,
  PLAN.node.namespace,
  PLAN.pods.blue.namespace,
  PLAN.pods.green.namespace,
] as const;
