/*
 * What _FORTIFY_SOURCE is with glibc, for musl, whose headers have nothing of it: a copy beyond an object whose size the
 * compiler knows ends the process. Comes before everything else (-include).
 */
#ifndef WAYOUT_FORTIFY_H
#define WAYOUT_FORTIFY_H
#include <stddef.h>
#include <string.h>
#ifndef __GLIBC__
#define FORTIFY static inline __attribute__((always_inline, unused))

FORTIFY void *checked_memcpy(void *to, const void *from, size_t bytes) {
  if (bytes > __builtin_object_size(to, 0) || bytes > __builtin_object_size(from, 0)) __builtin_trap();
  return __builtin_memcpy(to, from, bytes);
}

FORTIFY void *checked_memmove(void *to, const void *from, size_t bytes) {
  if (bytes > __builtin_object_size(to, 0) || bytes > __builtin_object_size(from, 0)) __builtin_trap();
  return __builtin_memmove(to, from, bytes);
}

FORTIFY void *checked_memset(void *to, int value, size_t bytes) {
  if (bytes > __builtin_object_size(to, 0)) __builtin_trap();
  return __builtin_memset(to, value, bytes);
}

#define memcpy checked_memcpy
#define memmove checked_memmove
#define memset checked_memset
#endif
#endif
