/* This process, and programs that it runs to their end. */
#include "shim.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* What a program may say; nothing that is asked here says nearly as much. */
#define MOST_SAID (16u << 20)
/* How long a program may take to end after SIGTERM. */
#define GRACE_MS 5000

/* A pipe to or from a program, and what goes through it. */
typedef struct {
  int ours, theirs; /* -1: closed, or none */
  uint8_t *bytes;
  size_t length, room, done;
} Stream;

typedef struct {
  Stream streams[3];
  pid_t pid;
  volatile int failure; /* errno of the child, which shares our memory until it is another program */
  int64_t deadline;
  bool is_ended;
} Running;

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void close_end(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

/* One pipe; our end does not block. */
static bool stream_open(Stream *stream, bool is_input) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC)) return false;
  stream->ours = ends[is_input ? 1 : 0];
  stream->theirs = ends[is_input ? 0 : 1];
  return fcntl(stream->ours, F_SETFL, O_NONBLOCK) == 0;
}

static int nothing_open(void) { return open("/dev/null", O_RDWR | O_CLOEXEC); }

/*
 * Between vfork and execve the child runs on our memory while we wait: it may only make system calls, and change nothing
 * that we need. The descriptors are first moved out of the way of 0, 1 and 2, which others are to become.
 */
static void become(Running *run, char *const *argv, char *const *env) {
  int ends[3];
  bool is_ready = true;
  for (int fd = 0; fd < 3; fd++) {
    ends[fd] = run->streams[fd].theirs;
    if (ends[fd] < 0 || ends[fd] >= 3) continue;
    ends[fd] = fcntl(ends[fd], F_DUPFD_CLOEXEC, 3);
    is_ready = is_ready && ends[fd] >= 0;
  }
  /* It must not have our standard input, or say its own where ours goes. */
  for (int fd = 0; fd < 3 && is_ready; fd++) {
    if (ends[fd] >= 0) is_ready = dup2(ends[fd], fd) >= 0;
  }
  if (is_ready) {
    struct sigaction usual = { .sa_handler = SIG_DFL };
    sigaction(SIGPIPE, &usual, NULL);
    execve(argv[0], argv, env);
  }
  run->failure = errno;
  _exit(127);
}

/* Moves what can be moved. False when the program says more than anything should, or than there is room for. */
static bool move(JSContext *ctx, Stream *stream, bool is_input) {
  if (is_input) {
    ssize_t count = write(stream->ours, stream->bytes + stream->done, stream->length - stream->done);
    if (count > 0) stream->done += (size_t)count;
    /* A program that does not want its input ends it: that is its own affair. */
    if ((count < 0 && errno != EAGAIN && errno != EINTR) || stream->done == stream->length) close_end(&stream->ours);
    return true;
  }
  if (stream->length == stream->room) {
    size_t room = stream->room == 0 ? 4096 : stream->room * 2;
    uint8_t *more = room > MOST_SAID ? NULL : js_realloc_rt(JS_GetRuntime(ctx), stream->bytes, room);
    if (more == NULL) return false;
    stream->bytes = more;
    stream->room = room;
  }
  ssize_t count = read(stream->ours, stream->bytes + stream->length, stream->room - stream->length);
  if (count > 0) stream->length += (size_t)count;
  else if (count == 0 || (errno != EAGAIN && errno != EINTR)) close_end(&stream->ours);
  return true;
}

/* Past its time a program is asked to end, then made to; what it has said until then is kept. */
static void mind_deadline(Running *run) {
  if (now_ms() < run->deadline) return;
  kill(run->pid, run->is_ended ? SIGKILL : SIGTERM);
  run->deadline = now_ms() + GRACE_MS;
  run->is_ended = true;
}

