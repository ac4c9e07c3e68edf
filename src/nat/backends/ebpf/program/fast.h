/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The short way of packets whose flow is known: from the pods' link past routing's hooks to the uplink, and from the uplink
 * into the pod. Nothing is translated here: the programs at the uplink do it, as for everybody else, so that whatever is
 * decided here, nothing leaves with a pod's address. Only while the agent, who has looked at everything that would be left
 * out, says so; whatever is unusual takes the long way.
 */
#pragma once
#include "flow.h"

#define PACKET_HOST 0
#define MOST_UPLINKS 4
/* struct ethhdr: where the addresses stand, and how long both are. */
#define ETH_HEADER 14
#define MAC_BYTES 6

/* The keys of `leases`. */
enum {
  /* By who looked at everything: until when, and which turn of events was known. */
  LEASE_GRANTED,
  /* By who hears of events: how many there were. */
  LEASE_TURN,
  /* By who wants to see packets on the long way: until when. */
  LEASE_HELD_OFF,
  LEASE_KEYS,
};

struct lease {
  /* Nanoseconds of CLOCK_MONOTONIC. */
  u64 until;
  u64 turn;
  /* 0: none. */
  u32 uplinks[MOST_UPLINKS];
};

/* A neighbour of the node at a link. */
struct neighbour {
  u32 link;
  u8 mac[MAC_BYTES];
  u16 zero;
};

MAP(leases, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct lease), LEASE_KEYS, BPF_F_MMAPABLE);
/* Behind which veth pair he is: the node's end. */
MAP(veths, BPF_MAP_TYPE_HASH, sizeof(struct neighbour), 4, 65536, BPF_F_NO_PREALLOC);

static long (*redirect_neigh)(u32 link, struct bpf_redir_neigh *next, int bytes, u64 flags) = (void *)152;
static long (*redirect_peer)(u32 link, u64 flags) = (void *)155;

INLINE struct lease *valid_lease(u64 now) {
  u32 granted = LEASE_GRANTED, turn = LEASE_TURN, held_off = LEASE_HELD_OFF;
  struct lease *lease = lookup(&leases, &granted);
  struct lease *heard = lookup(&leases, &turn);
  struct lease *off = lookup(&leases, &held_off);
  if (!lease || !heard || !off) return 0;
  return lease->until > now && lease->turn == heard->turn && off->until <= now ? lease : 0;
}

/* A whole packet of TCP or UDP without options, for this node, of the middle of a flow, and not at the end of its way. */
INLINE int is_usual(struct __sk_buff *skb, struct packet *p, u8 *hops) {
  if (skb->pkt_type != PACKET_HOST || skb->mark) return 0;
  if (parse(skb, ETH_HEADER, 0, p) != IS_IP || p->fragment != NO_FRAGMENT) return 0;
  u8 protocol = p->tuple.protocol;
  if (protocol != TCP && protocol != UDP) return 0;
  if (p->l4 != p->l3 + (p->tuple.family == 4 ? sizeof(struct ipv4) : sizeof(struct ipv6))) return 0;
  if (protocol == TCP && p->flags & (SYN | RST)) return 0;
  if (load_bytes(skb, p->l3 + (p->tuple.family == 4 ? 8 : 7), hops, 1)) return 0;
  return *hops > 1;
}

/* What routing looks at for the size of a packet; of a large segment that is cut later, the largest of its parts. */
INLINE u32 size_on_link(struct __sk_buff *skb, const struct packet *p) {
  if (!skb->gso_size) return skb->len - p->l3;
  u32 header = 8;
  if (p->tuple.protocol == TCP) {
    u8 offset = 0;
    load_bytes(skb, p->l4 + 12, &offset, 1);
    header = (offset >> 4) * 4;
  }
  return p->l4 - p->l3 + header + skb->gso_size;
}

