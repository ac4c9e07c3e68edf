/*
 * What the engine lends to JavaScript: one object with the calls of the C library, texts, hashes and programs. The
 * TypeScript before it (src/platform/engine.ts) has its shape; every argument's kind and range is checked on this side.
 */
#ifndef WAYOUT_SHIM_H
#define WAYOUT_SHIM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "quickjs.h"

/* A row of a table of functions. */
typedef struct {
  const char *name;
  JSCFunction *function;
  int arguments;
} Native;

void natives_define(JSContext *ctx, JSValueConst object, const Native *natives, size_t count);

/* calls.c, text.c, digest.c, process.c: each adds its functions to the object. */
void calls_define(JSContext *ctx, JSValueConst object);
void text_define(JSContext *ctx, JSValueConst object);
void digest_define(JSContext *ctx, JSValueConst object);
void process_define(JSContext *ctx, JSValueConst object);

void sha256(const uint8_t *bytes, size_t length, uint8_t digest[32]);

/* The bytes of a Uint8Array or another view; NULL with a pending TypeError where it is none. */
uint8_t *bytes_of(JSContext *ctx, JSValueConst view, size_t *length);
/* A new Uint8Array whose bytes are not set; `bytes` is where they lie. */
JSValue bytes_new(JSContext *ctx, size_t length, uint8_t **bytes);
/* UTF-8 of others, of which nothing is known, as a string: what is no UTF-8 is U+FFFD, as the Encoding standard says. */
JSValue text_from_utf8(JSContext *ctx, const uint8_t *bytes, size_t length);
/* A string as UTF-8, lone surrogates as U+FFFD; free with JS_FreeCString. NULL with a pending exception. */
const char *text_to_utf8(JSContext *ctx, JSValueConst value, size_t *length);

/* quickjs-unit.c: what the engine's own interface has no function for. */
JSContext *engine_context(JSRuntime *rt);
/* Does beforehand what every run would do. False when there is no room. */
bool engine_settle(JSContext *ctx);
/* Makes a runtime independent of where it was made: nothing of the stack stays in it. */
void engine_forget_stack(JSRuntime *rt);
/* A run's own randomness, for Math.random. */
void engine_seed_random(JSContext *ctx, uint64_t seed);
#endif
