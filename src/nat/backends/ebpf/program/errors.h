/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* ICMP errors: the packet that they speak of stands inside, as it was where the error arose. */
#pragma once
#include "translate.h"

/* The packet inside an error. Its tuple is turned: as an answer to it would have it. */
INLINE int parse_inside(struct __sk_buff *skb, const struct packet *p, struct packet *inside, u8 inward) {
  clear(inside, sizeof *inside);
  inside->l3 = p->l4 + 8;
  inside->tuple.family = p->tuple.family;
  if (parse_ip(skb, inside) || inside->fragment == LATER_FRAGMENT) return -1;
  u8 protocol = inside->tuple.protocol;
  u16 ports[2];
  if (has_ports(protocol)) {
    if (load_bytes(skb, inside->l4, ports, 4)) return -1;
    inside->tuple.source_port = ports[0];
    inside->tuple.destination_port = ports[1];
    u16 sum;
    u32 at = inside->l4 + (protocol == TCP ? 16 : 6);
    /* Only so much of the packet is quoted as the sender chose. UDP's zero means that there is none. */
    if (load_bytes(skb, at, &sum, 2) == 0 && (sum || !zero_says_none(protocol))) inside->checksum = at;
  } else if (protocol == ICMP || protocol == ICMPV6) {
    u8 header[8];
    if (load_bytes(skb, inside->l4, header, 8)) return -1;
    inside->checksum = inside->l4 + 2;
    set_number(inside, header, inside->tuple.family == 4);
    if (inside->icmp != ICMP_QUERY && inside->icmp != ICMP_ANSWER) return -1;
  }
  struct tuple given = inside->tuple;
  turn(&inside->tuple, &given, inward);
  return 0;
}

INLINE u16 folded(u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (u16)sum;
}

/* Stores two bytes inside the error, and lets the error's own checksum know. */
INLINE void store16(struct __sk_buff *skb, const struct packet *p, u32 at, u16 from, u16 to) {
  l4_csum_replace(skb, p->checksum, from, to, 2);
  store_bytes(skb, at, &to, 2, 0);
}

/* A checksum inside, after `difference` was added to what it covers. `zero`: what stands there where it comes to nothing. */
INLINE void mend_inside(struct __sk_buff *skb, const struct packet *p, u32 at, u32 difference, u16 zero) {
  u16 old;
  if (load_bytes(skb, at, &old, 2)) return;
  u16 new = (u16)~folded((u64)(u16)~old + folded(difference));
  store16(skb, p, at, old, new ? new : zero);
}

/* Changes an end of the packet inside. */
INLINE void rewrite_inside(struct __sk_buff *skb, const struct packet *p, const struct packet *inside, enum end end,
                           struct address *from, struct address *to, u16 old, u16 port) {
  u8 v4 = p->tuple.family == 4;
  u32 at = inside->l3 + (v4 ? (end == SOURCE ? 12 : 16) : (end == SOURCE ? 8 : 24));
  long addresses = v4 ? csum_diff(from->words, 4, to->words, 4, 0) : csum_diff(from->words, 16, to->words, 16, 0);
  l4_csum_replace(skb, p->checksum, 0, (u32)addresses, 0);
  if (v4) store_bytes(skb, at, to->words, 4, 0);
  else store_bytes(skb, at, to->words, 16, 0);
  if (v4) mend_inside(skb, p, inside->l3 + 10, (u32)addresses, 0);
  u64 changed = v4 && inside->icmp ? 0 : folded((u32)addresses);
  if (old != port) {
    changed += (u16)~old;
    changed += port;
    store16(skb, p, inside->icmp ? inside->l4 + 4 : inside->l4 + (end == SOURCE ? 0 : 2), old, port);
  }
  if (inside->checksum)
    mend_inside(skb, p, inside->checksum, folded(changed), zero_says_none(inside->tuple.protocol) ? 0xffff : 0);
}

/* As nf_nat does: another router for the node is none for the pod. */
INLINE int is_redirect(struct __sk_buff *skb, const struct packet *p) {
  u8 type;
  return p->tuple.family == 4 && load_bytes(skb, p->l4, &type, 1) == 0 && type == 5;
}

/* An error about what a pod has sent: it goes to the pod, and speaks of the packet as the pod sent it. */
INLINE int error_arrives(struct __sk_buff *skb, struct packet *p, const struct settings *s, u64 now) {
  struct packet inside;
  if (parse_inside(skb, p, &inside, 1)) return TCX_NEXT;
  struct place where;
  struct flow *flow = find(&inside.tuple, now, &where);
  if (!flow || flow->kind != TRANSLATED) return TCX_NEXT;
  if (is_redirect(skb, p)) return TCX_DROP;
  struct address pod = flow->leaving.source;
  struct address node = flow->arriving.destination;
  u16 port = flow->leaving.source_port;
  rewrite_inside(skb, p, &inside, SOURCE, &node, &pod, flow->arriving.destination_port, port);
  replace_address(skb, p, DESTINATION, &p->tuple.destination, &pod, p->tuple.family == 4 ? 0 : p->checksum, 0);
  return TCX_NEXT;
}

/*
 * An error of a pod, or of this node, about an answer that was translated back: outside, only the node's address is known.
 * `hidden`: its sender's address is not to be seen either.
 */
INLINE int error_leaves(struct __sk_buff *skb, struct packet *p, const struct settings *s, u64 now, int hidden) {
  int otherwise = hidden ? TCX_DROP : TCX_NEXT;
  struct packet inside;
  if (parse_inside(skb, p, &inside, 0)) {
    /* Of a later fragment nobody knows whose it is: there, too, the address that stands inside stays here. */
    struct tuple about;
    turn(&about, &inside.tuple, 0);
    return inside.fragment == LATER_FRAGMENT && may_be_hidden(s, &about) ? TCX_DROP : otherwise;
  }
  struct place where;
  struct flow *flow = find(&inside.tuple, now, &where);
  /* Its flow is over, by a reset perhaps that went no further than here. */
  if (!flow) return may_be_hidden(s, &inside.tuple) ? TCX_DROP : otherwise;
  /* Who was called from outside is known there; another pod that speaks of the call is not. */
  if (flow->kind != TRANSLATED) return same_address(&p->tuple.source, &inside.tuple.source) ? TCX_NEXT : otherwise;
  if (is_redirect(skb, p)) return TCX_DROP;
  struct address pod = flow->leaving.source;
  struct address node = flow->arriving.destination;
  u16 port = flow->arriving.destination_port;
  rewrite_inside(skb, p, &inside, DESTINATION, &pod, &node, flow->leaving.source_port, port);
  if (hidden) replace_address(skb, p, SOURCE, &p->tuple.source, &node, p->tuple.family == 4 ? 0 : p->checksum, 0);
  return TCX_NEXT;
}
