/* The C library's calls, by their own names. What comes from JavaScript is checked against the kinds each call takes. */
#include "shim.h"
#include "heap.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_ARGUMENTS 7

typedef long Call(const long *a);
#define POINTER(value) ((void *)(value))

static long call_socket(const long *a) { return socket((int)a[0], (int)a[1], (int)a[2]); }
static long call_bind(const long *a) { return bind((int)a[0], POINTER(a[1]), (socklen_t)a[2]); }
static long call_setsockopt(const long *a) { return setsockopt((int)a[0], (int)a[1], (int)a[2], POINTER(a[3]), (socklen_t)a[4]); }
static long call_getsockopt(const long *a) { return getsockopt((int)a[0], (int)a[1], (int)a[2], POINTER(a[3]), POINTER(a[4])); }
static long call_send(const long *a) { return send((int)a[0], POINTER(a[1]), (size_t)a[2], (int)a[3]); }
static long call_recv(const long *a) { return recv((int)a[0], POINTER(a[1]), (size_t)a[2], (int)a[3]); }
static long call_poll(const long *a) { return poll(POINTER(a[0]), (nfds_t)a[1], (int)a[2]); }
static long call_setns(const long *a) { return setns((int)a[0], (int)a[1]); }
static long call_flock(const long *a) { return flock((int)a[0], (int)a[1]); }
static long call_syscall(const long *a) { return syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]); }
static long call_open(const long *a) { return open(POINTER(a[0]), (int)a[1], (mode_t)a[2]); }
static long call_close(const long *a) { return close((int)a[0]); }
static long call_read(const long *a) { return read((int)a[0], POINTER(a[1]), (size_t)a[2]); }
static long call_write(const long *a) { return write((int)a[0], POINTER(a[1]), (size_t)a[2]); }
static long call_mkdir(const long *a) { return mkdir(POINTER(a[0]), (mode_t)a[1]); }
static long call_unlink(const long *a) { return unlink(POINTER(a[0])); }
static long call_rename(const long *a) { return rename(POINTER(a[0]), POINTER(a[1])); }
static long call_utimensat(const long *a) { return utimensat((int)a[0], POINTER(a[1]), POINTER(a[2]), (int)a[3]); }

/*
 * The kinds of a call's arguments, a letter each:
 *   i  an int, or 32 bits of flags      n  how much of the bytes before it is meant, no more than there is
 *   s  a text that ends with a NUL      c  the same of struct pollfd
 *   b  bytes, or null for none          l  an int in memory that holds no more than there is of the bytes before it
 *   t  two struct timespec              m  milliseconds, -1 for ever; a part of one is waited for whole
 *   a  any number; one that can be an address must be one of ours
 */
static const struct {
  const char *name, *kinds;
  Call *call;
} CALLS[] = {
  { "socket", "iii", call_socket },         { "bind", "ibn", call_bind },
  { "setsockopt", "iiibn", call_setsockopt }, { "getsockopt", "iiibl", call_getsockopt },
  { "send", "ibni", call_send },            { "recv", "ibni", call_recv },
  { "poll", "bcm", call_poll },             { "setns", "ii", call_setns },
  { "flock", "ii", call_flock },            { "syscall", "aaaaaaa", call_syscall },
  { "open", "sii", call_open },             { "close", "i", call_close },
  { "read", "ibn", call_read },             { "write", "ibn", call_write },
  { "mkdir", "si", call_mkdir },            { "unlink", "s", call_unlink },
  { "rename", "ss", call_rename },          { "utimensat", "isti", call_utimensat },
};

/* Of the last call that was refused. */
static int last_errno;

/* A whole number. -1 with a pending exception where it is none. */
static int number_of(JSContext *ctx, JSValueConst value, int64_t *number) {
  if (JS_IsNumber(value)) {
    double exact;
    if (JS_ToFloat64(ctx, &exact, value)) return -1;
    if (exact >= -9007199254740992.0 && exact <= 9007199254740992.0 && exact == (double)(int64_t)exact) {
      *number = (int64_t)exact;
      return 0;
    }
  }
  JS_ThrowTypeError(ctx, "a whole number is needed");
  return -1;
}

static int milliseconds_of(JSContext *ctx, JSValueConst value, long *result) {
  double exact;
  if (!JS_IsNumber(value) || JS_ToFloat64(ctx, &exact, value) || !(exact >= -1)) {
    JS_ThrowTypeError(ctx, "milliseconds are needed");
    return -1;
  }
  *result = exact > INT32_MAX - 1 ? INT32_MAX : (long)exact + (exact > (double)(long)exact);
  return 0;
}

