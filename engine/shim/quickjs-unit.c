/*
 * The engine as one unit with the few functions that need to see inside it. Nothing in it is changed: it is compiled as
 * it was released (scripts/engine/source.ts).
 */
#include "quickjs.c"
#include "shim.h"

/*
 * All of the language but eval, for there is no source to compile in a run, and no clock that began at the build. The seeds are constants, for an image must be the
 * same whoever makes it; engine_seed_random gives each run its own.
 */
JSContext *engine_context(JSRuntime *rt) {
  JSContext *ctx = JS_NewContextRaw(rt);
  if (ctx == NULL) return NULL;
  ctx->random_state = 1;
  ctx->hash_seed = 0x9e3779b9;
  if (JS_AddIntrinsicBaseObjects(ctx) || JS_AddIntrinsicDate(ctx) || JS_AddIntrinsicRegExp(ctx) ||
      JS_AddIntrinsicJSON(ctx) || JS_AddIntrinsicProxy(ctx) || JS_AddIntrinsicMapSet(ctx) ||
      JS_AddIntrinsicTypedArrays(ctx) || JS_AddIntrinsicPromise(ctx) || JS_AddIntrinsicWeakRef(ctx)) {
    JS_FreeContext(ctx);
    return NULL;
  }
  return ctx;
}

void engine_forget_stack(JSRuntime *rt) {
  rt->stack_top = 0;
  rt->stack_limit = 0;
}

void engine_seed_random(JSContext *ctx, uint64_t seed) { ctx->random_state = seed == 0 ? 1 : seed; }
