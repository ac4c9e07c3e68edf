/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The flows: where each is written down, how it is found, how long it lives, and how its place is taken back. */
#pragma once
#include "packet.h"

#define SECOND 1000000000ull
/* So many places are looked at by each new flow; what has expired there is taken back. */
#define SWEEP 16

/* Set when the program is loaded: how many flows there is room for, and whether an older generation's move here. */
const volatile u32 slots SECTION(".rodata") = 0;
const volatile u32 moves SECTION(".rodata") = 0;

INLINE struct flow *flow_at(u32 slot) { return lookup(&flows, &slot); }

/* Deletes an index entry, if it is still the one of this life. */
INLINE void forget_place(struct tuple *tuple, u32 slot, u32 life) {
  struct place *place = lookup(&places, tuple);
  if (place && place->slot == slot && place->life == life) delete(&places, tuple);
}

/* Ends a flow. Only who changes LIVE to BUSY may: of two that try at once, one does it. */
INLINE void end_flow(struct flow *flow, u32 slot, u32 life) {
  if (compare_and_swap(&flow->life, life, (life & ~LIFE_MASK) | BUSY) != life) return;
  forget_place(&flow->leaving, slot, life);
  if (flow->kind != OUTSIDE) forget_place(&flow->arriving, slot, life);
  compare_and_swap(&flow->life, (life & ~LIFE_MASK) | BUSY, ((life & ~LIFE_MASK) + GENERATION) | FREE);
  push(&freed, &slot, BPF_ANY);
}

/* A place that was given back, or one that was never used. It is BUSY until it is filled in. */
INLINE struct flow *take_free(struct cursor *cursor, struct place *where) {
  if (pop(&freed, &where->slot)) {
    if (cursor->fresh >= slots) return 0;
    where->slot = atomic_add(&cursor->fresh, 1);
    if (where->slot >= slots) {
      /* Another processor had the last one. */
      atomic_add(&cursor->fresh, (u32)-1);
      return 0;
    }
  }
  struct flow *flow = flow_at(where->slot);
  if (!flow) return 0;
  where->life = (flow->life & ~LIFE_MASK) | LIVE;
  flow->life = (flow->life & ~LIFE_MASK) | BUSY;
  return flow;
}

struct move {
  const struct tuple *tuple;
  u64 now;
  struct place where;
};

/*
 * Moves a flow from the older generation to this one. It lives before it is found: of two processors that move it at once,
 * one finds that the other has done it.
 */
STEP("move") long move_one(u32 index, struct move *move) {
  u32 zero = 0;
  struct cursor *cursor = lookup(&cursor_map, &zero);
  struct place *place = lookup(&older_places, move->tuple);
  if (!cursor || !place) return 1;
  u32 slot = place->slot;
  struct flow *old = lookup(&older_flows, &slot);
  if (!old || old->life != place->life || old->expires < move->now) return 1;
  struct flow *flow = take_free(cursor, &move->where);
  if (!flow) return 1;
  flow->expires = old->expires;
  flow->interface = old->interface;
  copy(&flow->leaving, &old->leaving, sizeof *old - offsetof(struct flow, leaving));
  flow->life = move->where.life;
  if ((flow->kind == TRANSLATED && update(&places, &flow->arriving, &move->where, BPF_NOEXIST)) ||
      update(&places, &flow->leaving, &move->where, BPF_NOEXIST))
    end_flow(flow, move->where.slot, move->where.life);
  return 1;
}

/* The living flow of a tuple; what has expired is as good as gone, and is ended here. */
INLINE struct flow *find(const struct tuple *tuple, u64 now, struct place *where) {
  struct place *place = lookup(&places, tuple);
  if (!place && moves) {
    struct move move = {.tuple = tuple, .now = now};
    loop(1, move_one, &move, 0);
    place = lookup(&places, tuple);
  }
  if (!place) return 0;
  *where = *place;
  struct flow *flow = flow_at(where->slot);
  if (!flow || flow->life != where->life) return 0;
  if (flow->expires < now) {
    end_flow(flow, where->slot, where->life);
    return 0;
  }
  return flow;
}

INLINE u64 timeout(const struct settings *s, u32 which) { return s->seconds[which & (MOST_TIMEOUTS - 1)] * SECOND; }

/* How a connection ends: whether there was a FIN, and whether the peer has reset it. */
enum { FIN_SEEN = 1, RESET_BY_PEER = 2 };

/* One row of nf_conntrack's tcp_conntracks, a digit for each state from TCP_NONE to TCP_CLOSE: what a segment makes of it.
 * Where it says "ignored" or "invalid", the state stays. */
