/** Moments as people write them: `14:03`, `yesterday` is not one of them. */
import { WayoutError } from "../error.ts";

const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
export const DAY_MS = UNIT_MS["d"]!;

/**
 * `14:03` or `14:03:20` (the last time that the clock showed it), `10m` (so long ago), or a whole date and time as ISO
 * 8601 has it. Local time unless it says otherwise.
 * @returns milliseconds since the epoch
 * @throws WayoutError `bad-time`
 */
export function parseMoment(text: string, now: number = Date.now()): number {
  const ago = /^(\d+)([smhd])$/.exec(text);
  if (ago !== null) return now - Number(ago[1]) * UNIT_MS[ago[2]!]!;
  const clock = /^([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?$/.exec(text);
  if (clock !== null) {
    const [, hours, minutes, seconds = "0"] = clock;
    const today = new Date(now).setHours(Number(hours), Number(minutes), Number(seconds), 0);
    return today > now ? today - DAY_MS : today;
  }
  const date = /^\d{4}-\d{2}-\d{2}/.test(text)
    ? Date.parse(text.replace(/^(\S+) (\d)/, "$1T$2"))
    : Number.NaN;
  if (!Number.isNaN(date)) return date;
  throw new WayoutError({
    code: "bad-time",
    kind: "usage",
    doing: `reading the time ${text}`,
    said: "it is no time that wayout understands",
    todo: "Write 14:03, 14:03:20, 10m (ten minutes ago), or 2026-11-28T14:03.",
  });
}

/** `14:03:20`, with its day when that is not today. */
export function momentText(at: number, now: number = Date.now()): string {
  const date = new Date(at);
  const two = (number: number): string => String(number).padStart(2, "0");
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  if (date.toDateString() === new Date(now).toDateString()) return time;
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`;
}
