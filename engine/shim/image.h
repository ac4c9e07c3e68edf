/* The program's file: the engine, the image of its memory with the plugin loaded, the plugin as bytecode. */
#ifndef WAYOUT_IMAGE_H
#define WAYOUT_IMAGE_H
#include "heap.h"
#include "shim.h"

/* What a started engine is. */
typedef struct {
  JSRuntime *rt;
  JSContext *ctx;
  JSValue main; /* the function that answers a call; resolves to the exit code */
} Engine;

/* Evaluates a module that was compiled; it hands over its main function by __wayout.main. False: an exception is told. */
bool engine_start(Engine *engine, const uint8_t *bytecode, size_t length);
/* The engine of the file that this process is, from its image or, where that cannot be mapped, its bytecode.
   NULL, with `why` filled in, where the file is not what it should be. */
Engine *image_open(char *why, size_t room);
/* Looks at every byte of the file. 0 when all is as it was made. */
int image_verify(void);
/* Writes what follows the engine in the file: compiles `source`, evaluates it, writes image and bytecode to `output`. */
int image_make(const char *source, const char *output);
#endif