#define ROW(none, sent, recv, established, fin, close_wait, last, time_wait, closed)                           \
  ((u64)none | (u64)sent << 4 | (u64)recv << 8 | (u64)established << 12 | (u64)fin << 16 | (u64)close_wait << 20 | \
   (u64)last << 24 | (u64)time_wait << 28 | (u64)closed << 32)

/* What the flags of a segment make of a connection. `answer`: of the side that did not begin it. */
INLINE u8 next_tcp_state(struct flow *flow, u8 flags, int answer) {
  u8 state = flow->state;
  if (flags & RST) {
    if (answer && state != TCP_CLOSE) flow->ending |= RESET_BY_PEER;
    return TCP_CLOSE;
  }
  u64 row;
  if (flags & SYN) {
    if (flags & ACK) return answer && state == SYN_SENT ? SYN_RECV : state;
    if (answer || (state != TCP_NONE && state < TIME_WAIT)) return state;
    /* A new connection, with the ports of one that is over perhaps. Who was reset may try again before the peer is ready. */
    if (flow->ending != RESET_BY_PEER) flow->answered = 0;
    flow->ending = 0;
    return SYN_SENT;
  }
  if (flags & FIN) {
    row = ROW(0, 1, FIN_WAIT, FIN_WAIT, LAST_ACK, LAST_ACK, LAST_ACK, TIME_WAIT, TCP_CLOSE);
    flow->ending |= FIN_SEEN;
  } else if (answer) row = ROW(0, 1, 2, 3, CLOSE_WAIT, CLOSE_WAIT, TIME_WAIT, TIME_WAIT, TCP_CLOSE);
  /* nf_conntrack lets a closed one stay closed; but it looks at a RST's sequence number, and we believe forged ones, too. */
  else row = ROW(3, 1, 3, 3, CLOSE_WAIT, CLOSE_WAIT, TIME_WAIT, TIME_WAIT, ESTABLISHED);
  return row >> (state * 4 & 63) & 15;
}

/* A packet of the flow. `answer`: of the side that did not begin it. */
INLINE void seen(struct __sk_buff *skb, struct flow *flow, const struct packet *p, const struct settings *s, u64 now,
                 int answer) {
  u32 which = OTHER_TIMEOUT;
  u8 protocol = p->tuple.protocol;
  int refused = protocol == TCP && p->flags & RST && !flow->answered;
  if (answer && !flow->answered) flow->answered = 1;
  if (protocol == TCP) {
    if (p->fragment != LATER_FRAGMENT) {
      u8 state = next_tcp_state(flow, p->flags, answer);
      if (state != flow->state) flow->state = state;
    }
    which = flow->state;
  } else if (protocol == UDP || protocol == UDPLITE) which = flow->answered ? UDP_STREAM_TIMEOUT : UDP_TIMEOUT;
  else if (protocol == ICMP || protocol == ICMPV6) which = ICMP_TIMEOUT;
  u64 expires = now + timeout(s, which);
  /* Before there was a connection, a reset leaves nothing of it. */
  if (refused) expires = 0;
  /* Not at every packet: other processors read it. */
  if (expires < flow->expires || expires - flow->expires > SECOND) flow->expires = expires;
  atomic_add(&flow->packets[answer & 1], 1);
  atomic_add(&flow->bytes[answer & 1], skb->len);
}

struct sweep {
  u64 now;
  u32 from;
  u32 used;
};

STEP("sweep") long sweep_one(u32 index, struct sweep *sweep) {
  u32 slot = (sweep->from + index) % sweep->used;
  struct flow *flow = flow_at(slot);
  if (!flow) return 1;
  u32 life = flow->life;
  if ((life & LIFE_MASK) != LIVE || flow->expires >= sweep->now) return 0;
  end_flow(flow, slot, life);
  count(TAKEN_BACK);
  return 0;
}

/* A place for a new flow, after some others were looked at. */
INLINE struct flow *take_slot(u64 now, struct place *where) {
  u32 zero = 0;
  struct cursor *cursor = lookup(&cursor_map, &zero);
  if (!cursor) return 0;
  struct sweep sweep = {.now = now, .from = atomic_add(&cursor->sweep, SWEEP), .used = cursor->fresh};
  if (sweep.used > slots) sweep.used = slots;
  if (sweep.used) loop(SWEEP, sweep_one, &sweep, 0);
  return take_free(cursor, where);
}

INLINE void fill(struct flow *flow, const struct packet *p, const struct settings *s, u64 now, u8 kind) {
  flow->kind = kind;
  flow->state = TCP_NONE;
  flow->ending = 0;
  flow->answered = 0;
  flow->translation = 0;
  flow->begun = now;
  flow->packets[0] = flow->packets[1] = 0;
  flow->bytes[0] = flow->bytes[1] = 0;
  /* The first packet is counted by `seen`, which sets the time that is right for it. */
  flow->expires = now + timeout(s, SYN_SENT);
}