/* Until the program has ended and nobody can say anything more. Returns its status as waitpid(2) has it, or -errno. */
static int attend(JSContext *ctx, Running *run) {
  int status = 0;
  bool is_gone = false, is_too_much = false;
  for (;;) {
    struct pollfd entries[3];
    int open_ends = 0;
    for (int fd = 0; fd < 3; fd++) {
      entries[fd].fd = run->streams[fd].ours;
      entries[fd].events = fd == 0 ? POLLOUT : POLLIN;
      entries[fd].revents = 0;
      if (entries[fd].fd >= 0) open_ends++;
    }
    if (!is_gone) {
      pid_t ended = waitpid(run->pid, &status, WNOHANG);
      is_gone = ended == run->pid || (ended < 0 && errno != EINTR);
    }
    if (is_gone && open_ends == 0) return is_too_much ? -EFBIG : status;
    int64_t left = run->deadline - now_ms();
    /* Nothing tells of an end that comes after the last word; ends that come soon are looked for soon. */
    int wait_ms = open_ends > 0 ? (left < 0 ? 0 : left > 1000 ? 1000 : (int)left) : 1;
    poll(entries, 3, wait_ms);
    for (int fd = 0; fd < 3; fd++) {
      if (entries[fd].revents == 0 || move(ctx, &run->streams[fd], fd == 0)) continue;
      close_end(&run->streams[fd].ours);
      is_too_much = true;
      run->deadline = 0;
    }
    if (is_gone && now_ms() >= run->deadline) {
      /* It left somebody behind who holds its output: that is not waited for. */
      for (int fd = 0; fd < 3; fd++) close_end(&run->streams[fd].ours);
    } else if (!is_gone) {
      mind_deadline(run);
    }
  }
}

/* An array of texts as a vector of C strings in one block; NULL with a pending exception. */
static char **vector_of(JSContext *ctx, JSValueConst array) {
  int64_t count;
  if (JS_GetLength(ctx, array, &count)) return NULL;
  if (count < 0 || count > 65536) {
    JS_ThrowRangeError(ctx, "too many texts");
    return NULL;
  }
  char **vector = js_mallocz(ctx, ((size_t)count + 1) * sizeof *vector);
  if (vector == NULL) return NULL;
  for (int64_t at = 0; at < count; at++) {
    JSValue value = JS_GetPropertyInt64(ctx, array, at);
    size_t length;
    const char *text = JS_IsException(value) ? NULL : text_to_utf8(ctx, value, &length);
    JS_FreeValue(ctx, value);
    if (text != NULL && memchr(text, 0, length) != NULL) JS_ThrowTypeError(ctx, "a text with a NUL in it");
    else if (text != NULL) vector[at] = js_strdup(ctx, text);
    if (text != NULL) JS_FreeCString(ctx, text);
    if (vector[at] != NULL) continue;
    for (int64_t made = 0; made < at; made++) js_free(ctx, vector[made]);
    js_free(ctx, vector);
    return NULL;
  }
  return vector;
}

static void vector_free(JSContext *ctx, char **vector) {
  if (vector == NULL || vector == environ) return;
  for (char **text = vector; *text != NULL; text++) js_free(ctx, *text);
  js_free(ctx, vector);
}

/* Pipes, or /dev/null, for those of the three that are not ours. False with errno. */
static bool prepare(Running *run, bool has_input, int stderr_kind) {
  for (int fd = 0; fd < 3; fd++) run->streams[fd].ours = run->streams[fd].theirs = -1;
  if (has_input) {
    if (!stream_open(&run->streams[0], true)) return false;
  } else if ((run->streams[0].theirs = nothing_open()) < 0) {
    return false;
  }
  if (!stream_open(&run->streams[1], false)) return false;
  if (stderr_kind == 0) return stream_open(&run->streams[2], false);
  return stderr_kind == 1 || (run->streams[2].theirs = nothing_open()) >= 0;
}

