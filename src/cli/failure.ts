import { CommanderError } from "commander";
import { AddressError } from "../address/ip.ts";
import { codeOf, exitCodeOf, limitTodo, messageOf, WayoutError } from "../error.ts";
import { COMMANDS } from "./commands.ts";
import { printJson, tellAside } from "./output.ts";
import { style } from "./style.ts";
import { present } from "../present.ts";

/**
 * Tells a failure to the caller: a person on stderr (what we were doing, what the kernel said, what to do), a
 * program as one JSON value on stdout. Returns the exit code of the contract.
 */
export function reportFailure(error: unknown, json: boolean, args: readonly string[]): number {
  const failure = asWayoutError(error, args);
  if (json) {
    const { code, kind, message, todo, details } = failure;
    printJson({ error: { code, kind, message, todo, details } });
  } else tellAside(failureText, failure.message, failure.todo);
  return exitCodeOf(failure);
}

function failureText(message: string, todo: string | undefined): string {
  const next = todo === undefined ? "" : `  ${style.hint("→")} ${todo}\n`;
  return `${style.bad("✗")} ${message}\n${next}`;
}

/** Anything thrown, as an error a person can act on. */
export function asWayoutError(error: unknown, args: readonly string[]): WayoutError {
  if (error instanceof WayoutError) return error;
  const command = ["wayout", ...args].join(" ");
  if (error instanceof CommanderError) {
    const known = COMMANDS.find(({ name }) => name === args[0])?.name;
    return new WayoutError({
      code: "usage",
      kind: "usage",
      doing: "reading the command line",
      said: error.message.replace(/^error: /, "").replaceAll("\n", " "),
      todo: `'wayout ${known === undefined ? "" : `${known} `}--help' lists what is possible.`,
      cause: error,
    });
  }
  if (error instanceof AddressError) {
    return new WayoutError({
      code: "bad-address",
      kind: "usage",
      doing: command,
      said: error.message,
      cause: error,
    });
  }
  const code = codeOf(error);
  if (code === "EPERM" || code === "EACCES") {
    return new WayoutError({
      code: "no-privilege",
      kind: "machine",
      doing: command,
      said: messageOf(error),
      todo: "This needs CAP_NET_ADMIN (and CAP_SYS_ADMIN for namespaces): run it as root.",
      cause: error,
    });
  }
  const todo = limitTodo(code);
  return new WayoutError(
    present({
      code: code ?? "internal",
      kind: todo === undefined ? "broken" : "machine",
      doing: command,
      said: messageOf(error),
      todo,
      cause: error,
    }),
  );
}
