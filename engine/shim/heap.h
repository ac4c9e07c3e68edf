/* The memory that everything of JavaScript lies in. */
#ifndef WAYOUT_HEAP_H
#define WAYOUT_HEAP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Where the image was made, and where it is mapped again: it is full of addresses of itself. High enough to be above
 * whatever a program and its brk take, low enough for arm64 with 39 bits of address; kernels place nothing here unasked.
 */
#ifndef HEAP_BASE
#define HEAP_BASE 0x2000000000ul
#endif
/* The largest page a kernel of x86-64 or arm64 works with: files and regions are cut at it. */
#define HEAP_ALIGNMENT 65536ul
/* Room is asked for in steps, so that a limit of address space or strict overcommit is met by need alone. */
#define HEAP_STEP (8ul << 20)
#define HEAP_MOST (256ul << 20)
#define HEAP_CLASSES 208

/* Lies in the image itself, behind its header: a run goes on where the image's maker stopped. */
typedef struct Heap {
  char *bump;  /* the first byte that was never given */
  char *fresh; /* from here on the kernel's own zeros stand: nothing was ever written */
  char *end;   /* of what is mapped */
  void *lists[HEAP_CLASSES]; /* blocks that were given back, by size */
} Heap;

/* The one heap of this process. */
extern Heap *heap;

/* Whether the kernel ever refused what was asked for: a call that has no end without memory has it for that. */
extern bool heap_is_exhausted;

/* Maps a new region of `size` bytes at HEAP_BASE or, with `anywhere`, where there is room; `reserved` bytes at its start
   are the caller's. False, with errno, when the kernel refuses. */
bool heap_create(bool anywhere, size_t size, size_t reserved);
/* Maps exactly there or not at all; fd -1: zeros. */
bool heap_map_at(void *address, size_t size, int fd, off_t offset);
/* Whether all of these bytes are ours. */
bool heap_holds(const void *start, size_t length);
/* Overwrites what was given back, so that an image tells nothing but what is in it, and gives none of it again: a run
   takes its blocks one beside the other at the end, not from pages all over the image, each of which it would copy. */
void heap_forget_free(void);

void *heap_alloc(void *opaque, size_t size);
void *heap_calloc(void *opaque, size_t count, size_t size);
void *heap_realloc(void *opaque, void *block, size_t size);
void heap_free(void *opaque, void *block);
size_t heap_usable(const void *block);
#endif
