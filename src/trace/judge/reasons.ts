/** What the kernel's drop reasons (enum skb_drop_reason, include/net/dropreason-core.h) mean for a packet. */
import type { CauseCode } from "../../causes/catalogue/all.ts";

export interface DropReason {
  /** In words. */
  readonly text: string;
  /** Where a cause of the catalogue says more than "the kernel drops it". */
  readonly code?: CauseCode;
  /** Whose it is, where the reason alone tells it. */
  readonly owner?: string;
  /** What to look at next; DEV stands for the device where it happened. */
  readonly todo?: string;
}

const QUEUE = {
  code: "qdisc-drops",
  owner: "the traffic control (tc) settings of the interface",
  todo: "tc -s qdisc show dev DEV: is its rate or burst smaller than a packet, or its limit reached?",
} as const;
const TC_PROGRAM = { todo: "tc filter show dev DEV; bpftool net" };
const NEIGHBOUR = {
  code: "uplink-gateway-unresolved",
  todo: "ip neigh show dev DEV: is the next hop's address right, and is it up?",
} as const;
const NEIGHBOUR_TABLE = { todo: "ip -s neigh; sysctl net.ipv4.neigh.default.gc_thresh3" };
const NO_ROUTE = { code: "node-no-route", todo: "ip route; ip rule" } as const;
const SOCKET_MEMORY = {
  owner: "the program that reads too slowly",
  todo: "ss -m in the namespace of the receiver",
};
const CHECKSUM = { todo: "ethtool -k DEV: switch tx-checksum offload off" };
const SEGMENT = { owner: "the two programs' connection" };

