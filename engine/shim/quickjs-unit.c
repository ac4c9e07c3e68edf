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

/*
 * What a run would do first: functions of the language are made when they are first asked for, and blocks are taken from
 * wherever one is free, each time from another page that is then copied. So all functions are made now, and a free arena
 * of each size lies at the end, beside the others.
 */
bool engine_settle(JSContext *ctx) {
  JSRuntime *rt = ctx->rt;
  struct list_head *each;
  /* Objects that are made meanwhile come to its end, and so are settled as well. */
  list_for_each(each, &rt->gc_obj_list) {
    JSGCObjectHeader *header = list_entry(each, JSGCObjectHeader, link);
    if (JS_GC_TYPE(header) != JS_GC_OBJ_TYPE_JS_OBJECT) continue;
    JSObject *object = (JSObject *)header;
    for (int at = 0; at < object->shape->prop_count; at++) {
      JSShapeProperty *described = get_shape_prop(object->shape) + at;
      if (described->atom == JS_ATOM_NULL || (described->flags & JS_PROP_TMASK) != JS_PROP_AUTOINIT) continue;
      if (JS_AutoInitProperty(ctx, object, described->atom, object->prop + at, described)) return false;
    }
  }
  for (int size = 0; size < JS_ARENA_BLOCK_SIZE_COUNT; size++) {
    if (arena_new(rt, size) == NULL) return false;
  }
  return true;
}

void engine_forget_stack(JSRuntime *rt) {
  rt->stack_top = 0;
  rt->stack_limit = 0;
}

void engine_seed_random(JSContext *ctx, uint64_t seed) { ctx->random_state = seed == 0 ? 1 : seed; }
