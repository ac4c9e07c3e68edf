/**
 * Many versions of one large JSON value, kept once: what two versions have in common is stored a single time.
 *
 * A value is cut into parts. A part is JSON in which each larger piece is replaced by the name of another part, and its
 * name is the hash of its text: equal pieces have equal names, whichever version they come from. A long list is cut where
 * the hash of an element says so, not at every n-th: an element that is put in or taken out changes the run it is in, and
 * the runs after it stay what they are. Pure.
 */

/** Name of a part: 16 bytes of SHA-256, hexadecimal. */
export type PartName = string;

/** Pieces shorter than this, in characters, stay where they are: a name and a row would cost more. */
const SMALL = 512;
/** A list is cut behind one element of so many, on average. */
const RUN = 32;
/** Keys that the JSON of nobody's value has. */
const REFERENCE = "\u0000part";
const RUNS = "\u0000runs";

/** Takes parts in. A part may be put again; it is the same then. */
export type PutPart = (name: PartName, text: string) => void;
/** undefined: the part is lost. */
export type GetPart = (name: PartName) => string | undefined;

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** Cuts a value, hands every part over, those inside before the one around. Returns the name of the outermost. */
export function putValue(value: unknown, put: PutPart): PartName {
  const text = cut(value as Json, put, true);
  const name = nameOf(text);
  put(name, text);
  return name;
}

/** A value in parts: its keeper need not look into it again. */
export interface CutValue {
  /** The outermost part. */
  readonly root: PartName;
  readonly parts: readonly (readonly [PartName, string])[];
}

export function cutValue(value: unknown): CutValue {
  const parts = new Map<PartName, string>();
  const root = putValue(value, (name, text) => void parts.set(name, text));
  return { root, parts: [...parts] };
}

/** Puts a value together again. @throws Error when a part is lost */
export function getValue(name: PartName, get: GetPart): unknown {
  const text = get(name);
  if (text === undefined) throw new Error(`a part of it is lost (${name})`);
  return joined(JSON.parse(text) as Json, get);
}

/** The parts that a part names. */
export function namesIn(text: string): PartName[] {
  return [...text.matchAll(/"\\u0000part":"([0-9a-f]{32})"/g)].map(([, name]) => name!);
}

/** The text of a value; a reference when it is not small and may stand apart. */
function cut(value: Json, put: PutPart, outermost = false): string {
  const text = textOf(value, put);
  if (outermost || text.length < SMALL) return text;
  const name = nameOf(text);
  put(name, text);
  return `{${JSON.stringify(REFERENCE)}:"${name}"}`;
}

function textOf(value: Json, put: PutPart): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (isList(value)) return listText(value, put);
  const fields = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .map(([key, field]) => `${JSON.stringify(key)}:${cut(field, put)}`);
  return `{${fields.join(",")}}`;
}

function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

function listText(list: readonly Json[], put: PutPart): string {
  const elements = list.map((element) => cut(element ?? null, put));
  const whole = `[${elements.join(",")}]`;
  if (whole.length < 2 * SMALL) return whole;
  const runs: string[][] = [[]];
  for (const element of elements) {
    runs.at(-1)!.push(element);
    if (Bun.hash.crc32(element) % RUN === 0) runs.push([]);
  }
  const names = runs
    .filter((run) => run.length > 0)
    .map((run) => {
      const text = `[${run.join(",")}]`;
      const name = nameOf(text);
      put(name, text);
      return `{${JSON.stringify(REFERENCE)}:"${name}"}`;
    });
  return `{${JSON.stringify(RUNS)}:[${names.join(",")}]}`;
}

function joined(value: Json, get: GetPart): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (isList(value)) return value.map((element) => joined(element, get));
  const reference = value[REFERENCE];
  if (typeof reference === "string") return getValue(reference, get);
  const runs = value[RUNS];
  if (runs !== undefined) return (joined(runs, get) as readonly unknown[][]).flat();
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, joined(field, get)]));
}

function nameOf(text: string): PartName {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex").slice(0, 32);
}
