// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Source translation of pods' flows: at the egress of the links by which they leave, and its reverse at their ingress.
 * `npm run build:bpf` makes nat.bpf.ts of it.
 *
 * What leaves is looked up as a flow; a new one is decided about by its source, its destination and the links. What
 * arrives is looked up as an answer; what is none, and is for somebody who would be translated, is written down as begun
 * outside, so that its answers pass.
 */
#include "translate.h"
#include "errors.h"
#include "fast.h"

/* What stands before the IP header on the link: 14 bytes of Ethernet, or none. Set when the program is loaded. */
const volatile u32 frame_bytes SECTION(".rodata") = 14;

INLINE int dropped(u32 why) {
  count(why);
  return TCX_DROP;
}

INLINE void fragment_key(struct fragment *key, const struct packet *p) {
  clear(key, sizeof *key);
  key->source = p->tuple.source;
  key->destination = p->tuple.destination;
  key->id = p->fragment_id;
  /* Of IPv6, the number of the packet stands for itself (RFC 8200); what follows is known of the first fragment only. */
  key->protocol = p->tuple.family == 4 ? p->tuple.protocol : 0;
  key->inward = p->tuple.inward;
}

/* Of a first fragment: how the later ones, which have no ports, are to be addressed. */
INLINE void remember_fragment(const struct packet *p, const struct address *to) {
  if (p->fragment != FIRST_FRAGMENT) return;
  struct fragment key;
  fragment_key(&key, p);
  update(&fragments, &key, to, BPF_ANY);
}

/*
 * Neighbour discovery and the like, which never leaves its link: who forwards it all the same is no part of that. It is
 * never fragmented (RFC 6980); fragments that the node itself makes of what it forwards do not tell whence it came.
 */
INLINE int is_of_the_link(struct __sk_buff *skb, const struct packet *p) {
  return p->tuple.protocol == ICMPV6 && p->icmp == ICMP_OTHER && p->fragment == NO_FRAGMENT && skb->ingress_ifindex == 0;
}

/* A packet that is no part of a flow, and is to be translated. `why` says what is dropped as what. */
INLINE int may_begin(const struct packet *p) {
  u8 protocol = p->tuple.protocol;
  if (protocol == TCP) return (p->flags & (SYN | ACK | RST | FIN)) == SYN;
  if (protocol == ICMP || protocol == ICMPV6) return p->icmp == ICMP_QUERY;
  return protocol != DCCP;
}

INLINE int later_fragment(struct __sk_buff *skb, struct packet *p, const struct settings *s, enum end end) {
  struct fragment key;
  fragment_key(&key, p);
  struct address *to = lookup(&fragments, &key);
  if (to) {
    struct address copied = *to;
    p->checksum = 0;
    rewrite(skb, p, end, &copied, 0);
    return TCX_NEXT;
  }
  u32 which;
  /* Those of IPv6 that the node itself makes of a packet do not tell by which link it came. */
  if (end == SOURCE && decide(s, &p->tuple, skb->ingress_ifindex, skb->ifindex, &which))
    return dropped(DROPPED_FRAGMENT);
  return TCX_NEXT;
}

/*
 * Whether a packet that is not ours to translate needs a flow all the same: the node's own programs, or another product's
 * translation, send it from an address that pods leave as. Its port is changed if a pod has it.
 */
INLINE int must_claim(struct __sk_buff *skb, const struct packet *p) {
  if (!may_begin(p) || !lookup(&ours, &p->tuple.source)) return 0;
  /* Sockets are asked for their ports (is_local); what has none is written down. */
  if (skb->ingress_ifindex || p->icmp == ICMP_QUERY || !has_ports(p->tuple.protocol)) return 1;
  struct tuple arriving;
  turn(&arriving, &p->tuple, 1);
  return lookup(&places, &arriving) != 0;
}

/* Whether it is an answer to what we have translated back: it leaves to the one who began. */
INLINE int is_answer(const struct packet *p, u64 now) {
  struct place where;
  struct tuple begun;
  turn(&begun, &p->tuple, 0);
  struct flow *flow = find(&begun, now, &where);
  return flow && flow->kind == TRANSLATED;
}

