/*
 * The engine as one unit with the few functions that need to see inside it. Nothing in it is changed: it is compiled as
 * it was released (scripts/engine/source.ts).
 *
 * Its arenas, a page for each size of small blocks, would have a call write to a page for each size it needs. heap.c lays
 * blocks beside each other instead, so the engine is told what it is told under AddressSanitizer: to ask for each block.
 */
#ifndef __SANITIZE_ADDRESS__
#define __SANITIZE_ADDRESS__ 1
#include "quickjs.c"
#undef __SANITIZE_ADDRESS__
#else
#include "quickjs.c"
#endif
#include "shim.h"
_Static_assert(JS_ARENA_LARGE_BLOCKS_ONLY, "the engine has another way now to do without arenas");

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

/*
 * What a run would do first: functions of the language are made when they are first asked for, each time on another page
 * that is then copied. So all of them are made now. Not the prototypes of functions that nobody constructs with: each is an
 * object more, and a shape.
 */
bool engine_settle(JSContext *ctx) {
  struct list_head *each;
  /* Objects that are made meanwhile come to its end, and so are settled as well. */
  list_for_each(each, &ctx->rt->gc_obj_list) {
    JSGCObjectHeader *header = list_entry(each, JSGCObjectHeader, link);
    if (JS_GC_TYPE(header) != JS_GC_OBJ_TYPE_JS_OBJECT) continue;
    JSObject *object = (JSObject *)header;
    for (int at = 0; at < object->shape->prop_count; at++) {
      JSShapeProperty *described = get_shape_prop(object->shape) + at;
      if (described->atom == JS_ATOM_NULL || (described->flags & JS_PROP_TMASK) != JS_PROP_AUTOINIT) continue;
      if (js_autoinit_get_id(object->prop + at) == JS_AUTOINIT_ID_PROTOTYPE) continue;
      if (JS_AutoInitProperty(ctx, object, described->atom, object->prop + at, described)) return false;
    }
  }
  return true;
}

void engine_forget_stack(JSRuntime *rt) {
  rt->stack_top = 0;
  rt->stack_limit = 0;
}

void engine_seed_random(JSContext *ctx, uint64_t seed) { ctx->random_state = seed == 0 ? 1 : seed; }
