/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From the bytes of a packet to its tuple, and back: addresses, ports and every checksum that covers them. */
#pragma once
#include "maps.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
enum { ICMP = 1, TCP = 6, UDP = 17, DCCP = 33, ICMPV6 = 58, UDPLITE = 136 };
enum { FIN = 1, SYN = 2, RST = 4, ACK = 16, URG = 32 };
enum { NO_FRAGMENT, FIRST_FRAGMENT, LATER_FRAGMENT };
/* What parse says. */
enum { IS_IP, NOT_IP, MALFORMED };

enum icmp_kind { NO_ICMP, ICMP_QUERY, ICMP_ANSWER, ICMP_ERROR, ICMP_OTHER };

struct packet {
  struct tuple tuple;
  /* Offsets from the start of the packet. */
  u32 l3;
  u32 l4;
  /* Of the checksum of the protocol; 0: it has none. */
  u32 checksum;
  u32 fragment_id;
  u8 fragment;
  u8 flags;
  u8 icmp;
  u8 zero;
};

struct ipv4 {
  u8 version;
  u8 tos;
  u16 length;
  u16 id;
  u16 fragment;
  u8 ttl;
  u8 protocol;
  u16 checksum;
  u32 source;
  u32 destination;
};

struct ipv6 {
  u32 flow;
  u16 length;
  u8 next;
  u8 hops;
  struct address source;
  struct address destination;
};

/*
 * What a message is. `about`: 0 for the echo, the type of the question for others that are answered by their number: two
 * of them may have the same.
 */
INLINE u8 icmp_kind(u8 type, int v4, u16 *about) {
  *about = 0;
  if (type == (v4 ? 8 : 128)) return ICMP_QUERY;
  if (type == (v4 ? 0 : 129)) return ICMP_ANSWER;
  if (v4 && type >= 13 && type <= 18) {
    u8 answers = type & 1 ? 0 : 1;
    *about = type - answers;
    return answers ? ICMP_ANSWER : ICMP_QUERY;
  }
  if (v4 ? type == 3 || type == 4 || type == 5 || type == 11 || type == 12 : type < 128) return ICMP_ERROR;
  return ICMP_OTHER;
}

/* The number of a question stands for the port of the one who asks. */
INLINE void set_number(struct packet *p, const u8 *header, int v4) {
  u16 about;
  p->icmp = icmp_kind(header[0], v4, &about);
  if (p->icmp == ICMP_QUERY) {
    copy(&p->tuple.source_port, header + 4, 2);
    p->tuple.destination_port = about;
  } else if (p->icmp == ICMP_ANSWER) {
    copy(&p->tuple.destination_port, header + 4, 2);
    p->tuple.source_port = about;
  }
}

/* The headers between IPv6 and the protocol; as many as the kernel itself would rarely see. */
INLINE int skip_extensions(struct __sk_buff *skb, struct packet *p, u8 next) {
  for (int i = 0; i < 8; i++) {
    u8 header[8];
    if (next != 0 && next != 43 && next != 60 && next != 44 && next != 51) {
      p->tuple.protocol = next;
      return 0;
    }
    if (load_bytes(skb, p->l4, header, 8)) return -1;
    if (next == 44) {
      u16 offset = (u16)header[2] << 8 | header[3];
      copy(&p->fragment_id, header + 4, 4);
      if (offset & 0xfff8) p->fragment = LATER_FRAGMENT;
      else if (offset & 1) p->fragment = FIRST_FRAGMENT;
      p->l4 += 8;
      next = header[0];
      if (p->fragment == LATER_FRAGMENT) {
        p->tuple.protocol = next;
        return 0;
      }
      continue;
    }
    p->l4 += next == 51 ? ((u32)header[1] + 2) * 4 : ((u32)header[1] + 1) * 8;
    next = header[0];
  }
  return -1;
}

/* Whether a checksum of zero says that there is none: one that comes to nothing is written as 0xffff. */
INLINE int zero_says_none(u8 protocol) { return protocol == UDP || protocol == UDPLITE; }

INLINE int has_ports(u8 protocol) { return protocol == TCP || protocol == UDP || protocol == UDPLITE; }

/* Flags that a segment may have together (nf_conntrack's tcp_valid_flags); PSH, ECE and CWR as they like. */
#define ALLOWED(flags) (1ull << (flags))
INLINE int may_be(u8 flags) {
  const u64 allowed = ALLOWED(SYN) | ALLOWED(SYN | URG) | ALLOWED(SYN | ACK) | ALLOWED(RST) | ALLOWED(RST | ACK) |
                      ALLOWED(FIN | ACK) | ALLOWED(FIN | ACK | URG) | ALLOWED(ACK) | ALLOWED(ACK | URG);
  return allowed >> (flags & (FIN | SYN | RST | ACK | URG)) & 1;
}

