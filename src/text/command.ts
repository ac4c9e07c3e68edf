/** Command lines for people to paste: the one place where they are composed. */
import { isVisible } from "./visible.ts";

declare const composed: unique symbol;

/** A line for a POSIX shell in which every value is quoted. Only `command` makes one. */
export type CommandLine = string & { readonly [composed]: true };

/** A word, or a part of one; a list is several words, none when it is empty; undefined when it cannot be spelled. */
export type CommandValue = string | number | undefined | readonly (string | number)[];

/**
 * command`ip link set dev ${name} up`. The literal words are ours, and may be shell syntax without quotes; each value
 * is quoted. A list holds what may begin with a dash, such as our own options or a whole route.
 *
 * @returns undefined when the line could do something else than it shows: a value that is not seen whole on one line or
 *   was no UTF-8, an empty word, a name that the program would take for an option
 */
export function command(
  literals: TemplateStringsArray,
  ...values: readonly CommandValue[]
): CommandLine | undefined {
  let line = literals[0]!;
  for (const [index, value] of values.entries()) {
    const after = literals[index + 1]!;
    const text = typeof value === "object" ? words(value) : word(value, line, after);
    if (text === undefined) return undefined;
    line = (text === "" ? line.trimEnd() : line + text) + after;
  }
  return line as CommandLine;
}

/** The same command, where it must run. @param path of the namespace; undefined for the one in which commands run anyway */
export function commandIn(path: string | undefined, line: CommandLine | undefined): CommandLine | undefined {
  if (path === undefined || line === undefined) return line;
  const name = namedNamespace(path);
  const prefix = name === undefined ? command`nsenter --net=${path}` : command`ip netns exec ${name}`;
  return prefix === undefined ? undefined : (`${prefix} ${line}` as CommandLine);
}

/** Each of them after the one before has succeeded. */
export function inOrder(lines: readonly CommandLine[]): CommandLine {
  return lines.join(" && ") as CommandLine;
}

/** The name under which `ip netns` knows this path; undefined when it does not. */
export function namedNamespace(path: string): string | undefined {
  return /^\/(?:var\/)?run\/netns\/([^/]+)$/.exec(path)?.[1];
}

/** Words of ours after which iproute2, iptables and ethtool take the next one as it is, also when it begins with a dash. */
const TAKES_NEXT = /(?:^|\s)(?:dev|master|exec|-i|-o|-K) $/;

function word(value: string | number | undefined, before: string, after: string): string | undefined {
  if (typeof value === "number") return String(value);
  if (value === undefined || !isPasteable(value)) return undefined;
  const begins = before === "" || before.endsWith(" ");
  if (begins && value.startsWith("-") && !TAKES_NEXT.test(before)) return undefined;
  if (value === "" && begins && (after === "" || after.startsWith(" "))) return undefined;
  return quoted(value);
}

function words(values: readonly (string | number)[]): string | undefined {
  const texts = values.map(String);
  return texts.every((text) => text !== "" && isPasteable(text)) ? texts.map(quoted).join(" ") : undefined;
}

function isPasteable(text: string): boolean {
  return isVisible(text) && text.isWellFormed() && !text.includes("\ufffd");
}

function quoted(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]*$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
