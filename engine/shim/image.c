/*
 * The image: all memory of an engine in which the plugin was evaluated, as it lay at HEAP_BASE when the file was made.
 * It is mapped privately: pages that nobody writes to are the file's own. It holds addresses of itself and of the
 * engine's functions, so it fits this very engine only, whose hash stands in both.
 */
#include "image.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where the image is mapped: where it was made, but in a test that wants that refused. */
#ifndef HEAP_START
#define HEAP_START HEAP_BASE
#endif
#define OWN_FILE "/proc/self/exe"
#define FORMAT 1u
/* What is looked at when a run begins: so many bytes of each piece of so many. --verify looks at every byte. */
#define APART (64u << 10)
#define LOOKED_AT 256u

/* Filled in when the engine is linked (scripts/engine/): SHA-256 of its file with these fields zero, and its length. */
typedef struct {
  char mark[16];
  uint8_t hash[32];
  uint64_t bytes;
} Identity;
const volatile Identity identity = { "wayout-engine-1", { 0 }, 0 };

/* The image begins with it. */
typedef struct {
  char mark[16];
  uint32_t format, header_bytes;
  uint8_t engine_hash[32]; /* of the engine that made it */
  uint8_t hash[32];        /* SHA-256 of all that follows this header in the file */
  uint64_t base, engine_bytes, image_bytes, bytecode_bytes;
  uint64_t sparse; /* of bytes that lie APART */
  Engine engine;
  uint64_t check; /* of the header before it */
} Header;
static const char MARK[16] = "wayout-image-1\n";

#define HEADER_ROOM ((sizeof(Header) + 15) & ~(size_t)15)

static uint64_t stir(uint64_t sum, uint64_t word) { return (sum ^ word) * 0x9e3779b97f4a7c15u + (sum >> 29); }

static uint64_t header_check(const Header *header) {
  uint64_t sum = 1, word;
  for (size_t at = 0; at < offsetof(Header, check); at += sizeof word) {
    memcpy(&word, (const char *)header + at, sizeof word);
    sum = stir(sum, word);
  }
  return sum;
}