/* A packet that belongs to no flow. Null: none begins with it, and `verdict` says what becomes of it. */
INLINE struct flow *new_flow(struct __sk_buff *skb, struct packet *p, const struct settings *s, u64 now, int *verdict) {
  u32 which = 0;
  u32 came = skb->ingress_ifindex;
  struct translation *t = decide(s, &p->tuple, came, skb->ifindex, &which);
  if (p->icmp == ICMP_ERROR) {
    *verdict = error_leaves(skb, p, s, now, t != 0);
    if (*verdict == TCX_DROP) count(DROPPED_NO_BEGINNING);
    return 0;
  }
  *verdict = TCX_NEXT;
  if (t ? is_answer(p, now) || is_of_the_link(skb, p) : !must_claim(skb, p)) return 0;
  u32 why = p->tuple.protocol == DCCP ? DROPPED_PROTOCOL : DROPPED_NO_BEGINNING;
  if (may_begin(p)) {
    struct address to = p->tuple.source;
    int unknown = 0;
    if (t && t->flags & SNAT) snat_address(t, p, &to);
    else if (t) unknown = masquerade_address(skb, p, &to);
    why = DROPPED_NO_ADDRESS;
    if (!unknown) {
      u32 one = 1;
      if (t && !lookup(&ours, &to)) update(&ours, &to, &one, BPF_ANY);
      struct flow *flow = begin(skb, p, s, now, t, which, &to, &why);
      if (flow) return flow;
    }
  }
  /* The node's own packets mostly have no pod's address to hide. */
  if (came == 0 && !t) return 0;
  *verdict = dropped(why);
  return 0;
}

/* Of a packet that could not be read to its end: whether its source is to be hidden, as far as that is known. */
INLINE int may_hide(struct __sk_buff *skb, const struct packet *p, const struct settings *s) {
  u32 which;
  return (p->l4 == 0 && skb->ingress_ifindex) || decide(s, &p->tuple, skb->ingress_ifindex, skb->ifindex, &which) != 0;
}

INLINE int begins_anew(const struct packet *p) { return p->tuple.protocol == TCP && may_begin(p); }

INLINE int leaves(struct __sk_buff *skb, u32 l3) {
  struct packet p;
  int is = parse(skb, l3, 0, &p);
  if (is == NOT_IP) return TCX_NEXT;
  u32 zero = 0;
  struct settings *s = lookup(&settings, &zero);
  if (!s || s->base == 0) return TCX_NEXT;
  if (is == MALFORMED) return may_hide(skb, &p, s) ? dropped(DROPPED_MALFORMED) : TCX_NEXT;
  if (p.fragment == LATER_FRAGMENT) return later_fragment(skb, &p, s, SOURCE);
  u64 now = now_coarse();
  struct place where;
  struct flow *flow = find(&p.tuple, now, &where);
  if (flow && (flow->kind == TRANSLATED ? flow->interface != skb->ifindex : begins_anew(&p))) {
    /*
     * It leaves by another link now, where another address is right. Or it was begun outside, nothing came of it, and now
     * the pod begins: what came in may have been dropped behind us.
     */
    end_flow(flow, where.slot, where.life);
    flow = 0;
  }
  if (!flow) {
    int verdict;
    flow = new_flow(skb, &p, s, now, &verdict);
    if (!flow) {
      if (verdict == TCX_NEXT) remember_fragment(&p, &p.tuple.source);
      return verdict;
    }
  }
  if (flow->kind == OUTSIDE) {
    seen(skb, flow, &p, s, now, 1);
    remember_fragment(&p, &p.tuple.source);
    return TCX_NEXT;
  }
  seen(skb, flow, &p, s, now, 0);
  struct address to = flow->arriving.destination;
  u16 port = flow->arriving.destination_port;
  remember_fragment(&p, &to);
  rewrite(skb, &p, SOURCE, &to, port);
  return TCX_NEXT;
}

