/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Who is translated, to which address, and with which port. */
#pragma once
#include "flow.h"

/* So many ports are tried for a flow; nf_nat (nf_nat_l4proto_unique_tuple) tries 128, then 64, 32 and 16 more. */
#define ATTEMPTS 2048

/* The source that decides about packets from here; 0: none. `came`: by which link; 0: made here. */
INLINE struct source *deciding(const struct settings *s, const struct tuple *t, u32 came) {
  u32 base = s->base;
  u32 zone = 0;
  if (s->zones && came) {
    struct pair pair = {.first = base, .second = came};
    u32 *found = lookup(&zones, &pair);
    if (found) zone = *found;
  }
  struct prefix prefix = {.bits = 32 + 128, .set = base + 2 * zone + (t->family == 6), .address = t->source};
  return lookup(&sources, &prefix);
}

INLINE int is_kept(const struct source *source, const struct tuple *t) {
  struct prefix prefix = {.bits = 32 + 128, .set = source->kept + (t->family == 6), .address = t->destination};
  return lookup(&kept, &prefix) != 0;
}

/* Whether who is at the source of a tuple would be translated, by whichever link his packets come. */
INLINE int may_be_hidden(const struct settings *s, const struct tuple *t) {
  if (s->zones) {
    struct prefix prefix = {.bits = 160, .set = s->base + 2 + (t->family == 6), .address = t->source};
    return lookup(&sources, &prefix) != 0;
  }
  struct source *source = deciding(s, t, 0);
  return source && !is_kept(source, t);
}

/* What becomes of a new flow that leaves by a link; 0: it is let go as it is. */
INLINE struct translation *decide(const struct settings *s, const struct tuple *t, u32 came, u32 leaves, u32 *which) {
  struct source *source = deciding(s, t, came);
  if (!source || is_kept(source, t)) return 0;
  *which = source->translation;
  struct translation *translation = lookup(&translations, which);
  if (!translation) return 0;
  if (translation->flags & BOUND) {
    struct pair pair = {.first = *which, .second = leaves};
    if (!lookup(&bound, &pair)) return 0;
  }
  return translation;
}

/* The next hop of a packet: asked for as routing itself has asked, by everything that rules and several next hops go by. */
INLINE u32 next_hop(struct __sk_buff *skb, const struct packet *p) {
  struct bpf_fib_lookup route = {};
  u32 came = skb->ingress_ifindex;
  u32 flags = FIB_SKIP_NEIGH | (came ? 0 : FIB_OUTPUT);
  u8 tos = 0;
  load_bytes(skb, p->l3 + 1, &tos, 1);
  route.family = AF_INET;
  route.ifindex = came ? came : skb->ifindex;
  route.ipv4_src = p->tuple.source.words[0];
  route.ipv4_dst = p->tuple.destination.words[0];
  route.tos = tos;
  route.l4_protocol = p->tuple.protocol;
  if (has_ports(p->tuple.protocol)) {
    route.sport = p->tuple.source_port;
    route.dport = p->tuple.destination_port;
  }
  long answer = -1;
  if (skb->mark) {
    /* Where newer kernels look for it (6.10); older ones refuse the flag. */
    u32 mark = skb->mark;
    copy(route.smac, &mark, 4);
    answer = fib_lookup(skb, &route, sizeof route, flags | FIB_MARK);
  }
  if (answer < 0) answer = fib_lookup(skb, &route, sizeof route, flags);
  int is_it = answer == 0 && route.family == AF_INET && route.ifindex == skb->ifindex;
  return is_it ? route.ipv4_dst : p->tuple.destination.words[0];
}

INLINE long ask_route(struct __sk_buff *skb, struct bpf_fib_lookup *route, u32 destination, u32 flags) {
  clear(route, sizeof *route);
  route->family = AF_INET;
  route->ifindex = skb->ifindex;
  route->ipv4_dst = destination;
  return fib_lookup(skb, route, sizeof *route, FIB_OUTPUT | FIB_SKIP_NEIGH | flags);
}

/*
 * Whether the first address of the link is right, and not the one that routing says for a next hop: nf_nat does not look at
 * a route's `src`. Where the next hop is on a subnet of the link, so is its neighbour in number, and what routing says is
 * the subnet's address. An address that the node has no more is never right.
 */
INLINE int is_first_right(struct __sk_buff *skb, u32 next, u32 first) {
  struct bpf_fib_lookup route;
  u32 beside = next ^ __builtin_bswap32(1);
  if (ask_route(skb, &route, beside, 0) != 0 || route.ipv4_dst == beside) return 0;
  return ask_route(skb, &route, first, 0) == FIB_NOT_FORWARDED;
}

