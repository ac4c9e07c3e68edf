/**
 * Room `text/`: text that another program or a person chose (names, comments, DNS, files), made fit for a terminal and
 * a page: what would move the cursor, begin a line, turn the direction of writing, or not be seen at all is shown as
 * `\x1b`, `\n`, `\u202e`. Programs get the exact value: see json.ts. command.ts composes the command lines that
 * people paste.
 *
 * In: any text.
 * Out: text without a character that cannot be seen; quoted command lines.
 * Touches: nothing.
 */

/** DEL, C1; soft hyphen; marks of direction and of zero width; fillers; line separators; interlinear marks. */
const BEYOND_C0 = String.raw`\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb`;
const TAGS = String.raw`\udb40[\udc00-\udc7f]`;

let unseen: RegExp | undefined;
let unseenInLines: RegExp | undefined;
let unseenInJson: RegExp | undefined;

/** Everything that this file is about. Made when it is first needed: a plugin call prints nothing of others. */
function unseenCharacters(): RegExp {
  return (unseen ??= new RegExp(String.raw`[\u0000-\u001f${BEYOND_C0}]|${TAGS}`, "g"));
}

/** All of it but line breaks, of which a long text has thousands. */
function unseenBesideLines(): RegExp {
  return (unseenInLines ??= new RegExp(String.raw`[\u0000-\u0009\u000b-\u001f${BEYOND_C0}]|${TAGS}`, "g"));
}

/** What JSON.stringify leaves of it. */
function unseenInJsonText(): RegExp {
  return (unseenInJson ??= new RegExp(`[${BEYOND_C0}]|${TAGS}`, "g"));
}

const SHORT: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** Whether a reader would see the whole text, as it is, on one line. */
export function isVisible(text: string): boolean {
  return text.search(unseenCharacters()) < 0;
}

/** The text on one line, with everything unseen spelled out. */
export function visible(text: string): string {
  return isVisible(text) ? text : text.replace(unseenCharacters(), spelled);
}

/** The same for a text of several lines. */
export function visibleLines(text: string): string {
  return text.replace(unseenBesideLines(), spelled);
}

/**
 * A value to be shown to people: every text in it made visible, keys as well. What needs no change is the same object.
 * Plain objects, arrays, maps and sets are gone through; others (bytes, instances of classes) are left as they are.
 */
export function visibleValue<T>(value: T): T;
export function visibleValue(value: unknown): unknown {
  if (typeof value === "string") return visible(value);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return visibleItems(value);
  if (value instanceof Map) return new Map(visibleItems([...value]) as [unknown, unknown][]);
  if (value instanceof Set) return new Set(visibleItems([...value]));
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null ? visibleFields(value) : value;
}

function visibleItems(items: readonly unknown[]): readonly unknown[] {
  let copy: unknown[] | undefined;
  for (let index = 0; index < items.length; index++) {
    const shown = visibleValue(items[index]);
    if (shown !== items[index]) (copy ??= [...items])[index] = shown;
  }
  return copy ?? items;
}

function visibleFields(fields: object): object {
  const record = fields as Record<string, unknown>;
  let changed = false;
  for (const key in record) {
    if (visibleValue(record[key]) === record[key] && isVisible(key)) continue;
    changed = true;
    break;
  }
  if (!changed) return fields;
  return Object.fromEntries(
    Object.entries(record).map(([key, value]) => [visible(key), visibleValue(value)]),
  );
}

/** Text of JSON.stringify with everything unseen but its own line breaks as \uXXXX. For values see json.ts. */
export function withUnseenAsUnits(json: string): string {
  return json.replace(unseenInJsonText(), asUnits);
}

/** A line that may be JSON, with everything unseen as \uXXXX, which is right in both. */
export function visibleLogLine(line: string): string {
  return line.replace(unseenCharacters(), asUnits);
}

function spelled(found: string): string {
  const short = SHORT[found];
  if (short !== undefined) return short;
  return found.charCodeAt(0) < 0x100 ? `\\x${hex(found, 0, 2)}` : asUnits(found);
}

function asUnits(found: string): string {
  let text = "";
  for (let index = 0; index < found.length; index++) text += `\\u${hex(found, index, 4)}`;
  return text;
}

function hex(text: string, index: number, digits: number): string {
  return text.charCodeAt(index).toString(16).padStart(digits, "0");
}