static JSValue outcome(JSContext *ctx, Running *run, int status) {
  JSValue object = JS_NewObject(ctx);
  bool is_told = !JS_IsException(object) && JS_SetPropertyStr(ctx, object, "pid", JS_NewInt32(ctx, run->pid)) >= 0 &&
                 JS_SetPropertyStr(ctx, object, "status", JS_NewInt32(ctx, status)) >= 0;
  for (int fd = 1; fd < 3; fd++) {
    Stream *stream = &run->streams[fd];
    JSValue said = JS_NewUint8ArrayCopy(ctx, stream->bytes, stream->length);
    js_free(ctx, stream->bytes);
    is_told = is_told && !JS_IsException(said) && JS_SetPropertyStr(ctx, object, fd == 1 ? "stdout" : "stderr", said) >= 0;
  }
  if (is_told) return object;
  JS_FreeValue(ctx, object);
  return JS_EXCEPTION;
}

/* runProgram(argv, input | undefined, environment | undefined, stderr 0 captured 1 ours 2 none, timeoutMs): see engine.ts */
static JSValue run_program(JSContext *ctx, JSValueConst self, int count, JSValueConst *arguments) {
  (void)self, (void)count;
  Running run = { 0 };
  int32_t stderr_kind;
  int64_t timeout_ms;
  if (JS_ToInt32(ctx, &stderr_kind, arguments[3]) || JS_ToInt64(ctx, &timeout_ms, arguments[4])) return JS_EXCEPTION;
  if (timeout_ms < 0 || timeout_ms > INT32_MAX) return JS_ThrowRangeError(ctx, "no time limit of %lld ms", (long long)timeout_ms);
  bool has_input = !JS_IsUndefined(arguments[1]);
  if (has_input && (run.streams[0].bytes = bytes_of(ctx, arguments[1], &run.streams[0].length)) == NULL) return JS_EXCEPTION;
  char **argv = vector_of(ctx, arguments[0]);
  char **env = argv == NULL || JS_IsUndefined(arguments[2]) ? environ : vector_of(ctx, arguments[2]);
  JSValue result = JS_EXCEPTION;
  if (argv != NULL && argv[0] == NULL) {
    JS_ThrowTypeError(ctx, "no program");
  } else if (argv != NULL && env != NULL) {
    int status;
    if (!prepare(&run, has_input, stderr_kind)) {
      status = -errno;
    } else {
      /* Whoever started us may have ignored it, which is inherited: the kernel would then keep no program's end for us. */
      signal(SIGCHLD, SIG_DFL);
      run.deadline = now_ms() + timeout_ms;
      run.pid = vfork();
      if (run.pid == 0) become(&run, argv, env);
      status = run.pid < 0 ? -errno : 0;
    }
    for (int fd = 0; fd < 3; fd++) close_end(&run.streams[fd].theirs);
    if (status == 0) status = attend(ctx, &run);
    for (int fd = 0; fd < 3; fd++) close_end(&run.streams[fd].ours);
    result = outcome(ctx, &run, run.failure != 0 ? -run.failure : status);
  }
  vector_free(ctx, argv);
  vector_free(ctx, env);
  return result;
}

/* environmentLines(): string[], `NAME=value` each */
static JSValue environment_lines(JSContext *ctx, JSValueConst self, int count, JSValueConst *arguments) {
  (void)self, (void)count, (void)arguments;
  JSValue lines = JS_NewArray(ctx);
  uint32_t at = 0;
  for (char **line = environ; line != NULL && *line != NULL; line++) {
    JS_SetPropertyUint32(ctx, lines, at++, text_from_utf8(ctx, (const uint8_t *)*line, strlen(*line)));
  }
  return lines;
}

/* pid(): number */
static JSValue pid(JSContext *ctx, JSValueConst self, int count, JSValueConst *arguments) {
  (void)self, (void)count, (void)arguments;
  return JS_NewInt32(ctx, getpid());
}

void process_define(JSContext *ctx, JSValueConst object) {
  static const Native natives[] = { { "environmentLines", environment_lines, 0 }, { "pid", pid, 0 }, { "runProgram", run_program, 5 } };
  natives_define(ctx, object, natives, sizeof natives / sizeof *natives);
#ifdef __aarch64__
  JS_SetPropertyStr(ctx, object, "arch", JS_NewString(ctx, "arm64"));
#else
  JS_SetPropertyStr(ctx, object, "arch", JS_NewString(ctx, "x64"));
#endif
}
