/*
 * An allocator for processes that live for milliseconds: blocks are cut from one region, what is given back waits in a
 * list for the next of its size. A block has eight bytes before it, which hold its size and whether it is in use.
 */
#include "heap.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* With AddressSanitizer what was given back is out of bounds for everybody, the engine too. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#endif

#define HEADER 8u
#define STEP 8u
#define SMALL_BITS 10u
#define SMALL (1u << SMALL_BITS)
#define IN_USE 1u
#define RARE __attribute__((noinline, cold))
_Static_assert(sizeof(void *) <= STEP, "the least block has room for the list of free blocks");
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

Heap *heap;

/*
 * Sizes go up by 8 bytes, which is how the engine wants its blocks to lie, as far as SMALL, then in four steps to each
 * doubling. Most blocks are small, and a call asks for ten thousand of them: their path through here is short, what is
 * rare stands apart from it.
 */
static bool is_small(size_t payload) { return payload - 1 < SMALL - HEADER; }

/* With its header. */
static size_t small_size(size_t payload) { return (payload + HEADER + STEP - 1) & ~(size_t)(STEP - 1); }

/* The step to which a size that is not small is rounded up. */
static unsigned step_bits(size_t total) { return 63u - (unsigned)__builtin_clzll(total - 1) - 2; }

/* As small_size, for whatever is not small; 0 when there is none so large. */
RARE static size_t other_size(size_t payload) {
  if (payload > HEAP_MOST) return 0;
  if (payload == 0) return HEADER + STEP;
  size_t step = (size_t)1 << step_bits(payload + HEADER);
  return (payload + HEADER + step - 1) & ~(step - 1);
}

/* Which list a block of this size waits in; of any size that the functions above tell. */
static unsigned class_of(size_t total) {
  if (total <= SMALL) return (unsigned)(total / STEP);
  unsigned bits = step_bits(total) + 2;
  return SMALL / STEP + (bits - SMALL_BITS) * 4 + (unsigned)((total - ((size_t)1 << bits)) >> (bits - 2));
}

static uint64_t *header_of(const void *block) { return (uint64_t *)((char *)block - HEADER); }

/*
 * A header that is none means that memory was written past its end, or given back twice: nothing can be trusted then. One
 * comparison finds them all: a bit that does not belong into a size makes a large number of it.
 */
static size_t total_of(const void *block) {
  uint64_t total = *header_of(block) ^ IN_USE;
  uint64_t steps = total / STEP | total << 61;
  if (steps - 2 > HEAP_MOST * 2 / STEP) abort();
  return total;
}

bool heap_map_at(void *address, size_t size, int fd, off_t offset) {
  int flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE | (fd < 0 ? MAP_ANONYMOUS : 0);
  void *got = mmap(address, size, PROT_READ | PROT_WRITE, flags, fd, offset);
  if (got == MAP_FAILED) return false;
  if (got == address) return true;
  /* A kernel before 4.17 takes the address as a wish. */
  munmap(got, size);
  errno = EEXIST;
  return false;
}

bool heap_create(bool anywhere, size_t size, size_t reserved) {
  char *base = (char *)HEAP_BASE;
  if (anywhere) {
    base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return false;
  } else if (!heap_map_at(base, size, -1, 0)) {
    return false;
  }
  heap = (Heap *)(base + reserved);
  size_t used = (reserved + sizeof(Heap) + 15) & ~(size_t)15;
  heap->bump = heap->fresh = base + used + HEADER;
  heap->end = base + size;
  return true;
}

bool heap_is_exhausted;

/* More room behind what there is. */
static bool grow(size_t bytes) {
  size_t step = bytes > HEAP_STEP ? (bytes + HEAP_ALIGNMENT - 1) & ~(HEAP_ALIGNMENT - 1) : HEAP_STEP;
  if ((size_t)(heap->end - (char *)heap) + step > HEAP_MOST || !heap_map_at(heap->end, step, -1, 0)) return false;
  heap->end += step;
  return true;
}

bool heap_holds(const void *start, size_t length) {
  const char *from = start;
  return from >= (char *)heap && from <= heap->bump && length <= (size_t)(heap->bump - from);
}

