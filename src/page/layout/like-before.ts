/**
 * A newer answer, in which whatever is as it was before is the very same object: what is drawn of it need not be drawn again.
 * Pure.
 */
export function likeBefore<T>(before: T | undefined, now: T): T;
export function likeBefore(before: unknown, now: unknown): unknown {
  if (before === now || typeof now !== "object" || now === null) return now;
  if (typeof before !== "object" || before === null) return now;
  if (Array.isArray(now)) return Array.isArray(before) ? likeItems(before, now) : now;
  if (Array.isArray(before)) return now;
  const [old, entries] = [before as Record<string, unknown>, Object.entries(now)];
  const kept = entries.map(([name, value]) => [name, likeBefore(old[name], value)] as const);
  const same = Object.keys(old).length === kept.length && kept.every(([name, value]) => old[name] === value);
  return same ? before : Object.fromEntries(kept);
}

/** What has a name, or a key, is compared with its like, wherever that stood. */
function likeItems(before: readonly unknown[], now: readonly unknown[]): readonly unknown[] {
  const named = new Map(before.map((one, index) => [nameOf(one) ?? index, one]));
  const kept = now.map((one, index) => likeBefore(named.get(nameOf(one) ?? index), one));
  const same = kept.length === before.length && kept.every((one, index) => one === before[index]);
  return same ? before : kept;
}

function nameOf(value: unknown): string | undefined {
  const { name } = (value ?? {}) as { readonly name?: unknown };
  return typeof name === "string" ? name : undefined;
}
