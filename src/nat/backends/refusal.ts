/** What the kernel refuses a backend, as an error that a person can act on. One table of error numbers for all of them. */
import { WayoutError } from "../../error.ts";
import { readText } from "../../kernel/file.ts";
import { SystemError } from "../../linux/errno.ts";

/** A backend's own words for it. */
export interface RefusalWords {
  /** The code of what the machine lacks. */
  readonly lack: string;
  /** What the kernel says there, beside EINVAL and EOPNOTSUPP. */
  readonly lackSaid: readonly string[];
  /** @param release of the kernel, as uname(2) has it */
  lackTodo(release: string): string;
  readonly privilegeTodo: string;
  /** Absent: what `WayoutError` itself says of limits. */
  readonly memoryTodo?: string;
}

/**
 * Runs what speaks with the kernel.
 * @throws WayoutError `no-privilege`, the code of what the machine lacks, `nat-refused`
 */
export function orRefused<T>(words: RefusalWords, doing: string, inside: () => T): T {
  try {
    return inside();
  } catch (error) {
    throw error instanceof SystemError ? refusal(words, doing, error) : error;
  }
}

function refusal(words: RefusalWords, doing: string, cause: SystemError): WayoutError {
  const { code: errno } = cause;
  if (errno === "EPERM" || errno === "EACCES") {
    const todo = words.privilegeTodo;
    return new WayoutError({
      code: "no-privilege",
      kind: "machine",
      doing,
      said: cause.message,
      todo,
      cause,
    });
  }
  if (errno === "EINVAL" || errno === "EOPNOTSUPP" || words.lackSaid.includes(errno)) {
    return lack(words, doing, cause);
  }
  const todo = errno === "ENOMEM" ? words.memoryTodo : undefined;
  return new WayoutError({
    code: "nat-refused",
    kind: "broken",
    doing,
    said: cause.message,
    ...(todo === undefined ? {} : { todo }),
    cause,
  });
}

/** The machine lacks what the backend needs. */
export function lack(words: RefusalWords, doing: string, cause: Error): WayoutError {
  const todo = words.lackTodo(readText("/proc/sys/kernel/osrelease").trim());
  return new WayoutError({ code: words.lack, kind: "machine", doing, said: cause.message, todo, cause });
}
