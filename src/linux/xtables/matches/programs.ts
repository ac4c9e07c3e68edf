/** Matches that look into the packet by a program of their own, or at the clock, or at a list that packets make. */
import { describe } from "../describe.ts";
import { option, quoted, type XtInfo, type XtOption } from "../info.ts";
import { decodeUtf8, hexOf } from "../../../platform/bytes.ts";

/** struct xt_string_info (revision 1): from 0, to 2, algo 4, pattern 20, patlen 148, flags 149. */
export const string = describe({
  name: "string",
  revisions: [1],
  read: (info) => ({
    from: info.u16(0),
    to: info.u16(2),
    algorithm: info.text(4, 16),
    pattern: info.part(20, Math.min(info.u8(148), 128)),
    not: (info.u8(149) & 1) !== 0,
    ignoresCase: (info.u8(149) & 2) !== 0,
  }),
  options: ({ from, to, algorithm, pattern, not, ignoresCase }) => [
    patternOption(pattern, not),
    option("--algo", algorithm),
    ...(from === 0 ? [] : [option("--from", from)]),
    ...(to === 0xffff ? [] : [option("--to", to)]),
    ...(ignoresCase ? [option("--icase")] : []),
  ],
});

function patternOption(pattern: Uint8Array, not: boolean): XtOption {
  const isText = pattern.every((byte) => byte >= 0x20 && byte < 0x7f) && pattern.at(-1) !== 0x5c;
  return isText
    ? option("--string", quoted(decodeUtf8(pattern)), not)
    : option("--hex-string", `"|${hexOf(pattern)}|"`, not);
}

const U32_OPERATORS = ["&", "<<", ">>", "@"] as const;
const U32 = { tests: 11, testBytes: 180, valuesAt: 88, countsAt: 176, ntests: 1980, invert: 1981 } as const;

/** struct xt_u32: tests of locations ({number, operator}) and values ({min, max}). */
export const u32 = describe({
  name: "u32",
  revisions: [0],
  read(info) {
    const count = Math.min(info.u8(U32.ntests) + 1, U32.tests);
    const tests = Array.from(
      { length: info.u8(U32.ntests) === 0 ? 1 : Math.min(info.u8(U32.ntests), count) },
      (_, at) => u32Test(info, at * U32.testBytes),
    );
    return { program: tests.join("&&"), not: info.u8(U32.invert) !== 0 };
  },
  options: ({ program, not }) => [option("--u32", `"${program}"`, not)],
});

function u32Test(info: XtInfo, at: number): string {
  const hex = (value: number): string => `0x${value.toString(16)}`;
  let text = hex(info.u32(at));
  for (let part = 1; part < Math.min(info.u8(at + U32.countsAt), 11); part++) {
    text += `${U32_OPERATORS[info.u8(at + part * 8 + 4)] ?? "?"}${hex(info.u32(at + part * 8))}`;
  }
  const values = Array.from({ length: Math.min(info.u8(at + U32.countsAt + 1), 11) }, (_, part) => {
    const [first, last] = [
      info.u32(at + U32.valuesAt + part * 8),
      info.u32(at + U32.valuesAt + part * 8 + 4),
    ];
    return first === last ? hex(first) : `${hex(first)}:${hex(last)}`;
  });
  return `${text}=${values.join(",")}`;
}

/** struct xt_bpf_info: a count and instructions from 4 on; revision 1 has a mode 0, a count 2, and a path or these from 8 on. */
export const bpf = describe({
  name: "bpf",
  revisions: [0, 1],
  read(info, revision) {
    if (revision === 1 && info.u16(0) !== 0) return { path: info.text(8, 512) };
    const [countAt, at] = revision === 0 ? [0, 4] : [2, 8];
    const instructions = Array.from({ length: Math.min(info.u16(countAt), 64) }, (_, index) => {
      const start = at + index * 8;
      return `${info.u16(start)} ${info.u8(start + 2)} ${info.u8(start + 3)} ${info.u32(start + 4)}`;
    });
    return { instructions };
  },
  options: (value) =>
    "path" in value
      ? [option("--object-pinned", value.path)]
      : [option("--bytecode", `"${[value.instructions.length, ...value.instructions].join(",")}"`)],
});

const WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"] as const;
const ALL = { days: 0xffff_fffe, weekdays: 0xfe, lastSecond: 86_399 } as const;

/** struct xt_time_info: dates 0 and 4, times of day 8 and 12, monthdays 16, weekdays 20, flags 21. */
export const time = describe({
  name: "time",
  revisions: [0],
  read: (info) => ({
    dateStart: info.u32(0),
    dateStop: info.u32(4),
    timeStart: info.u32(8),
    timeStop: info.u32(12),
    monthdays: info.u32(16),
    weekdays: info.u8(20),
    localTime: (info.u8(21) & 1) !== 0,
    contiguous: (info.u8(21) & 2) !== 0,
  }),
  options: (value) => [
    ...(value.timeStart === 0 && value.timeStop === ALL.lastSecond
      ? []
      : [option("--timestart", clock(value.timeStart)), option("--timestop", clock(value.timeStop))]),
    ...(value.monthdays === ALL.days ? [] : [option("--monthdays", bitsOf(value.monthdays, 31).join(","))]),
    ...(value.weekdays === ALL.weekdays
      ? []
      : [
          option(
            "--weekdays",
            bitsOf(value.weekdays, 7)
              .map((day) => WEEKDAYS[day - 1])
              .join(","),
          ),
        ]),
    ...(value.dateStart === 0 ? [] : [option("--datestart", date(value.dateStart))]),
    ...(value.dateStop === 0xffff_ffff ? [] : [option("--datestop", date(value.dateStop))]),
    ...(value.localTime ? [option("--kerneltz")] : []),
    ...(value.contiguous ? [option("--contiguous")] : []),
  ],
});

function clock(seconds: number): string {
  return [seconds / 3600, (seconds / 60) % 60, seconds % 60]
    .map((part) => String(Math.floor(part)).padStart(2, "0"))
    .join(":");
}

function date(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 19);
}

function bitsOf(mask: number, last: number): number[] {
  return Array.from({ length: last }, (_, at) => at + 1).filter((bit) => (mask & (1 << bit)) !== 0);
}

/** XT_RECENT_* */
const RECENT = { check: 1, set: 2, update: 4, remove: 8, ttl: 16, reap: 32 } as const;
const RECENT_MODES = [
  ["set", RECENT.set],
  ["rcheck", RECENT.check],
  ["update", RECENT.update],
  ["remove", RECENT.remove],
] as const;

/** struct xt_recent_mtinfo: seconds 0, hit_count 4, check_set 8, invert 9, name 10, side 210; revision 1 has a mask 212. */
export const recent = describe({
  name: "recent",
  revisions: [0, 1],
  read(info, revision, { family }) {
    const bits = info.u8(8);
    return {
      mode: RECENT_MODES.find(([, bit]) => (bits & bit) !== 0)?.[0] ?? "rcheck",
      not: info.u8(9) !== 0,
      seconds: info.u32(0),
      hits: info.u32(4),
      reaps: (bits & RECENT.reap) !== 0,
      ttl: (bits & RECENT.ttl) !== 0,
      list: info.text(10, 200),
      by: info.u8(210) === 0 ? ("source" as const) : ("destination" as const),
      mask: revision === 0 ? undefined : info.address(212, family),
    };
  },
  options: (value) => [
    option(`--${value.mode}`, undefined, value.not),
    ...(value.seconds === 0 ? [] : [option("--seconds", value.seconds)]),
    ...(value.reaps ? [option("--reap")] : []),
    ...(value.hits === 0 ? [] : [option("--hitcount", value.hits)]),
    ...(value.ttl ? [option("--rttl")] : []),
    option("--name", value.list),
    ...(value.mask === undefined ? [] : [option("--mask", value.mask)]),
    option(value.by === "source" ? "--rsource" : "--rdest"),
  ],
});
