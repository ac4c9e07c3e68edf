/* Texts: UTF-8 in and out, by the rules of the Encoding standard (https://encoding.spec.whatwg.org). */
#include "shim.h"
#include <string.h>

static const uint8_t REPLACEMENT[3] = { 0xef, 0xbf, 0xbd };

uint8_t *bytes_of(JSContext *ctx, JSValueConst view, size_t *length) {
  size_t offset, unit, size;
  JSValue buffer = JS_GetTypedArrayBuffer(ctx, view, &offset, length, &unit);
  if (JS_IsException(buffer)) return NULL;
  uint8_t *start = JS_GetArrayBuffer(ctx, &size, buffer);
  JS_FreeValue(ctx, buffer);
  if (start == NULL || offset > size || *length > size - offset) {
    /* An empty buffer has no address; anything but NULL will do. */
    static uint8_t none[1];
    if (*length == 0 && !JS_HasException(ctx)) return none;
    if (!JS_HasException(ctx)) JS_ThrowTypeError(ctx, "the bytes are not there any more");
    return NULL;
  }
  return start + offset;
}

/* Given back to the heap when the array goes. */
static void *bytes_realloc(JSRuntime *rt, void *opaque, void *bytes, size_t size) {
  (void)opaque;
  if (size == 0) {
    js_free_rt(rt, bytes);
    return NULL;
  }
  return js_realloc_rt(rt, bytes, size);
}

JSValue bytes_new(JSContext *ctx, size_t length, uint8_t **bytes) {
  *bytes = js_malloc(ctx, length == 0 ? 1 : length);
  if (*bytes == NULL) return JS_EXCEPTION;
  return JS_NewUint8Array(ctx, *bytes, length, bytes_realloc, NULL, false);
}

/*
 * How many bytes the character at `s` takes; 0 when it is none, and then `bad` is how many bytes one U+FFFD stands for:
 * as many as could have begun a character, at least one.
 */
static size_t character(const uint8_t *s, size_t left, size_t *bad) {
  uint8_t first = s[0], low = 0x80, high = 0xbf;
  size_t need;
  *bad = 1;
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) need = 1;
  else if (first >= 0xe0 && first <= 0xef) need = 2;
  else if (first >= 0xf0 && first <= 0xf4) need = 3;
  else return 0;
  if (first == 0xe0) low = 0xa0; /* no longer than needed */
  if (first == 0xed) high = 0x9f; /* no surrogates */
  if (first == 0xf0) low = 0x90;
  if (first == 0xf4) high = 0x8f; /* nothing beyond U+10FFFF */
  for (size_t at = 1; at <= need; at++) {
    if (at >= left || s[at] < low || s[at] > high) return 0;
    low = 0x80;
    high = 0xbf;
    *bad = at + 1;
  }
  return need + 1;
}

/* Where the first byte stands that is not UTF-8; `length` when there is none. */
static size_t valid_length(const uint8_t *bytes, size_t length) {
  size_t at = 0, bad;
  while (at < length) {
    if (bytes[at] < 0x80) {
      at++;
      continue;
    }
    size_t size = character(bytes + at, length - at, &bad);
    if (size == 0) break;
    at += size;
  }
  return at;
}

JSValue text_from_utf8(JSContext *ctx, const uint8_t *bytes, size_t length) {
  size_t at = valid_length(bytes, length);
  if (at == length) return JS_NewStringLen(ctx, (const char *)bytes, length);
  if (length > SIZE_MAX / 3) return JS_ThrowOutOfMemory(ctx);
  uint8_t *mended = js_malloc(ctx, length * 3);
  if (mended == NULL) return JS_EXCEPTION;
  memcpy(mended, bytes, at);
  size_t written = at;
  while (at < length) {
    size_t bad, size = character(bytes + at, length - at, &bad);
    if (size == 0) {
      memcpy(mended + written, REPLACEMENT, sizeof REPLACEMENT);
      written += sizeof REPLACEMENT;
      at += bad;
    } else {
      memcpy(mended + written, bytes + at, size);
      written += size;
      at += size;
    }
  }
  JSValue text = JS_NewStringLen(ctx, (const char *)mended, written);
  js_free(ctx, mended);
  return text;
}

const char *text_to_utf8(JSContext *ctx, JSValueConst value, size_t *length) {
  if (!JS_IsString(value)) {
    JS_ThrowTypeError(ctx, "a text is needed");
    return NULL;
  }
  char *utf8 = (char *)JS_ToCStringLen(ctx, length, value);
  if (utf8 == NULL) return NULL;
  /* The engine writes a surrogate without its other half as three bytes that no decoder takes (0xed 0xa0 to 0xbf, …). */
  for (uint8_t *s = (uint8_t *)utf8, *end = s + *length; (s = memchr(s, 0xed, (size_t)(end - s))) != NULL; s++) {
    if (end - s >= 3 && s[1] >= 0xa0) memcpy(s, REPLACEMENT, sizeof REPLACEMENT);
  }
  return utf8;
}

/* encodeUtf8(text): Uint8Array */
static JSValue encode(JSContext *ctx, JSValueConst self, int count, JSValueConst *arguments) {
  (void)self, (void)count;
  size_t length;
  const char *utf8 = text_to_utf8(ctx, arguments[0], &length);
  if (utf8 == NULL) return JS_EXCEPTION;
  JSValue bytes = JS_NewUint8ArrayCopy(ctx, (const uint8_t *)utf8, length);
  JS_FreeCString(ctx, utf8);
  return bytes;
}

/* decodeUtf8(bytes): string; a byte order mark stays */
static JSValue decode(JSContext *ctx, JSValueConst self, int count, JSValueConst *arguments) {
  (void)self, (void)count;
  size_t length;
  const uint8_t *bytes = bytes_of(ctx, arguments[0], &length);
  return bytes == NULL ? JS_EXCEPTION : text_from_utf8(ctx, bytes, length);
}

/* uninitialised(length): Uint8Array whose bytes are what was there before: no page of it is touched */
static JSValue uninitialised(JSContext *ctx, JSValueConst self, int count, JSValueConst *arguments) {
  (void)self, (void)count;
  int64_t length;
  if (JS_ToInt64(ctx, &length, arguments[0])) return JS_EXCEPTION;
  if (length < 0 || length > INT32_MAX) return JS_ThrowRangeError(ctx, "no buffer of %lld bytes", (long long)length);
  uint8_t *bytes;
  return bytes_new(ctx, (size_t)length, &bytes);
}

void text_define(JSContext *ctx, JSValueConst object) {
  static const Native natives[] = {
    { "encodeUtf8", encode, 1 },
    { "decodeUtf8", decode, 1 },
    { "uninitialised", uninitialised, 1 },
  };
  natives_define(ctx, object, natives, sizeof natives / sizeof *natives);
}