/* What nf_nat would take: the address that the link has in the network of the next hop; of IPv6, the one that the kernel
 * itself would choose for the destination. Where routing does not answer, the one that was found when we were set up. */
INLINE int masquerade_address(struct __sk_buff *skb, const struct packet *p, struct address *to) {
  u32 link = skb->ifindex;
  struct bpf_fib_lookup route = {};
  struct pair pair = {.first = link, .second = p->tuple.family};
  struct address *known = lookup(&addresses, &pair);
  if (p->tuple.family == 4) {
    u32 next = next_hop(skb, p);
    long answer = ask_route(skb, &route, next, FIB_SRC);
    u32 source = route.ipv4_src;
    if (answer == 0 && route.ifindex == link && route.ipv4_dst == next && source) {
      if (known && source != known->words[0] && is_first_right(skb, next, known->words[0])) source = known->words[0];
      clear(to, sizeof *to);
      to->words[0] = source;
      return 0;
    }
  } else {
    route.ifindex = link;
    route.family = AF_INET6;
    copy(route.ipv6_dst, p->tuple.destination.words, 16);
    long answer = fib_lookup(skb, &route, sizeof route, FIB_OUTPUT | FIB_SKIP_NEIGH | FIB_SRC);
    if (answer == 0 && route.ifindex == link && (route.ipv6_src[0] | route.ipv6_src[3])) {
      copy(to->words, route.ipv6_src, 16);
      return 0;
    }
  }
  if (!known) return -1;
  *to = *known;
  return 0;
}

/* One of a range, the same for the same client. */
INLINE void snat_address(const struct translation *t, const struct packet *p, struct address *to) {
  *to = t->first;
  u32 word = p->tuple.family == 4 ? 0 : 3;
  u32 first = __builtin_bswap32(t->first.words[word]);
  u32 span = __builtin_bswap32(t->last.words[word]) - first + 1;
  if (span == 1) return;
  const u32 *s = p->tuple.source.words;
  u32 hash = (s[0] ^ s[1] * 0x9e3779b1u ^ s[2] * 0x85ebca6bu ^ s[3] * 0xc2b2ae35u) * 0x9e3779b1u;
  hash ^= hash >> 15;
  to->words[word] = __builtin_bswap32(first + (span ? (u32)(((u64)hash * span) >> 32) : hash));
}

/* Whether a socket of this node would get what arrives for a tuple. */
INLINE int is_local(struct __sk_buff *skb, const struct tuple *t) {
  struct bpf_sock_tuple asked = {};
  u32 size;
  if (t->protocol != TCP && t->protocol != UDP) return 0;
  if (t->family == 4) {
    asked.ipv4.saddr = t->source.words[0];
    asked.ipv4.daddr = t->destination.words[0];
    asked.ipv4.sport = t->source_port;
    asked.ipv4.dport = t->destination_port;
    size = sizeof asked.ipv4;
  } else {
    copy(asked.ipv6.saddr, t->source.words, 16);
    copy(asked.ipv6.daddr, t->destination.words, 16);
    asked.ipv6.sport = t->source_port;
    asked.ipv6.dport = t->destination_port;
    size = sizeof asked.ipv6;
  }
  struct bpf_sock *socket;
  if (t->protocol == TCP) socket = tcp_socket(skb, &asked, size, (u64)-1, 0);
  else socket = udp_socket(skb, &asked, size, (u64)-1, 0);
  if (!socket) return 0;
  release(socket);
  return 1;
}

/*
 * How far apart the ports are that a flow tries. Small ranges are gone through one by one. In others, a prime meets every port;
 * these are far from every simple fraction of the usual ranges, so that a block of taken ports (clients take them in a row) is
 * left at once; and each flow has another, or what is taken would lie in runs that are longer than any search.
 */
#define STEPS 16
const volatile u16 steps[STEPS] SECTION(".rodata") = {12433, 36013, 23203, 50023, 11491, 46309, 40493, 17417,
                                                      44953, 37123, 39761, 10303, 15227, 47743, 45569, 20297};

/* The search for a free port: where the range begins and how long it is, where to go on, and how far each step goes. */
struct search {
  struct __sk_buff *skb;
  struct tuple arriving;
  struct place where;
  u32 first;
  u32 count;
  u32 offset;
  u32 step;
  u32 found;
  /* Whether reserved ports are left alone: the node's own packets have theirs with a right. */
  u32 spares;
  u64 now;
};

INLINE int is_reserved(const struct tuple *arriving) {
  u32 zero = 0;
  u32 port = __builtin_bswap16(arriving->destination_port);
  u8 *bits = lookup(&reserved, &zero);
  return bits && bits[port >> 3] & (1 << (port & 7));
}