/* Writes down that somebody outside began to talk with somebody who would be translated. */
INLINE void begun_outside(struct __sk_buff *skb, struct packet *p, const struct settings *s, u64 now) {
  struct tuple answer;
  turn(&answer, &p->tuple, 0);
  struct place where;
  struct flow *flow = find(&answer, now, &where);
  if (flow) {
    if (flow->kind == OUTSIDE) seen(skb, flow, p, s, now, 0);
    return;
  }
  /* With whom the node itself speaks without ports, no pod may speak in its name. */
  int is_node = !has_ports(p->tuple.protocol) && !p->icmp && lookup(&ours, &answer.source);
  if (!is_node && !may_be_hidden(s, &answer)) return;
  if (p->icmp ? p->icmp != ICMP_QUERY : p->tuple.protocol == TCP && p->flags & RST) return;
  flow = take_slot(now, &where);
  if (!flow) {
    count(DROPPED_FULL);
    return;
  }
  fill(flow, p, s, now, OUTSIDE);
  flow->interface = skb->ifindex;
  flow->leaving = answer;
  flow->state = p->flags & SYN ? SYN_SENT : ESTABLISHED;
  flow->life = where.life;
  seen(skb, flow, p, s, now, 0);
  if (update(&places, &answer, &where, BPF_NOEXIST)) end_flow(flow, where.slot, where.life);
  else count(BEGUN_OUTSIDE);
}

INLINE int arrives(struct __sk_buff *skb, u32 l3) {
  struct packet p;
  if (parse(skb, l3, 1, &p) != IS_IP) return TCX_NEXT;
  u32 zero = 0;
  struct settings *s = lookup(&settings, &zero);
  if (!s || s->base == 0) return TCX_NEXT;
  if (p.fragment == LATER_FRAGMENT) return later_fragment(skb, &p, s, DESTINATION);
  u64 now = now_coarse();
  struct place where;
  struct flow *flow = find(&p.tuple, now, &where);
  if (!flow) {
    if (p.icmp == ICMP_ERROR) return error_arrives(skb, &p, s, now);
    begun_outside(skb, &p, s, now);
    return TCX_NEXT;
  }
  seen(skb, flow, &p, s, now, 1);
  struct address to = flow->leaving.source;
  u16 port = flow->leaving.source_port;
  remember_fragment(&p, &to);
  rewrite(skb, &p, DESTINATION, &to, port);
  return TCX_NEXT;
}

SECTION("egress") int wayout_egress(struct __sk_buff *skb) { return leaves(skb, frame_bytes); }
SECTION("ingress") int wayout_ingress(struct __sk_buff *skb) { return arrives(skb, frame_bytes); }

/* Before the one above at a link of pods; behind it at an uplink. Links of Ethernet alone. */
SECTION("fast-leaves") int wayout_leaves(struct __sk_buff *skb) { return leaves_fast(skb); }
SECTION("fast-arrives") int wayout_arrives(struct __sk_buff *skb) { return arrives_fast(skb); }

/* What the program that sets us up asks for, one flow each (BPF_PROG_TEST_RUN): 1 when it was done. */
SECTION("forget") int wayout_forget(struct __sk_buff *skb) {
  u32 slot = skb->cb[0];
  u32 life = skb->cb[1];
  struct flow *flow = flow_at(slot);
  if (!flow || flow->life != life || (life & LIFE_MASK) != LIVE) return 0;
  end_flow(flow, slot, life);
  return 1;
}

SECTION("move") int wayout_move(struct __sk_buff *skb) {
  u32 slot = skb->cb[0];
  struct flow *old = lookup(&older_flows, &slot);
  if (!old || (old->life & LIFE_MASK) != LIVE) return 0;
  struct move move = {.tuple = &old->leaving, .now = now_coarse()};
  if (lookup(&places, &old->leaving)) return 0;
  loop(1, move_one, &move, 0);
  return 1;
}

char terms[] SECTION("license") = "Dual BSD/GPL";
