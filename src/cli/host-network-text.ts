import { style } from "./style.ts";

const MOST_NAMES = 8;

/** Quietly, so that nobody misses them: pods that no list of namespaces can show. Nothing where there are none. */
export function hostNetworkText(names: readonly string[]): string {
  if (names.length === 0) return "";
  const more = names.length > MOST_NAMES ? ` and ${names.length - MOST_NAMES} more` : "";
  const who = names.length === 1 ? "one pod uses" : `${names.length} pods use`;
  return `${style.quiet(`${who} the node's own network (hostNetwork): ${names.slice(0, MOST_NAMES).join(", ")}${more}`)}\n`;
}
