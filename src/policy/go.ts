/** How programs written in Go read what people write: durations and the keys of a file. Pure. */

const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/**
 * `1h30m`, `.5s`, `-1s`, `0`: as time.ParseDuration reads it.
 * @returns milliseconds; undefined for what it refuses (`60`, `1d`, an empty text)
 */
export function parseGoDuration(text: string): number | undefined {
  const match = /^([+-]?)(.+)$/s.exec(text);
  if (match === null) return undefined;
  const [, sign, body = ""] = match;
  if (body === "0") return 0;
  const parts = [...body.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/gy)];
  if (parts.length === 0 || parts.reduce((sum, [part]) => sum + part.length, 0) !== body.length)
    return undefined;
  const sum = parts.reduce((total, [, number, unit]) => total + Number(number) * UNIT_MS[unit!]!, 0);
  return sign === "-" ? -sum : sum;
}

export interface GoField {
  /** As it is written. */
  readonly key: string;
  readonly value: unknown;
}

export interface GoFields {
  /** By the names that were asked for. */
  readonly known: ReadonlyMap<string, GoField>;
  /** Keys that nobody asked for: encoding/json passes over them without a word. */
  readonly unknown: readonly string[];
}

/**
 * Keys are found whatever their case is; of several that differ in case only, the last counts. Of YAML that is the last in
 * the order of their bytes: on its way to JSON it was a map, which is written sorted.
 */
export function goFields(
  value: Readonly<Record<string, unknown>>,
  names: readonly string[],
  order: "as-written" | "sorted" = "as-written",
): GoFields {
  const byLower = new Map(names.map((name) => [name.toLowerCase(), name]));
  const known = new Map<string, GoField>();
  const unknown: string[] = [];
  const keys = order === "sorted" ? Object.keys(value).sort() : Object.keys(value);
  for (const key of keys) {
    const name = byLower.get(key.toLowerCase());
    if (name === undefined) unknown.push(key);
    else known.set(name, { key, value: value[key] });
  }
  return { known, unknown };
}