static bool read_at(int fd, void *to, size_t length, uint64_t from) {
  for (size_t done = 0; done < length;) {
    ssize_t count = pread(fd, (char *)to + done, length - done, (off_t)(from + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += (size_t)count;
  }
  return true;
}

/* Of a piece LOOKED_AT bytes, every time at another place; of the last one its end: what was cut off or put elsewhere shows.
   They are read, not looked at where the image is mapped: that would map all of it. */
static bool sparse_sum(int fd, uint64_t from, size_t bytes, uint64_t *sum) {
  uint64_t words[LOOKED_AT / sizeof(uint64_t)];
  *sum = 1;
  for (size_t piece = APART, place = 0; piece < bytes; piece += APART, place = (place + 9240) % (APART - LOOKED_AT)) {
    size_t at = piece + APART < bytes ? piece + place : bytes - LOOKED_AT;
    if (!read_at(fd, words, LOOKED_AT, from + at)) return false;
    for (size_t word = 0; word < LOOKED_AT / sizeof *words; word++) *sum = stir(*sum, words[word]);
  }
  return true;
}

static bool same_engine(const uint8_t *hash) {
  for (size_t at = 0; at < sizeof identity.hash; at++) {
    if (identity.hash[at] != hash[at]) return false;
  }
  return true;
}

/* What can be known of a file from its length and header. NULL when all is well. */
static const char *header_fault(int fd, Header *header) {
  struct stat status;
  if (fstat(fd, &status)) return "it cannot be looked at";
  uint64_t bytes = (uint64_t)status.st_size, engine_bytes = identity.bytes;
  if (engine_bytes == 0) return "it is an engine without a program";
  if (bytes < engine_bytes + sizeof *header || !read_at(fd, header, sizeof *header, engine_bytes)) return "it ends too early";
  if (memcmp(header->mark, MARK, sizeof MARK) != 0) return "it has no image where one should be";
  if (header->format != FORMAT || header->header_bytes != sizeof *header) return "its image is of another version";
  if (header->check != header_check(header)) return "its header was changed";
  if (!same_engine(header->engine_hash)) return "its image was made by another engine";
  if (header->base != HEAP_BASE || header->engine_bytes != engine_bytes) return "its image was made for another place";
  if (header->image_bytes % HEAP_ALIGNMENT != 0 || header->image_bytes > HEAP_MOST || header->bytecode_bytes > HEAP_MOST)
    return "its header makes no sense";
  if (bytes != engine_bytes + header->image_bytes + header->bytecode_bytes) return "it has not the length it was made with";
  return NULL;
}

#define NOT_AS_MADE "this file is not as it was made: "
#define NO_ROOM "there is no room for its memory (%s)"
static const char WAS_CHANGED[] = "was changed";

/* SHA-256 of what follows the header. NULL when all is well; else what is to be said of it, errno being 0 for a change. */
static const char *rest_fault(int fd, const Header *header) {
  uint8_t hash[32];
  size_t length = header->image_bytes + header->bytecode_bytes;
  uint8_t *map = mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, (off_t)header->engine_bytes);
  if (map == MAP_FAILED) return "cannot be mapped";
  sha256(map + sizeof *header, length - sizeof *header, hash);
  munmap(map, length);
  errno = 0;
  return memcmp(hash, header->hash, sizeof hash) == 0 ? NULL : WAS_CHANGED;
}

/* Evaluates the bytecode, on a heap where the machine has room. */
static Engine *open_bytecode(int fd, const Header *header, char *why, size_t room) {
  static Engine engine;
  const char *fault = rest_fault(fd, header);
  if (fault == WAS_CHANGED) {
    snprintf(why, room, NOT_AS_MADE "it %s", fault);
    return NULL;
  }
  if (fault != NULL) {
    snprintf(why, room, NO_ROOM, strerror(errno));
    return NULL;
  }
  bool is_mapped = false;
  for (size_t size = 64ul << 20; !is_mapped && size >= HEAP_STEP; size /= 2) is_mapped = heap_create(true, size, 0);
  uint8_t *bytecode = malloc(header->bytecode_bytes);
  bool is_read = bytecode != NULL && read_at(fd, bytecode, header->bytecode_bytes, header->engine_bytes + header->image_bytes);
  if (!is_mapped || !is_read || !engine_start(&engine, bytecode, header->bytecode_bytes)) {
    snprintf(why, room, NO_ROOM, strerror(errno));
    return NULL;
  }
  free(bytecode);
  return &engine;
}

Engine *image_open(char *why, size_t room) {
  Header header;
  uint64_t sum;
  int fd = open(OWN_FILE, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    snprintf(why, room, "%s cannot be opened (%s)", OWN_FILE, strerror(errno));
    return NULL;
  }
  const char *fault = header_fault(fd, &header);
  Engine *engine = NULL;
  if (fault != NULL) {
    snprintf(why, room, NOT_AS_MADE "%s", fault);
  } else if (!sparse_sum(fd, header.engine_bytes, header.image_bytes, &sum) || sum != header.sparse) {
    snprintf(why, room, NOT_AS_MADE "its image was changed");
  } else if (!heap_map_at((void *)HEAP_START, header.image_bytes, fd, (off_t)header.engine_bytes)) {
    engine = open_bytecode(fd, &header, why, room);
  } else {
    heap = (Heap *)(HEAP_BASE + HEADER_ROOM);
    engine = &((Header *)HEAP_BASE)->engine;
  }
  close(fd);
  return engine;
}

int image_verify(void) {
  Header header;
  int fd = open(OWN_FILE, O_RDONLY | O_CLOEXEC);
  const char *fault = fd < 0 ? "it cannot be opened" : header_fault(fd, &header);
  if (fault == NULL) {
    size_t bytes = identity.bytes;
    uint8_t hash[32], *file = malloc(bytes);
    size_t at = 0;
    if (file == NULL || !read_at(fd, file, bytes, 0)) {
      fault = "it cannot be read";
    } else {
      Identity own;
      memcpy(&own, (const void *)&identity, sizeof own);
      while (at + sizeof own <= bytes && memcmp(file + at, &own, sizeof own) != 0) at += 8;
      if (at + sizeof own <= bytes) memset(file + at + offsetof(Identity, hash), 0, sizeof own - offsetof(Identity, hash));
      sha256(file, bytes, hash);
      if (memcmp(hash, own.hash, sizeof hash) != 0) fault = "its engine was changed";
      else if (rest_fault(fd, &header) != NULL) fault = errno == 0 ? "its image was changed" : "its image cannot be mapped";
    }
    free(file);
  }
  if (fd >= 0) close(fd);
  if (fault == NULL) return 0;
  fprintf(stderr, "wayout: " NOT_AS_MADE "%s\n", fault);
  return 1;
}

/* Compiles a module in an engine of its own, so that nothing of the compiler's stays in the image. */
static uint8_t *compile(const char *path, size_t *length) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END)) return NULL;
  size_t size = (size_t)ftell(file);
  rewind(file);
  char *source = calloc(1, size + 1);
  if (source == NULL || fread(source, 1, size, file) != size) return NULL;
  fclose(file);
  JSRuntime *rt = JS_NewRuntime();
  JSContext *ctx = JS_NewContext(rt);
  JSValue module = JS_Eval(ctx, source, size, "wayout-cni.js", JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
  free(source);
  uint8_t *copy = NULL;
  if (JS_IsException(module)) {
    JSValue error = JS_GetException(ctx);
    const char *text = JS_ToCString(ctx, error);
    fprintf(stderr, "%s\n", text);
    JS_FreeCString(ctx, text);
    JS_FreeValue(ctx, error);
  } else {
    uint8_t *bytecode = JS_WriteObject(ctx, length, module, JS_WRITE_OBJ_BYTECODE | JS_WRITE_OBJ_STRIP_SOURCE);
    copy = bytecode == NULL ? NULL : malloc(*length);
    if (copy != NULL) memcpy(copy, bytecode, *length);
    js_free(ctx, bytecode);
  }
  JS_FreeValue(ctx, module);
  JS_FreeContext(ctx);
  JS_FreeRuntime(rt);
  return copy;
}

