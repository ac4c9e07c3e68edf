/** What no printed command does, whatever stands in the way: it would take from the node or the pod more than it mends. */

/** The rules with which every namespace begins: local, main, default. */
const KERNELS_RULES: ReadonlySet<string> = new Set(["0", "32766", "32767"]);

const DEFAULT: ReadonlySet<string> = new Set(["default", "0.0.0.0/0", "0/0", "::/0"]);

/** Types of routes that lead nowhere: such a default is no way out. */
const REFUSING: ReadonlySet<string> = new Set(["blackhole", "unreachable", "prohibit", "throw"]);

/**
 * Whether a line deletes an address, a default route, a rule of the kernel's own, or a namespace.
 * @param line a command, or a sentence with one in it
 */
export function isNeverAdvised(line: string): boolean {
  const words = wordsOf(line);
  return words.some(
    (word, at) =>
      (/(?:^|\/)ip$/.test(word) && takesAway(words.slice(at + 1))) ||
      // What is quoted may be a line itself: sh -c '…'.
      (/\s/.test(word) && isNeverAdvised(word)),
  );
}

/** As a shell takes them: what is quoted is part of its word. */
function wordsOf(line: string): string[] {
  const words = line.match(/(?:'[^']*'|"[^"]*"|[^\s;&|()'"“”])+/g) ?? [];
  return words.map((word) => word.replaceAll(/['"]/g, ""));
}

/** Options of `ip` that have a value of their own. */
const WITH_VALUE = /^-(?:n|net|netns|b|batch|l|loops|rc|rcvbuf|f|family)$/;

function takesAway(words: readonly string[]): boolean {
  let at = 0;
  while (words[at]?.startsWith("-") === true) at += WITH_VALUE.test(words[at]!) ? 2 : 1;
  const [object = "", verb = "", ...rest] = words.slice(at);
  // `ip netns exec NAME ip …` holds a command of its own, which is looked at by itself.
  const isFlush = isShort(verb, "flush", 1);
  if (!isFlush && !isShort(verb, "delete", 1) && verb !== "del") return false;
  if (isShort(object, "address", 1) || object === "netns") return true;
  if (isShort(object, "rule", 2)) return isFlush || isKernelsRule(rest);
  return isShort(object, "route", 1) && takesDefault(rest, isFlush);
}

/** iproute2 takes every beginning of a word for it. */
function isShort(text: string, word: string, least: number): boolean {
  return text.length >= least && word.startsWith(text);
}

function isKernelsRule(words: readonly string[]): boolean {
  const at = words.findIndex((word) => /^(?:pref|preference|prio|priority|order)$/.test(word));
  return KERNELS_RULES.has(words[at + 1] ?? "") && at >= 0;
}

function takesDefault(words: readonly string[], isFlush: boolean): boolean {
  const [first = "", second = ""] = words;
  if (REFUSING.has(first)) return false;
  // What was learned beside the routes, and no route.
  if (isFlush && first === "cache" && second === "") return false;
  const rest = first === "unicast" || first === "to" ? second : first;
  // What is flushed by its table or its link takes every route of that.
  return DEFAULT.has(rest) || (isFlush && !/[./:]/.test(rest));
}
