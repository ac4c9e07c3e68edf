/** Rules that hold at certain times (time_mt of net/netfilter/xt_time.c), set against the time of the snapshot. */
import type { time } from "../../../linux/xtables/matches/programs.ts";
import type { Machine } from "../machine.ts";

type Times = ReturnType<(typeof time)["read"]>;

const DAY = 86_400;

export function timeMatches(machine: Machine, value: Times): boolean {
  const { now } = machine.view;
  // The kernel's own idea of a time zone is told to nobody.
  const known = now === undefined || value.localTime ? undefined : matchesAt(value, now);
  return machine.ask("the time of day", known, undefined, "time");
}

function matchesAt(value: Times, now: Date): boolean {
  let seconds = Math.floor(now.getTime() / 1000);
  if (seconds < value.dateStart || seconds > value.dateStop) return false;
  const ofDay = seconds % DAY;
  const { timeStart, timeStop } = value;
  if (timeStart < timeStop) {
    if (ofDay < timeStart || ofDay > timeStop) return false;
  } else {
    if (ofDay < timeStart && ofDay > timeStop) return false;
    // Behind midnight it is still the day on which the time began.
    if (value.contiguous && ofDay <= timeStop) seconds -= DAY;
  }
  const day = new Date(seconds * 1000);
  // Bits are days: Monday is 1 and Sunday 7.
  const weekday = day.getUTCDay() === 0 ? 7 : day.getUTCDay();
  return (value.weekdays & (1 << weekday)) !== 0 && (value.monthdays & (1 << day.getUTCDate())) !== 0;
}
