/** Limits: how often a rule matches. */
import { describe } from "../describe.ts";
import { option, type XtInfo } from "../info.ts";

const UNITS = [
  ["day", 86_400],
  ["hour", 3600],
  ["min", 60],
  ["sec", 1],
] as const;

/** `5/min`: the largest unit whose rate, as a whole number, is close enough to the time between two packets. */
export function rateOf(perPacket: number, scale: number): { readonly text: string; readonly unit: number } {
  let [name, seconds]: readonly [string, number] = UNITS[0];
  for (const [shorter, unit] of UNITS.slice(1)) {
    const units = unit * scale;
    if (perPacket > units || units / perPacket < units % perPacket) break;
    [name, seconds] = [shorter, unit];
  }
  return { text: `${Math.floor((seconds * scale) / perPacket)}/${name}`, unit: seconds };
}

/** XT_LIMIT_SCALE: an average is the time between two packets in 1/10000 s. */
const LIMIT_SCALE = 10_000;

/** struct xt_rateinfo: avg 0, burst 4. */
export const limit = describe({
  name: "limit",
  revisions: [0],
  read: (info) => ({ rate: rateOf(info.u32(0), LIMIT_SCALE).text, burst: info.u32(4) }),
  options: ({ rate, burst }) => [
    option("--limit", rate),
    ...(burst === 5 ? [] : [option("--limit-burst", burst)]),
  ],
});

const MODES = [
  [4, "srcip"],
  [8, "srcport"],
  [1, "dstip"],
  [2, "dstport"],
] as const;
const MODE = { not: 16, bytes: 32, rateMatch: 64 } as const;
/** XT_HASHLIMIT_BYTE_SHIFT, XT_HASHLIMIT_BYTE_EXPIRE, XT_HASHLIMIT_GCINTERVAL. */
const BYTE_SHIFT = 4;
const BYTE_EXPIRE_MS = 15_000;
const GC_INTERVAL_MS = 1000;

interface Layout {
  readonly name: number;
  readonly wide: boolean;
  readonly at: number;
  readonly scale: number;
}

/** struct xt_hashlimit_mtinfo1 to 3: a name, then the settings: rates of 64 bits from revision 2 on. */
const LAYOUTS: Readonly<Record<number, Layout>> = {
  1: { name: 16, wide: false, at: 16, scale: 10_000 },
  2: { name: 255, wide: true, at: 256, scale: 1_000_000 },
  3: { name: 255, wide: true, at: 256, scale: 1_000_000 },
};

function settings(info: XtInfo, revision: number) {
  const layout = LAYOUTS[revision]!;
  const { at, wide } = layout;
  const modeAt = wide ? at + 16 : at;
  const afterMode = wide ? modeAt + 4 : at + 12;
  return {
    name: info.text(0, layout.name),
    scale: layout.scale,
    average: wide ? Number(info.u64(at)) : info.u32(at + 4),
    burst: wide ? Number(info.u64(at + 8)) : info.u32(at + 8),
    mode: info.u32(modeAt),
    size: info.u32(afterMode),
    max: info.u32(afterMode + 4),
    gcIntervalMs: info.u32(afterMode + 8),
    expireMs: info.u32(afterMode + 12),
    intervalSeconds: revision === 3 ? info.u32(at + 36) : 0,
    sourceBits: info.u8(revision === 3 ? at + 40 : revision === 2 ? at + 36 : at + 28),
    destinationBits: info.u8(revision === 3 ? at + 41 : revision === 2 ? at + 37 : at + 29),
  };
}

/** `512kb/s`: the rate that a cost of so many units stands for. */
function bytesRate(cost: number): string {
  const bytes = ((cost === 0 ? 0xffff_ffff : Math.floor(0xffff_ffff / cost)) - 1) * 2 ** BYTE_SHIFT;
  for (const [unit, size] of [
    ["m", 1024 * 1024],
    ["k", 1024],
  ] as const) {
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${unit}b/s`;
  }
  return `${bytes}b/s`;
}

export const hashlimit = describe({
  name: "hashlimit",
  revisions: [1, 2, 3],
  read(info, revision, { family }) {
    const { average, scale, mode, ...rest } = settings(info, revision);
    const inBytes = (mode & MODE.bytes) !== 0;
    const rate = inBytes ? { text: bytesRate(average), unit: 0 } : rateOf(average, scale);
    return {
      ...rest,
      rate: rate.text,
      inBytes,
      /** Matches what exceeds the rate instead of what keeps it. */
      above: (mode & MODE.not) !== 0,
      rateMatch: (mode & MODE.rateMatch) !== 0,
      keys: MODES.filter(([bit]) => (mode & bit) !== 0).map(([, name]) => name),
      usualExpireMs: inBytes ? BYTE_EXPIRE_MS : rate.unit * 1000,
      wholeBits: family === "ip" ? 32 : 128,
    };
  },
  options: (value) => [
    option(value.above ? "--hashlimit-above" : "--hashlimit-upto", value.rate),
    ...(value.inBytes ? [] : [option("--hashlimit-burst", value.burst)]),
    ...(value.keys.length === 0 ? [] : [option("--hashlimit-mode", value.keys.join(","))]),
    option("--hashlimit-name", value.name),
    ...(value.size === 0 ? [] : [option("--hashlimit-htable-size", value.size)]),
    ...(value.max === 0 ? [] : [option("--hashlimit-htable-max", value.max)]),
    ...(value.gcIntervalMs === GC_INTERVAL_MS
      ? []
      : [option("--hashlimit-htable-gcinterval", value.gcIntervalMs)]),
    ...(value.expireMs === value.usualExpireMs ? [] : [option("--hashlimit-htable-expire", value.expireMs)]),
    ...(value.sourceBits === value.wholeBits ? [] : [option("--hashlimit-srcmask", value.sourceBits)]),
    ...(value.destinationBits === value.wholeBits
      ? []
      : [option("--hashlimit-dstmask", value.destinationBits)]),
    ...(value.rateMatch ? [option("--hashlimit-rate-match")] : []),
    ...(value.intervalSeconds === 0 || !value.rateMatch
      ? []
      : [option("--hashlimit-rate-interval", value.intervalSeconds)]),
  ],
});

/** struct xt_statistic_info: mode 0, flags 2, then a probability (of 0x80000000), or every 4, packet 8, count 12. */
export const statistic = describe({
  name: "statistic",
  revisions: [0],
  read(info) {
    const not = (info.u16(2) & 1) !== 0;
    if (info.u16(0) === 0) return { mode: "random" as const, not, probability: info.u32(4) / 0x8000_0000 };
    return { mode: "nth" as const, not, every: info.u32(4) + 1, packet: info.u32(8) };
  },
  options: (value) =>
    value.mode === "random"
      ? [option("--mode", "random"), option("--probability", value.probability.toFixed(11), value.not)]
      : [
          option("--mode", "nth"),
          option("--every", value.every, value.not),
          option("--packet", value.packet),
        ],
});
