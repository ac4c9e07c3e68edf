/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the programs use of the kernel: its helpers by number (enum bpf_func_id), and flags newer than Debian's headers. */
#pragma once
#include <linux/bpf.h>
#include <stddef.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define SECTION(name) __attribute__((section(name), used))
/* A function that `loop` calls: verified once, and not once for each time. Each has a section of its own. */
#define STEP(name) static __attribute__((noinline, section(".step." name)))
#define INLINE static inline __attribute__((always_inline))
#define NET16(value) ((u16)__builtin_bswap16(value))
#define atomic_add(pointer, value) __sync_fetch_and_add(pointer, value)
#define compare_and_swap(pointer, old, new) __sync_val_compare_and_swap(pointer, old, new)
#define copy(to, from, bytes) __builtin_memcpy(to, from, bytes)
#define clear(to, bytes) __builtin_memset(to, 0, bytes)

static void *(*lookup)(void *map, const void *key) = (void *)1;
static long (*update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*delete)(void *map, const void *key) = (void *)3;
static u32 (*random_number)(void) = (void *)7;
static long (*store_bytes)(struct __sk_buff *skb, u32 offset, const void *from, u32 length, u64 flags) = (void *)9;
static long (*l3_csum_replace)(struct __sk_buff *skb, u32 offset, u64 from, u64 to, u64 flags) = (void *)10;
static long (*l4_csum_replace)(struct __sk_buff *skb, u32 offset, u64 from, u64 to, u64 flags) = (void *)11;
static long (*load_bytes)(const void *skb, u32 offset, void *to, u32 length) = (void *)26;
static long (*csum_diff)(u32 *from, u32 from_size, u32 *to, u32 to_size, u32 seed) = (void *)28;
static long (*fib_lookup)(void *skb, struct bpf_fib_lookup *params, int length, u32 flags) = (void *)69;
static struct bpf_sock *(*udp_socket)(void *skb, struct bpf_sock_tuple *tuple, u32 size, u64 ns, u64 flags) = (void *)85;
static long (*release)(void *socket) = (void *)86;
static long (*pop)(void *map, void *value) = (void *)88;
static long (*push)(void *map, const void *value, u64 flags) = (void *)87;
static struct bpf_sock *(*tcp_socket)(void *skb, struct bpf_sock_tuple *tuple, u32 size, u64 ns, u64 flags) = (void *)99;
static u64 (*now_coarse)(void) = (void *)160;
static long (*loop)(u32 times, void *step, void *context, u64 flags) = (void *)181;

/* enum tcx_action_base */
#define TCX_NEXT -1
#define TCX_DROP 2

#define FIB_OUTPUT 2
#define FIB_SKIP_NEIGH 4
#define FIB_SRC 16
#define FIB_MARK 32
/* What the look-up says of an address of the node's own. */
#define FIB_NOT_FORWARDED 4

#define AF_INET 2
#define AF_INET6 10

/* A map as our loader reads it (linux/bpf/object.ts). An entry count of zero is filled in when the map is made. */
struct map_definition {
  u32 type;
  u32 key_bytes;
  u32 value_bytes;
  u32 entries;
  u32 flags;
};
#define MAP(name, ...) struct map_definition SECTION("maps") name = {__VA_ARGS__}