/* A block where nothing was given yet. */
static void *cut_behind(size_t total) {
  char *block = heap->bump, *behind = block + total;
  /* With the header of what comes behind it. */
  ASAN_UNPOISON_MEMORY_REGION(block, total);
  heap->bump = behind;
  if (behind > heap->fresh) heap->fresh = behind;
  *header_of(block) = total | IN_USE;
  return block;
}

RARE static void *cut_from_more(size_t total) {
  if (grow(total)) return cut_behind(total);
  heap_is_exhausted = true;
  return NULL;
}

static inline void *take(size_t total) {
  void **list = &heap->lists[class_of(total)];
  void **free = *list;
  if (free != NULL) {
    ASAN_UNPOISON_MEMORY_REGION(free, total - HEADER);
    *list = *free;
    *header_of(free) = total | IN_USE;
    return free;
  }
  return (size_t)(heap->end - heap->bump) < total ? cut_from_more(total) : cut_behind(total);
}

RARE static void *alloc_other(size_t size) {
  size_t total = other_size(size);
  return total == 0 ? NULL : take(total);
}

void *heap_alloc(void *opaque, size_t size) {
  (void)opaque;
  return is_small(size) ? take(small_size(size)) : alloc_other(size);
}

static inline void give_back(void *block, size_t total) {
  void **list = &heap->lists[class_of(total)];
  *header_of(block) = total;
  *(void **)block = *list;
  *list = block;
  ASAN_POISON_MEMORY_REGION((void **)block + 1, total - HEADER - sizeof(void *));
}

RARE static void give_back_other(void *block, size_t total) {
  if (other_size(total - HEADER) != total) abort();
  give_back(block, total);
}

void heap_free(void *opaque, void *block) {
  (void)opaque;
  if (__builtin_expect(block == NULL, 0)) return;
  size_t total = total_of(block);
  if ((char *)block + total == heap->bump) {
    heap->bump = block;
    ASAN_POISON_MEMORY_REGION(block, total - HEADER);
    return;
  }
  if (total > SMALL) give_back_other(block, total);
  else give_back(block, total);
}

size_t heap_usable(const void *block) { return total_of(block) - HEADER; }

void *heap_calloc(void *opaque, size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
  char *fresh = heap->fresh;
  char *block = heap_alloc(opaque, bytes);
  /* What the kernel has just given is zero, and need not be touched to be so. */
  if (block != NULL && block < fresh) memset(block, 0, bytes);
  return block;
}

void *heap_realloc(void *opaque, void *block, size_t size) {
  if (block == NULL) return size == 0 ? NULL : heap_alloc(opaque, size);
  if (size == 0) {
    heap_free(opaque, block);
    return NULL;
  }
  size_t have = heap_usable(block);
  if (size <= have) return block;
  size_t total = is_small(size) ? small_size(size) : other_size(size);
  if (total == 0) return NULL;
  if ((char *)block + have + HEADER == heap->bump && (size_t)(heap->end - (char *)block) >= total) {
    heap->bump = (char *)block + total;
    ASAN_UNPOISON_MEMORY_REGION(block, total);
    if (heap->bump > heap->fresh) heap->fresh = heap->bump;
    *header_of(block) = total | IN_USE;
    return block;
  }
  void *moved = heap_alloc(opaque, size);
  if (moved == NULL) return NULL;
  memcpy(moved, block, have);
  heap_free(opaque, block);
  return moved;
}

void heap_forget_free(void) {
  ASAN_UNPOISON_MEMORY_REGION(heap, (size_t)(heap->end - (char *)heap));
  for (unsigned class = 0; class < HEAP_CLASSES; class++) {
    for (void **free = heap->lists[class], **next; free != NULL; free = next) {
      next = *free;
      memset(free, 0, *header_of(free) - HEADER);
    }
    heap->lists[class] = NULL;
  }
  memset(heap->bump - HEADER, 0, (size_t)(heap->fresh - heap->bump) + HEADER);
  heap->fresh = heap->bump;
}
