/** What the kernel's drop reasons (enum skb_drop_reason, include/net/dropreason-core.h) mean for somebody's packet. */
const REASONS: Readonly<Record<string, string>> = {
  NETFILTER_DROP: "a netfilter hook dropped it",
  IP_RPFILTER: "reverse path filtering: an answer to its source would leave by another interface",
  IP_INNOROUTES: "there is no route to its destination",
  IP_OUTNOROUTES: "there is no route to its destination",
  IP_INADDRERRORS: "its destination is not one that this host may forward to",
  IP_INVALID_SOURCE: "its source address is one that no host may have",
  IP_LOCAL_SOURCE: "its source is an address of this very host",
  IP_LOCALNET: "loopback addresses are not routed",
  UNICAST_IN_L2_MULTICAST: "it came in a frame that was addressed to many",
  OTHERHOST: "the frame was addressed to another machine",
  NEIGH_FAILED: "the next hop did not answer ARP or neighbour discovery",
  NEIGH_CREATEFAIL: "no neighbour entry could be made: the neighbour table may be full",
  NEIGH_QUEUEFULL: "too many packets already wait for the next hop's address",
  NEIGH_DEAD: "the neighbour entry had just been deleted",
  PKT_TOO_BIG: "it is larger than the outgoing interface takes, and may not be cut",
  QDISC_DROP: "the queueing discipline of the interface dropped it",
  DEV_READY: "the interface is not ready: down, or without a carrier",
  DEV_HDR: "the frame's header could not be made",
  TC_INGRESS: "a traffic control (tc) filter dropped it on its way in",
  TC_EGRESS: "a traffic control (tc) filter dropped it on its way out",
  XDP: "an XDP program dropped it",
  NO_SOCKET: "no socket waits for it",
  SOCKET_FILTER: "the receiving socket's own filter refused it",
  SOCKET_RCVBUFF: "the receiving socket's buffer is full",
  IPV6DISABLED: "IPv6 is switched off on the interface",
  IP_CSUM: "its IP checksum is wrong",
  TCP_CSUM: "its TCP checksum is wrong",
  UDP_CSUM: "its UDP checksum is wrong",
  TTL_EXPIRED: "its time to live ran out",
  BRIDGE_INGRESS_STP_STATE: "the bridge's port is not forwarding (STP)",
  IP_TUNNEL_ECN: "a tunnel refused it",
  NO_TX_TARGET: "the interface had nowhere to send it: its cable has no other end that is up",
  FULL_RING: "the receiving interface's queue is full",
};

/** In words; the reason's own name when there are none. */
export function dropReasonText(reason: string): string {
  return REASONS[reason] ?? `the kernel gives the reason ${reason}`;
}