INLINE int parse_ports(struct __sk_buff *skb, struct packet *p) {
  u8 protocol = p->tuple.protocol;
  if (has_ports(protocol)) {
    u16 ports[2];
    if (load_bytes(skb, p->l4, ports, 4)) return -1;
    p->tuple.source_port = ports[0];
    p->tuple.destination_port = ports[1];
    if (protocol != TCP) {
      p->checksum = p->l4 + 6;
      return 0;
    }
    p->checksum = p->l4 + 16;
    /* The checksum has to be there, too: a first fragment without it could not be put right. */
    u8 rest[6];
    if (load_bytes(skb, p->l4 + 12, rest, 6)) return -1;
    p->flags = rest[1];
    return may_be(p->flags) ? 0 : -1;
  }
  if (protocol == (p->tuple.family == 4 ? ICMP : ICMPV6)) {
    u8 header[8];
    if (load_bytes(skb, p->l4, header, 8)) return -1;
    p->checksum = p->l4 + 2;
    set_number(p, header, p->tuple.family == 4);
  }
  return 0;
}

/* The addresses and the protocol; `l4` and `fragment` are set. */
INLINE int parse_ip(struct __sk_buff *skb, struct packet *p) {
  if (p->tuple.family == 4) {
    struct ipv4 ip;
    if (load_bytes(skb, p->l3, &ip, sizeof ip)) return -1;
    u32 words = ip.version & 15;
    if (words < 5) return -1;
    p->l4 = p->l3 + words * 4;
    p->tuple.source.words[0] = ip.source;
    p->tuple.destination.words[0] = ip.destination;
    p->tuple.protocol = ip.protocol;
    p->fragment_id = ip.id;
    if (ip.fragment & NET16(0x1fff)) p->fragment = LATER_FRAGMENT;
    else if (ip.fragment & NET16(0x2000)) p->fragment = FIRST_FRAGMENT;
    return 0;
  }
  struct ipv6 ip;
  if (load_bytes(skb, p->l3, &ip, sizeof ip)) return -1;
  p->l4 = p->l3 + sizeof ip;
  p->tuple.source = ip.source;
  p->tuple.destination = ip.destination;
  return skip_extensions(skb, p, ip.next);
}

INLINE int parse(struct __sk_buff *skb, u32 l3, u8 inward, struct packet *p) {
  clear(p, sizeof *p);
  u32 protocol = skb->protocol;
  if (skb->vlan_present || (protocol != NET16(ETH_P_IP) && protocol != NET16(ETH_P_IPV6))) return NOT_IP;
  p->l3 = l3;
  p->tuple.family = protocol == NET16(ETH_P_IP) ? 4 : 6;
  p->tuple.inward = inward;
  if (parse_ip(skb, p)) return MALFORMED;
  if (p->fragment == LATER_FRAGMENT) return IS_IP;
  return parse_ports(skb, p) ? MALFORMED : IS_IP;
}

/* The other direction of the same exchange. */
INLINE void turn(struct tuple *to, const struct tuple *from, u8 inward) {
  to->source = from->destination;
  to->destination = from->source;
  to->source_port = from->destination_port;
  to->destination_port = from->source_port;
  to->protocol = from->protocol;
  to->family = from->family;
  to->inward = inward;
  to->zero = 0;
}

INLINE int same_address(const struct address *a, const struct address *b) {
  return a->words[0] == b->words[0] && a->words[1] == b->words[1] && a->words[2] == b->words[2] &&
         a->words[3] == b->words[3];
}

enum end { SOURCE, DESTINATION };

/*
 * An address of the packet itself. `checksum`: of the protocol, whose pseudo header has the address; 0: none.
 * Where skb->csum holds the sum of the whole packet (CHECKSUM_COMPLETE), l4_csum_replace takes the change of the address
 * from it, as IPv4's own checksum makes up for the address. IPv6 has none: there the store puts it back.
 */
INLINE void replace_address(struct __sk_buff *skb, const struct packet *p, enum end end, struct address *from,
                            struct address *to, u32 checksum, u64 mangled) {
  if (p->tuple.family == 4) {
    if (checksum) l4_csum_replace(skb, checksum, from->words[0], to->words[0], BPF_F_PSEUDO_HDR | mangled | 4);
    l3_csum_replace(skb, p->l3 + 10, from->words[0], to->words[0], 4);
    store_bytes(skb, p->l3 + (end == SOURCE ? 12 : 16), to->words, 4, BPF_F_INVALIDATE_HASH);
    return;
  }
  if (checksum) {
    long difference = csum_diff(from->words, 16, to->words, 16, 0);
    l4_csum_replace(skb, checksum, 0, (u32)difference, BPF_F_PSEUDO_HDR | mangled);
  }
  store_bytes(skb, p->l3 + (end == SOURCE ? 8 : 24), to->words, 16, BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH);
}

INLINE void rewrite(struct __sk_buff *skb, struct packet *p, enum end end, struct address *to, u16 port) {
  u8 protocol = p->tuple.protocol;
  u64 mangled = zero_says_none(protocol) ? BPF_F_MARK_MANGLED_0 : 0;
  struct address *from = end == SOURCE ? &p->tuple.source : &p->tuple.destination;
  u16 old = end == SOURCE ? p->tuple.source_port : p->tuple.destination_port;
  if (p->checksum && port != old && p->fragment != LATER_FRAGMENT) {
    u32 at = p->icmp ? p->l4 + 4 : p->l4 + (end == SOURCE ? 0 : 2);
    l4_csum_replace(skb, p->checksum, old, port, mangled | 2);
    store_bytes(skb, at, &port, 2, 0);
  }
  if (same_address(from, to)) return;
  u32 checksum = p->tuple.family == 4 && p->icmp ? 0 : p->checksum;
  replace_address(skb, p, end, from, to, checksum, mangled);
}