/* Where routing would send it, with the neighbour's address: 0 when he can be reached, and it is not too big. */
INLINE long routed(struct __sk_buff *skb, const struct packet *p, struct bpf_fib_lookup *route) {
  clear(route, sizeof *route);
  route->ifindex = skb->ifindex;
  route->l4_protocol = p->tuple.protocol;
  route->sport = p->tuple.source_port;
  route->dport = p->tuple.destination_port;
  u32 size = size_on_link(skb, p);
  if (size > 0xffff) return -1;
  route->tot_len = size;
  if (p->tuple.family == 4) {
    route->family = AF_INET;
    load_bytes(skb, p->l3 + 1, &route->tos, 1);
    route->ipv4_src = p->tuple.source.words[0];
    route->ipv4_dst = p->tuple.destination.words[0];
  } else {
    route->family = AF_INET6;
    load_bytes(skb, p->l3, &route->flowinfo, 4);
    route->flowinfo &= __builtin_bswap32(0x0fffffff);
    copy(route->ipv6_src, p->tuple.source.words, 16);
    copy(route->ipv6_dst, p->tuple.destination.words, 16);
  }
  return fib_lookup(skb, route, sizeof *route, 0);
}

/* One hop further, as ip_forward counts it. */
INLINE void count_hop(struct __sk_buff *skb, const struct packet *p, u8 hops) {
  u8 left = hops - 1;
  if (p->tuple.family == 4) {
    /* The word that the checksum covers: the hops come first in it. */
    l3_csum_replace(skb, p->l3 + 10, NET16((u16)hops << 8), NET16((u16)left << 8), 2);
    store_bytes(skb, p->l3 + 8, &left, 1, 0);
  } else store_bytes(skb, p->l3 + 7, &left, 1, BPF_F_RECOMPUTE_CSUM);
}

/* Of a pod, at its link. */
INLINE int leaves_fast(struct __sk_buff *skb) {
  u64 now = now_coarse();
  struct lease *lease = valid_lease(now);
  struct packet p;
  u8 hops;
  if (!lease || !is_usual(skb, &p, &hops)) return TCX_NEXT;
  struct place *place = lookup(&places, &p.tuple);
  if (!place) return TCX_NEXT;
  struct flow *flow = flow_at(place->slot);
  if (!flow || flow->life != place->life || flow->kind != TRANSLATED || flow->expires < now) return TCX_NEXT;
  u32 link = flow->interface;
  const u32 *uplinks = lease->uplinks;
  if (link != uplinks[0] && link != uplinks[1] && link != uplinks[2] && link != uplinks[3]) return TCX_NEXT;
  struct bpf_fib_lookup route;
  if (routed(skb, &p, &route) || route.ifindex != link) return TCX_NEXT;
  struct bpf_redir_neigh next = {.nh_family = route.family};
  if (route.family == AF_INET) next.ipv4_nh = route.ipv4_dst;
  else copy(next.ipv6_nh, route.ipv6_dst, 16);
  count_hop(skb, &p, hops);
  count(LEFT_FAST);
  return redirect_neigh(link, &next, sizeof next, 0);
}

/* For a pod, at the uplink, behind the program that has translated it back. */
INLINE int arrives_fast(struct __sk_buff *skb) {
  u64 now = now_coarse();
  struct packet p;
  u8 hops;
  if (!valid_lease(now) || !is_usual(skb, &p, &hops)) return TCX_NEXT;
  struct tuple begun;
  turn(&begun, &p.tuple, 0);
  struct place *place = lookup(&places, &begun);
  if (!place) return TCX_NEXT;
  struct flow *flow = flow_at(place->slot);
  if (!flow || flow->life != place->life || flow->kind != TRANSLATED || flow->interface != skb->ifindex) return TCX_NEXT;
  struct bpf_fib_lookup route;
  if (routed(skb, &p, &route)) return TCX_NEXT;
  struct neighbour pod = {.link = route.ifindex};
  copy(pod.mac, route.dmac, MAC_BYTES);
  u32 *veth = lookup(&veths, &pod);
  if (!veth) return TCX_NEXT;
  count_hop(skb, &p, hops);
  u8 addresses[2 * MAC_BYTES];
  copy(addresses, route.dmac, MAC_BYTES);
  copy(addresses + MAC_BYTES, route.smac, MAC_BYTES);
  store_bytes(skb, 0, addresses, sizeof addresses, 0);
  count(ARRIVED_FAST);
  return redirect_peer(*veth, 0);
}