/* Also when nobody has asked for it since it expired. */
INLINE int is_free(const struct tuple *tuple, u64 now) {
  if (moves && lookup(&older_places, tuple)) return 0;
  struct place *place = lookup(&places, tuple);
  if (!place) return 1;
  struct place where = *place;
  struct flow *flow = flow_at(where.slot);
  if (!flow || flow->life != where.life || flow->expires >= now) return 0;
  end_flow(flow, where.slot, where.life);
  return lookup(&places, tuple) == 0;
}

INLINE int take_port(struct search *search) {
  if (search->spares && is_reserved(&search->arriving)) return 0;
  if (!is_free(&search->arriving, search->now)) return 0;
  if (is_local(search->skb, &search->arriving)) return 0;
  return update(&places, &search->arriving, &search->where, BPF_NOEXIST) == 0;
}

STEP("port") long try_port(u32 index, struct search *search) {
  u32 offset = search->offset;
  search->arriving.destination_port = __builtin_bswap16((u16)(search->first + offset));
  offset += search->step;
  search->offset = offset >= search->count ? offset - search->count : offset;
  if (!take_port(search)) return 0;
  search->found = 1;
  return 1;
}

/* The ports that a flow may have; as nf_nat, those of privileged clients stay privileged. */
INLINE void set_range(struct search *search, const struct translation *t, const struct packet *p, u16 own) {
  search->first = 1024;
  search->count = 64512;
  if (p->icmp) {
    search->first = 0;
    search->count = 65536;
  } else if (t && t->flags & PORTS) {
    search->first = t->first_port;
    search->count = (u32)t->last_port - t->first_port + 1;
  } else if (!(t && t->flags & FULLY_RANDOM) && own < 1024) {
    search->first = own < 512 ? 1 : 600;
    search->count = own < 512 ? 511 : 424;
  }
  u32 random = random_number();
  search->offset = random % search->count;
  u32 prime = steps[(random >> 16) & (STEPS - 1)];
  search->step = search->count <= ATTEMPTS || search->count % prime == 0 ? 1 : prime % search->count;
}

/* Makes `arriving` ours: the client's own port where that may be, else the next free one. */
INLINE int claim(struct search *search, const struct translation *t, const struct packet *p) {
  if (!has_ports(p->tuple.protocol) && p->icmp != ICMP_QUERY) {
    /* Nor may it be what the node itself exchanges with this peer: a tunnel of its own. */
    struct tuple own;
    turn(&own, &search->arriving, 0);
    if (p->tuple.protocol != ICMP && p->tuple.protocol != ICMPV6 && t && !is_free(&own, search->now)) return 0;
    if (!is_free(&search->arriving, search->now)) return 0;
    return update(&places, &search->arriving, &search->where, BPF_NOEXIST) == 0;
  }
  u16 own = __builtin_bswap16(p->tuple.source_port);
  set_range(search, t, p, own);
  search->spares = t && !p->icmp;
  int keep = !(t && t->flags & FULLY_RANDOM) && (!(t && t->flags & PORTS) || p->icmp ||
                                                 (own >= search->first && own < search->first + search->count));
  if (keep && take_port(search)) return 1;
  loop(search->count < ATTEMPTS ? search->count : ATTEMPTS, try_port, search, 0);
  return search->found;
}

/* Gives a place back that never came to life. */
INLINE void give_back(struct flow *flow, const struct place *where) {
  flow->life = (where->life & ~LIFE_MASK) | FREE;
  u32 slot = where->slot;
  push(&freed, &slot, BPF_ANY);
}

/* Begins a flow that leaves as `to`. Null: it cannot be, and `why` says which count tells it. */
INLINE struct flow *begin(struct __sk_buff *skb, const struct packet *p, const struct settings *s, u64 now,
                          struct translation *t, u32 which, const struct address *to, u32 *why) {
  struct search search = {};
  struct flow *flow = take_slot(now, &search.where);
  *why = DROPPED_FULL;
  if (!flow) return 0;
  fill(flow, p, s, now, TRANSLATED);
  flow->interface = skb->ifindex;
  flow->translation = which;
  flow->leaving = p->tuple;
  turn(&search.arriving, &p->tuple, 1);
  search.arriving.destination = *to;
  search.skb = skb;
  search.now = now;
  *why = DROPPED_PORTS;
  if (!claim(&search, t, p)) {
    give_back(flow, &search.where);
    return 0;
  }
  flow->arriving = search.arriving;
  flow->life = search.where.life;
  if (update(&places, &p->tuple, &search.where, BPF_NOEXIST) == 0) {
    if (t) atomic_add(&t->flows, 1);
    count(BEGUN);
    return flow;
  }
  /* Another processor began the same flow at this moment, or the index is full: what is there counts. */
  end_flow(flow, search.where.slot, search.where.life);
  *why = DROPPED_FULL;
  return find(&p->tuple, now, &search.where);
}