int image_make(const char *source, const char *output) {
  size_t length;
  uint8_t *bytecode = compile(source, &length);
  if (bytecode == NULL || !heap_create(false, HEAP_STEP, HEADER_ROOM)) {
    perror("making the image");
    return 1;
  }
  Header *header = (Header *)HEAP_BASE;
  if (!engine_start(&header->engine, bytecode, length)) return 1;
  JS_RunGC(header->engine.rt);
  if (!engine_settle(header->engine.ctx)) return 1;
  engine_forget_stack(header->engine.rt);
  heap_forget_free();
  size_t image_bytes = ((size_t)(heap->bump - (char *)HEAP_BASE) + HEAP_ALIGNMENT - 1) & ~(HEAP_ALIGNMENT - 1);
  /* Until there is room behind it nothing is mapped there: the first allocation beyond it grows the heap. */
  heap->end = (char *)HEAP_BASE + image_bytes;
  memcpy(header->mark, MARK, sizeof MARK);
  header->format = FORMAT;
  header->header_bytes = sizeof *header;
  memcpy(header->engine_hash, (const void *)identity.hash, sizeof header->engine_hash);
  header->base = HEAP_BASE;
  header->engine_bytes = identity.bytes;
  header->image_bytes = image_bytes;
  header->bytecode_bytes = length;
  uint8_t *whole = malloc(image_bytes + length);
  FILE *file = fopen(output, "w+b");
  if (whole == NULL || file == NULL) {
    perror(output);
    return 1;
  }
  memcpy(whole, header, image_bytes);
  memcpy(whole + image_bytes, bytecode, length);
  Header *written = (Header *)whole;
  sha256(whole + sizeof *written, image_bytes + length - sizeof *written, written->hash);
  bool is_written = fwrite(whole, 1, image_bytes + length, file) == image_bytes + length && fflush(file) == 0 &&
                    sparse_sum(fileno(file), 0, image_bytes, &written->sparse);
  written->check = header_check(written);
  rewind(file);
  is_written = is_written && fwrite(written, sizeof *written, 1, file) == 1 && fclose(file) == 0;
  if (!is_written) perror(output);
  free(whole);
  free(bytecode);
  return is_written ? 0 : 1;
}
