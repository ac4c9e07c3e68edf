/** JSON as wayout writes it. */
import { withUnseenAsUnits } from "./visible.ts";

/** JSON of the exact value, in which everything unseen but its own line breaks stands as \uXXXX. */
export function jsonText(value: unknown, indent?: number): string {
  return visibleJson(JSON.stringify(value, null, indent));
}

/** Text of JSON.stringify, one value or more, in the form of jsonText. */
export function visibleJson(text: string): string {
  // A snapshot has megabytes, and nearly always nothing but ASCII: to see that is much quicker than to look for each.
  const isAscii = Buffer.byteLength(text) === text.length;
  // What JSON.stringify leaves of ASCII is seen, but for DEL.
  return isAscii && !text.includes("\x7f") ? text : withUnseenAsUnits(text);
}