/* Reads one argument as its kind says. `room` is how many bytes the last buffer has. */
static int argument(JSContext *ctx, char kind, JSValueConst value, long *result, size_t *room) {
  if (kind == 'm') return milliseconds_of(ctx, value, result);
  if (strchr("inca", kind) != NULL) {
    int64_t number;
    if (number_of(ctx, value, &number)) return -1;
    bool fits = true;
    if (kind == 'i') fits = number >= INT32_MIN && number <= UINT32_MAX;
    if (kind == 'n') fits = number >= 0 && (uint64_t)number <= *room;
    if (kind == 'c') fits = number >= 0 && (uint64_t)number <= *room / sizeof(struct pollfd);
    if (kind == 'a') fits = number >= INT32_MIN && (number <= UINT32_MAX || heap_holds((void *)number, 1));
    *result = kind == 'i' ? (int32_t)(uint32_t)number : (long)number;
    if (!fits) JS_ThrowRangeError(ctx, "%lld is out of range", (long long)number);
    return fits ? 0 : -1;
  }
  if (kind == 'b' && JS_IsNull(value)) {
    *room = 0;
    *result = 0;
    return 0;
  }
  size_t length;
  uint8_t *bytes = bytes_of(ctx, value, &length);
  if (bytes == NULL) return -1;
  bool fits = true;
  if (kind == 's') fits = memchr(bytes, 0, length) != NULL;
  if (kind == 't') fits = length >= 2 * sizeof(struct timespec);
  if (kind == 'l') {
    int32_t most = -1;
    if (length >= sizeof most) memcpy(&most, bytes, sizeof most);
    fits = most >= 0 && (size_t)most <= *room;
  }
  if (kind == 'b') *room = length;
  *result = (long)bytes;
  if (!fits) JS_ThrowRangeError(ctx, "%zu bytes do not hold what is needed", length);
  return fits ? 0 : -1;
}

static JSValue make_call(JSContext *ctx, JSValueConst self, int count, JSValueConst *arguments, int row) {
  (void)self;
  long values[MOST_ARGUMENTS] = { 0 };
  const char *kinds = CALLS[row].kinds;
  size_t room = 0;
  int needed = (int)strlen(kinds);
  if (count != needed) return JS_ThrowTypeError(ctx, "%s takes %d arguments", CALLS[row].name, needed);
  for (int at = 0; at < needed; at++) {
    if (argument(ctx, kinds[at], arguments[at], values + at, &room)) return JS_EXCEPTION;
  }
  long result = CALLS[row].call(values);
  if (result < 0) last_errno = errno;
  return JS_NewInt64(ctx, result);
}

/* errno(): number */
static JSValue js_errno(JSContext *ctx, JSValueConst self, int count, JSValueConst *arguments) {
  (void)self, (void)count, (void)arguments;
  return JS_NewInt32(ctx, last_errno);
}

/* addressOf(bytes): number */
static JSValue address_of(JSContext *ctx, JSValueConst self, int count, JSValueConst *arguments) {
  (void)self, (void)count;
  size_t length;
  uint8_t *bytes = bytes_of(ctx, arguments[0], &length);
  if (bytes == NULL) return JS_EXCEPTION;
  if (length == 0) return JS_ThrowTypeError(ctx, "an empty buffer has no address");
  return JS_NewInt64(ctx, (int64_t)(uintptr_t)bytes);
}

void natives_define(JSContext *ctx, JSValueConst object, const Native *natives, size_t count) {
  for (size_t at = 0; at < count; at++) {
    const Native *row = natives + at;
    JS_SetPropertyStr(ctx, object, row->name, JS_NewCFunction(ctx, row->function, row->name, row->arguments));
  }
}

void calls_define(JSContext *ctx, JSValueConst object) {
  JSValue libc = JS_NewObject(ctx);
  for (int row = 0; row < (int)(sizeof CALLS / sizeof *CALLS); row++) {
    const char *name = CALLS[row].name;
    int needed = (int)strlen(CALLS[row].kinds);
    JS_SetPropertyStr(ctx, libc, name, JS_NewCFunctionMagic(ctx, make_call, name, needed, JS_CFUNC_generic_magic, row));
  }
  JS_SetPropertyStr(ctx, object, "libc", libc);
  static const Native natives[] = { { "errno", js_errno, 0 }, { "addressOf", address_of, 1 } };
  natives_define(ctx, object, natives, sizeof natives / sizeof *natives);
}
