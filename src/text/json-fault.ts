/**
 * Where a text stops being JSON (RFC 8259). Engines word that each in their own way, and some leave out where; a person who
 * wrote a configuration by hand needs the place.
 */

/** What may stand at a place by itself: a text, a number, a word. Sticky, so that it is asked for at that place only. */
const PLAIN =
  /"(?:[ !#-[\]-\uffff]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;
const SPACE = /[ \t\n\r]*/y;

/** For a text that JSON.parse refused: `it is no JSON: "x" on line 1, column 25 cannot stand there`. */
export function jsonFault(text: string): string {
  const at = faultAt(text);
  if (at >= text.length) return "it is no JSON: it ends too early";
  const before = text.slice(0, at).split("\n");
  const found = JSON.stringify(String.fromCodePoint(text.codePointAt(at)!));
  return `it is no JSON: ${found} on line ${before.length}, column ${before.at(-1)!.length + 1} cannot stand there`;
}

/** The first character that does not belong there; the length where the text ends too early. No depth is too deep. */
function faultAt(text: string): number {
  /** What closes what was begun, the last first. */
  const open: ("}" | "]")[] = [];
  let at = 0;
  const skip = (pattern: RegExp): boolean => {
    pattern.lastIndex = at;
    if (!pattern.test(text)) return false;
    at = pattern.lastIndex;
    return true;
  };
  const take = (character: string): boolean => {
    skip(SPACE);
    if (text[at] !== character) return false;
    at++;
    return true;
  };
  const key = (): boolean => {
    skip(SPACE);
    return text[at] === '"' && skip(PLAIN) && take(":");
  };
  /** From a value's beginning to that of the next, over what closes in between. False at the fault, and at the end. */
  const value = (): boolean => {
    if (take("{")) {
      open.push("}");
      if (!take("}")) return key();
      open.pop();
    } else if (take("[")) {
      open.push("]");
      if (!take("]")) return true;
      open.pop();
    } else if (!skip(PLAIN)) {
      return false;
    }
    while (open.length > 0) {
      if (take(open.at(-1)!)) open.pop();
      else return take(",") && (open.at(-1) === "]" || key());
    }
    return false;
  };
  while (value());
  skip(SPACE);
  return at;
}