/** By name, without SKB_DROP_REASON_. */
const REASONS: Readonly<Record<string, DropReason>> = {
  NOT_SPECIFIED: { text: "the kernel gives no reason" },
  NETFILTER_DROP: { text: "a netfilter hook dropped it", todo: "wayout nat show; nft list ruleset" },
  IP_RPFILTER: {
    text: "reverse path filtering: an answer to its source would leave by another interface",
    code: "reverse-path-filter",
    todo: "sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.DEV.rp_filter; ip route get its source",
  },
  IP_INNOROUTES: { text: "there is no route to its destination", ...NO_ROUTE },
  IP_OUTNOROUTES: { text: "there is no route to its destination", ...NO_ROUTE },
  IP_INADDRERRORS: { text: "its destination is one that this host may not forward to" },
  IP_INVALID_SOURCE: { text: "its source address is not a host's address" },
  IP_INVALID_DEST: { text: "its destination address is not a host's address" },
  IP_LOCAL_SOURCE: { text: "its source is an address of this host itself" },
  IP_LOCALNET: { text: "loopback addresses are not routed", todo: "sysctl net.ipv4.conf.DEV.route_localnet" },
  IP_INHDR: { text: "its IP header is damaged, or its time to live ran out" },
  IP_NOPROTO: { text: "no program on this host takes its protocol" },
  IP_CSUM: { text: "its IP checksum is wrong", ...CHECKSUM },
  ICMP_CSUM: { text: "its ICMP checksum is wrong", ...CHECKSUM },
  TCP_CSUM: { text: "its TCP checksum is wrong", ...CHECKSUM },
  UDP_CSUM: { text: "its UDP checksum is wrong", ...CHECKSUM },
  SKB_CSUM: { text: "its checksum could not be computed", ...CHECKSUM },
  SKB_GSO_SEG: { text: "it could not be cut into segments", todo: "ethtool -k DEV: switch gso and tso off" },
  PKT_TOO_SMALL: { text: "it is shorter than its headers say" },
  HDR_TRUNC: { text: "it is shorter than its headers say" },
  PKT_TOO_BIG: {
    text: "it is larger than the outgoing interface takes, and may not be cut",
    code: "mtu-too-large",
  },
  XFRM_POLICY: {
    text: "an IPsec policy demands that it be encrypted, or refuses it",
    owner: "the IPsec configuration",
    todo: "ip xfrm policy; ip xfrm state",
  },
  SECURITY_HOOK: { text: "a security module (SELinux, AppArmor, BPF LSM) refused it" },
  BPF_CGROUP_EGRESS: {
    text: "a BPF program of the sender's control group refused it",
    owner: "the program that loaded it (systemd's IPAddressDeny=, a CNI product)",
    todo: "bpftool cgroup tree",
  },
  UNICAST_IN_L2_MULTICAST: { text: "its frame was a broadcast or multicast" },
  OTHERHOST: { text: "the frame was addressed to another machine" },
  UNHANDLED_PROTO: {
    text: "the interface takes no frames of this type (a VLAN without its device, IP switched off)",
    todo: "ip -d link show dev DEV: is a VLAN device missing, or is the interface a port of a bridge?",
  },
  NEIGH_FAILED: { text: "the next hop did not answer ARP or neighbour discovery", ...NEIGHBOUR },
  NEIGH_HH_FILLFAIL: { text: "the next hop's MAC address could not be written into the frame", ...NEIGHBOUR },
  NEIGH_CREATEFAIL: {
    text: "no neighbour entry could be made: the neighbour table may be full",
    ...NEIGHBOUR_TABLE,
  },
  NEIGH_QUEUEFULL: { text: "too many packets wait for the next hop's MAC address", ...NEIGHBOUR },
  NEIGH_DEAD: { text: "the neighbour entry had just been deleted" },
  QDISC_DROP: { text: "the queueing discipline of the interface dropped it", ...QUEUE },
  QDISC_OVERLIMIT: { text: "the queue of the interface is over its limit", ...QUEUE },
  QDISC_CONGESTED: { text: "the queue of the interface is congested", ...QUEUE },
  QDISC_BURST_DROP: { text: "it is larger than the burst that the queue allows", ...QUEUE },
  CAKE_FLOOD: { text: "the queue of the interface holds too much of this flow", ...QUEUE },
  FQ_BAND_LIMIT: { text: "the queue's band is full", ...QUEUE },
  FQ_HORIZON_LIMIT: { text: "its send time is too far ahead for the queue", ...QUEUE },
  FQ_FLOW_LIMIT: { text: "the queue holds too many packets of this flow", ...QUEUE },
  CPU_BACKLOG: {
    text: "a processor's queue of received packets is full",
    todo: "sysctl net.core.netdev_max_backlog",
  },
  DEV_READY: { text: "the interface is not ready: down, or without a carrier", todo: "ip link show dev DEV" },
  DEV_HDR: { text: "the frame's header could not be made" },
  NO_TX_TARGET: {
    text: "the interface could not pass it on: its other end is down or gone, or it has no port",
    todo: "ip -d link show dev DEV",
  },
  FULL_RING: { text: "the receiving interface's queue is full" },
  TC_INGRESS: { text: "a traffic control (tc) filter dropped it on its way in", ...TC_PROGRAM },
  TC_EGRESS: { text: "a traffic control (tc) filter dropped it on its way out", ...TC_PROGRAM },
  TC_CHAIN_NOTFOUND: {
    text: "a traffic control (tc) filter leads to a chain that is not there",
    ...TC_PROGRAM,
  },
  TC_RECLASSIFY_LOOP: { text: "traffic control (tc) filters send it in a loop", ...TC_PROGRAM },
  XDP: { text: "an XDP program dropped it", todo: "ip link show dev DEV; bpftool net" },
  TAP_FILTER: { text: "the filter of the tun or tap device refused it" },
  TAP_TXFILTER: { text: "the filter of the tun or tap device refused it" },
  NO_SOCKET: { text: "no socket waits for it", todo: "ss -lntu in the namespace where it arrived" },
  SOCKET_FILTER: { text: "the receiving socket's own filter refused it" },
  SOCKET_RCVBUFF: { text: "the receiving socket's buffer is full", ...SOCKET_MEMORY },
  SOCKET_BACKLOG: { text: "the receiving socket's backlog is full", ...SOCKET_MEMORY },
  PROTO_MEM: {
    text: "the protocol may take no more memory",
    todo: "sysctl net.ipv4.tcp_mem net.ipv4.udp_mem",
  },
  TCP_LISTEN_OVERFLOW: {
    text: "the listening socket's queue of new connections is full",
    todo: "ss -lnt: Recv-Q against Send-Q; sysctl net.core.somaxconn",
  },
  IPV6DISABLED: {
    text: "IPv6 is switched off on the interface",
    todo: "sysctl net.ipv6.conf.DEV.disable_ipv6",
  },
  TTL_EXPIRED: {
    text: "its time to live ran out",
    code: "ttl-exceeded",
    todo: "in the pod: sysctl net.ipv4.ip_default_ttl; a rule that sets the TTL: nft list ruleset | grep ttl",
  },
  /** Ours: the kernel does not tell the directions apart. */
  ANSWER_TTL_EXPIRED: {
    text: "the time to live of the answer ran out: it came in with its last hop",
    code: "ttl-exceeded",
    owner: "the destination, or a router on the way back",
    todo: "the TTL of answers is set outside (a rule against tethering, a server with a small default), unless a rule here does it: nft list ruleset | grep ttl",
  },
  TCP_FLAGS: { text: "its TCP flags fit no state of the connection", ...SEGMENT },
  TCP_ZEROWINDOW: { text: "the receiver's window was zero", ...SEGMENT },
  TCP_OLD_DATA: { text: "its data were received before", ...SEGMENT },
  TCP_OVERWINDOW: { text: "it carries more than the receiver's window allows", ...SEGMENT },
  TCP_RFC7323_PAWS: {
    text: "its TCP time stamp is older than the last one: another host behind the same address?",
  },
  TCP_OLD_SEQUENCE: { text: "its TCP sequence number is too old", ...SEGMENT },
  TCP_INVALID_SEQUENCE: { text: "its TCP sequence number is outside the window", ...SEGMENT },
  TCP_INVALID_ACK_SEQUENCE: { text: "it acknowledges data that were never sent", ...SEGMENT },
  TCP_ACK_UNSENT_DATA: { text: "it acknowledges data that were never sent", ...SEGMENT },
  TCP_OLD_ACK: { text: "it acknowledges data that were acknowledged before", ...SEGMENT },
  TCP_TOO_OLD_ACK: { text: "its acknowledgement number is too old", ...SEGMENT },
  TCP_RESET: { text: "it is a reset (RST) that does not fit the connection", ...SEGMENT },
  TCP_INVALID_SYN: { text: "it is a SYN for a connection that is open", ...SEGMENT },
  TCP_CLOSE: { text: "the socket was closed meanwhile", ...SEGMENT },
  TCP_MD5NOTFOUND: { text: "the receiver wants TCP-MD5 signatures, and it has none" },
  TCP_MD5UNEXPECTED: { text: "it has a TCP-MD5 signature, and the receiver has no key for it" },
  TCP_MD5FAILURE: { text: "its TCP-MD5 signature is wrong" },
  TCP_MINTTL: { text: "its time to live is below what the receiver accepts (IP_MINTTL)" },
  BRIDGE_INGRESS_STP_STATE: {
    text: "the bridge's port is not forwarding (STP)",
    code: "bridge-port-blocked",
  },
  ARP_PVLAN_DISABLE: { text: "ARP for its own interface is not answered (proxy_arp_pvlan is off)" },
  LOCAL_MAC: { text: "the frame's source MAC address is this host's own" },
  MAC_INVALID_SOURCE: { text: "the frame's source MAC address is not valid" },
  VXLAN_VNI_NOT_FOUND: { text: "no VXLAN device has its network number" },
  VXLAN_INVALID_HDR: { text: "its VXLAN header is damaged" },
  VXLAN_ENTRY_EXISTS: { text: "the VXLAN device has its sender behind another tunnel, and learning is off" },
  IP_TUNNEL_ECN: { text: "a tunnel refused it" },
  TUNNEL_TXINFO: { text: "the tunnel has no remote address for it" },
  DUP_FRAG: { text: "one of its fragments came twice" },
  FRAG_REASM_TIMEOUT: { text: "not all of its fragments came in time" },
  FRAG_TOO_FAR: { text: "its fragments came too far apart" },
  IPV6_BAD_EXTHDR: { text: "its IPv6 extension headers are damaged" },
  NOMEM: { text: "the kernel had no memory for it" },
};

/** The reason's own name where there are no words for it. */
export function dropReason(reason: string): DropReason {
  return REASONS[reason] ?? { text: `the kernel gives the reason ${reason}` };
}
