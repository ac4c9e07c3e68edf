/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The maps, and what stands in them. layout.ts says the same to the program that fills and reads them. */
#pragma once
#include "kernel.h"

/* An IPv4 address stands in the first four bytes; the others are zero. */
struct address {
  u32 words[4];
};

/* As the packet has it. `inward`: of packets that arrive; 0: of packets that leave. Ports in network order. */
struct tuple {
  struct address source;
  struct address destination;
  u16 source_port;
  u16 destination_port;
  u8 protocol;
  u8 family;
  u8 inward;
  u8 zero;
};

enum kind {
  /* A pod began it, and leaves as somebody else. */
  TRANSLATED = 1,
  /* Somebody outside began it: the answers pass as they are. */
  OUTSIDE = 2,
};

enum tcp_state { TCP_NONE, SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT, TCP_CLOSE };

/* Below the timeouts of TCP, by enum tcp_state. */
enum { UDP_TIMEOUT = 9, UDP_STREAM_TIMEOUT, ICMP_TIMEOUT, OTHER_TIMEOUT, MOST_TIMEOUTS = 16 };

/* The two lowest bits of `life`; above them the generation, which makes old index entries void. */
enum { FREE = 0, BUSY = 1, LIVE = 2, LIFE_MASK = 3, GENERATION = 4 };

struct flow {
  u64 expires;
  u32 life;
  u32 interface;
  struct tuple leaving;
  struct tuple arriving;
  u8 kind;
  u8 state;
  u8 ending;
  u8 answered;
  u32 translation;
  u64 begun;
  u64 packets[2];
  u64 bytes[2];
};

struct place {
  u32 slot;
  u32 life;
};

/* The number of a set, in network order or not, is only compared: it comes first and is always matched whole. */
struct prefix {
  u32 bits;
  u32 set;
  struct address address;
};

struct source {
  u32 translation;
  u32 kept;
};

enum { MASQUERADE = 1, SNAT = 2, FULLY_RANDOM = 4, BOUND = 8, PORTS = 16 };

struct translation {
  struct address first;
  struct address last;
  u32 flags;
  u16 first_port;
  u16 last_port;
  u64 flows;
};

struct settings {
  /* Of the sets of sources: this + 2 * zone + (family is 6). The lowest bit but one of `zones`: whether there are some. */
  u32 base;
  u32 zones;
  u32 zero[2];
  u32 seconds[MOST_TIMEOUTS];
};

struct cursor {
  u32 sweep;
  u32 fresh;
};

struct pair {
  u32 first;
  u32 second;
};

struct fragment {
  struct address source;
  struct address destination;
  u32 id;
  u8 protocol;
  u8 inward;
  u16 zero;
};

enum count {
  BEGUN,
  BEGUN_OUTSIDE,
  TAKEN_BACK,
  DROPPED_FULL,
  DROPPED_PORTS,
  DROPPED_NO_BEGINNING,
  DROPPED_FRAGMENT,
  DROPPED_PROTOCOL,
  DROPPED_NO_ADDRESS,
  DROPPED_MALFORMED,
  LEFT_FAST,
  ARRIVED_FAST,
  COUNTS,
};

MAP(settings, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct settings), 1);
MAP(cursor_map, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct cursor), 1);
MAP(flows, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct flow), 0);
MAP(places, BPF_MAP_TYPE_HASH, sizeof(struct tuple), sizeof(struct place), 0);
/* Of the generation that is left behind when the number of flows changes: read while its flows move (find). */
MAP(older_flows, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct flow), 0);
MAP(older_places, BPF_MAP_TYPE_HASH, sizeof(struct tuple), sizeof(struct place), 0);
MAP(freed, BPF_MAP_TYPE_QUEUE, 0, 4, 0);
MAP(sources, BPF_MAP_TYPE_LPM_TRIE, sizeof(struct prefix), sizeof(struct source), 1 << 20, BPF_F_NO_PREALLOC);
MAP(kept, BPF_MAP_TYPE_LPM_TRIE, sizeof(struct prefix), 4, 1 << 20, BPF_F_NO_PREALLOC);
MAP(translations, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct translation), 8192);
MAP(bound, BPF_MAP_TYPE_HASH, sizeof(struct pair), 4, 65536, BPF_F_NO_PREALLOC);
MAP(zones, BPF_MAP_TYPE_HASH, sizeof(struct pair), 4, 65536, BPF_F_NO_PREALLOC);
MAP(addresses, BPF_MAP_TYPE_HASH, sizeof(struct pair), sizeof(struct address), 4096, BPF_F_NO_PREALLOC);
MAP(ours, BPF_MAP_TYPE_LRU_HASH, sizeof(struct address), 4, 4096);
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, sizeof(struct fragment), sizeof(struct address), 8192);
/* A bit for each port that no flow of a pod may leave with. */
MAP(reserved, BPF_MAP_TYPE_ARRAY, 4, 8192, 1);
MAP(counts, BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, COUNTS);

INLINE void count(u32 what) {
  u64 *value = lookup(&counts, &what);
  if (value) *value += 1;
}
