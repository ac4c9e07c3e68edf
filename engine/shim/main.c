/*
 * wayout's plugin as a program of its own: QuickJS-ng with the plugin already loaded. A run maps the image of memory that
 * was made when the file was built, and calls its main function.
 */
#include "image.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

/* What a runtime reads when nothing else could be said: the plugin has not begun. Texts here need no escaping. */
static int fail(const char *what) {
  const char *todo = strstr(what, "no room for its memory") == NULL ? "Install the plugin again (wayout cni install)."
                                                                    : "Raise the limit of address space (ulimit -v, LimitAS=) to 64 MiB or more.";
  if (getenv("CNI_COMMAND") == NULL) {
    fprintf(stderr, "error: starting wayout's plugin: %s\n  -> %s\n", what, todo);
    return 3;
  }
  printf("{\n  \"cniVersion\": \"1.1.0\",\n  \"code\": 100,\n  \"msg\": \"starting wayout: %s\",\n  \"details\": \"%s\"\n}\n", what, todo);
  return fflush(stdout) == 0 ? 1 : 1;
}

/* With the names of our files in it, where the build handed in who knows them. */
static JSValue placed(JSContext *ctx, JSValue stack) {
  JSValue global = JS_GetGlobalObject(ctx), object = JS_GetPropertyStr(ctx, global, "__wayout");
  JSValue placing = JS_GetPropertyStr(ctx, object, "placed");
  JSValue better = JS_IsFunction(ctx, placing) ? JS_Call(ctx, placing, JS_UNDEFINED, 1, &stack) : JS_UNDEFINED;
  JS_FreeValue(ctx, placing);
  JS_FreeValue(ctx, object);
  JS_FreeValue(ctx, global);
  if (JS_IsException(better)) JS_FreeValue(ctx, JS_GetException(ctx));
  if (!JS_IsString(better)) return stack;
  JS_FreeValue(ctx, stack);
  return better;
}

/* A call that could not be brought to its end. */
static int fail_amid(const char *what) {
  return fail(heap_is_exhausted ? "there is no room for its memory, met amid the call" : what);
}

/* An error that no TypeScript of ours has told, on standard error with its stack. */
static void tell(JSContext *ctx, JSValue error) {
  const char *text = JS_ToCString(ctx, error);
  JSValue stack = JS_IsError(error) ? placed(ctx, JS_GetPropertyStr(ctx, error, "stack")) : JS_UNDEFINED;
  const char *where = JS_IsString(stack) ? JS_ToCString(ctx, stack) : NULL;
  fprintf(stderr, "wayout: %s\n%s", text == NULL ? "?" : text, where == NULL ? "" : where);
  JS_FreeCString(ctx, text);
  JS_FreeCString(ctx, where);
  JS_FreeValue(ctx, stack);
  JS_FreeValue(ctx, error);
}

/* Everything that waits, until nothing does. */
static bool settle(JSRuntime *rt) {
  JSContext *ctx;
  int state;
  while ((state = JS_ExecutePendingJob(rt, &ctx)) > 0) continue;
  if (state < 0) tell(ctx, JS_GetException(ctx));
  return state == 0;
}

bool engine_start(Engine *engine, const uint8_t *bytecode, size_t length) {
  static const JSMallocFunctions memory = { heap_calloc, heap_alloc, heap_free, heap_realloc, heap_usable };
  JSRuntime *rt = JS_NewRuntime2(&memory, NULL);
  JSContext *ctx = rt == NULL ? NULL : engine_context(rt);
  if (ctx == NULL) return false;
  /* A call is over before garbage that refers to itself matters; one that works for long has it collected. */
  JS_SetGCThreshold(rt, 32u << 20);
  JSValue global = JS_GetGlobalObject(ctx), object = JS_NewObject(ctx);
  calls_define(ctx, object);
  text_define(ctx, object);
  digest_define(ctx, object);
  process_define(ctx, object);
  JS_SetPropertyStr(ctx, global, "__wayout", JS_DupValue(ctx, object));
  JSValue module = JS_ReadObject(ctx, bytecode, length, JS_READ_OBJ_BYTECODE);
  if (JS_IsException(module) || JS_ResolveModule(ctx, module) < 0) {
    tell(ctx, JS_GetException(ctx));
    return false;
  }
  JSValue evaluated = JS_EvalFunction(ctx, module);
  bool is_well = settle(rt) && !JS_IsException(evaluated);
  if (is_well && JS_PromiseState(ctx, evaluated) == JS_PROMISE_REJECTED) {
    tell(ctx, JS_PromiseResult(ctx, evaluated));
    is_well = false;
  }
  *engine = (Engine){ rt, ctx, JS_GetPropertyStr(ctx, object, "main") };
  JS_FreeValue(ctx, evaluated);
  JS_FreeValue(ctx, object);
  JS_FreeValue(ctx, global);
  return is_well && JS_IsFunction(ctx, engine->main);
}

/* As much as the engine takes by itself, where the process's limit has so much. */
static size_t stack_bytes(void) {
  struct rlimit limit;
  size_t most = 1u << 20;
  if (getrlimit(RLIMIT_STACK, &limit) || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur / 2 > most) return most;
  return limit.rlim_cur / 2;
}

static int answer(Engine *engine) {
  JSRuntime *rt = engine->rt;
  JSContext *ctx = engine->ctx;
  uint64_t seed = 0;
  if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) seed = (uint64_t)getpid();
  engine_seed_random(ctx, seed);
  JS_SetMaxStackSize(rt, stack_bytes());
  JS_UpdateStackTop(rt);
  JSValue promise = JS_Call(ctx, engine->main, JS_UNDEFINED, 0, NULL);
  int32_t code;
  if (JS_IsException(promise)) {
    tell(ctx, JS_GetException(ctx));
    return fail_amid("a mistake of ours, told on standard error");
  }
  if (!settle(rt)) return fail_amid("a mistake of ours, told on standard error");
  if (JS_PromiseState(ctx, promise) == JS_PROMISE_FULFILLED && JS_ToInt32(ctx, &code, JS_PromiseResult(ctx, promise)) == 0) return code;
  if (JS_PromiseState(ctx, promise) == JS_PROMISE_REJECTED) tell(ctx, JS_PromiseResult(ctx, promise));
  return fail_amid("a mistake of ours: the call has no end");
}

/* Where standard input, output or error is closed, a file of ours must not get its number (src/platform/platform.ts). */
static void fill_standard_descriptors(void) {
  for (int fd = 0; fd <= 2; fd++) {
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR | O_CLOEXEC) < 0) return;
  }
}

int main(int count, char **arguments) {
  char why[200];
  if (count == 4 && strcmp(arguments[1], "--make-image") == 0) return image_make(arguments[2], arguments[3]);
  if (count == 2 && strcmp(arguments[1], "--verify") == 0) return image_verify();
  /* Who does not want our answer any more is told so by write(2), not by our end half-way. */
  signal(SIGPIPE, SIG_IGN);
  fill_standard_descriptors();
  Engine *engine = image_open(why, sizeof why);
  if (engine == NULL) return fail(why);
  /* Nothing is taken apart: the kernel does that at once. */
  _exit(answer(engine));
}
