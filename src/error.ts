/**
 * What a failure means for the person or program that called us. The process's exit code follows from it
 * (see exitCodeOf): a thing that is `broken` exits 1, wrong `usage` 2, a `machine` (or user) that cannot 3.
 */
export type ErrorKind = "broken" | "usage" | "machine";

/** The parts of an error message. The text is composed in one place, from these. */
export interface ErrorParts {
  /** Stable, for programs: kebab-case, e.g. `subnet-overlaps-route`. */
  readonly code: string;
  readonly kind: ErrorKind;
  /** What we were doing: "creating bridge wayout0". */
  readonly doing: string;
  /** What went wrong, preferably in the kernel's own words. */
  readonly said: string;
  /** What to do next, as a sentence or a command; absent when there is nothing sensible to say. */
  readonly todo?: string;
  /** Where it is a limit of this machine's, that is what to raise, unless `todo` knows better. */
  readonly cause?: unknown;
  /** Evidence for programs, printed under `--json`. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** An error a person can act on. Programs test `code`, people read `message`. */
export class WayoutError extends Error {
  override readonly name = "WayoutError";
  readonly code: string;
  readonly kind: ErrorKind;
  readonly doing: string;
  readonly said: string;
  readonly todo: string | undefined;
  readonly details: Readonly<Record<string, unknown>> | undefined;

  constructor(parts: ErrorParts) {
    const said = pathOnce(parts.doing, parts.said);
    super(`${parts.doing}: ${said}`, parts.cause === undefined ? undefined : { cause: parts.cause });
    const limit = limitTodo(isOutOfMemory(parts.cause) ? "ENOMEM" : codeOf(parts.cause));
    this.code = parts.code;
    // Whatever was asked about, that a limit refused it says nothing of it.
    this.kind = limit !== undefined && parts.kind === "broken" ? "machine" : parts.kind;
    this.doing = parts.doing;
    this.said = said;
    this.todo = parts.todo ?? limit;
    this.details = parts.details;
  }
}

/** Node (`ENOENT: …, open '/a'`) and our own calls (`open /a: …`) repeat a path that `doing` has named already. */
function pathOnce(doing: string, said: string): string {
  const [, before, named] = /^(.*), \w+ '([^']+)'$/.exec(said) ?? [];
  if (named !== undefined && doing.includes(named)) return before!;
  const [, call, path, reason] = /^(\w+) (\/[^\s:]*)(: .*)$/s.exec(said) ?? [];
  return path !== undefined && doing.includes(path) ? `${call}${reason}` : said;
}

/** 0 done or healthy, 1 the thing asked about is broken, 2 wrong usage, 3 this machine or user cannot. */
export function exitCodeOf(error: unknown): 1 | 2 | 3 {
  if (!(error instanceof WayoutError)) return 1;
  switch (error.kind) {
    case "broken":
      return 1;
    case "usage":
      return 2;
    case "machine":
      return 3;
  }
}

/** The message of anything that was thrown, for composing `said`. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Whether it is a mistake of the program's own, and nothing that the machine or its input could be to blame for. */
export function isMistake(error: unknown): boolean {
  if (error instanceof TypeError || error instanceof ReferenceError || error instanceof RangeError)
    return true;
  // What the small engine has besides: no memory left for its own objects.
  return error instanceof Error && error.name === "InternalError";
}

/** The small engine's word for a limit of memory (ulimit -v, LimitAS=), wherever in the program it was met. */
export function isOutOfMemory(error: unknown): boolean {
  return error instanceof Error && error.name === "InternalError" && error.message === "out of memory";
}

/**
 * For a caller that goes on without what could not be had: throws a mistake again, which must not pass for a file that is
 * missing or a text that is malformed.
 */
export function rethrowMistake(error: unknown): void {
  if (isMistake(error)) throw error;
}

const LIMITS: Readonly<Record<string, string>> = {
  EMFILE: "Raise this process's limit of open files (ulimit -n, LimitNOFILE=).",
  ENFILE: "The machine's limit of open files is reached: close some, or raise fs.file-max.",
  ENOMEM:
    "The kernel had no memory left, or this process's limit (MemoryMax=, LimitAS=, ulimit -v) is reached: give it more.",
  ENOSPC: "Make room on that file system.",
  EDQUOT: "Make room on that file system: a quota is used up.",
  EROFS: "Mount that file system writable.",
};

/**
 * The cure where this machine's limits refused, and not what was asked about; undefined for every other error number.
 * @param code the name of an error number, as the kernel's refusals and Node's errors have it
 */
export function limitTodo(code: string | undefined): string | undefined {
  return code !== undefined && Object.hasOwn(LIMITS, code) ? LIMITS[code] : undefined;
}

/** `ENOENT` and its like, of the kernel's refusals and Node's errors alike; undefined for what has none. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? String(error.code) : undefined;
}

/** Whether an error says that nothing is at that path: no such file, no directory on the way, no such process any more. */
export function isAbsence(error: unknown): boolean {
  const code = codeOf(error);
  return code === "ENOENT" || code === "ENOTDIR" || code === "ESRCH";
}

/** Whether an error only says that this user may not look. */
export function isRefusal(error: unknown): boolean {
  const code = codeOf(error);
  return code === "EPERM" || code === "EACCES" || code === "no-privilege";
}
