/** `-m set`: whether an ipset holds what the packet has. */
import type { IpsetSide } from "../../ipset.ts";
import { describe, type Wanted } from "../describe.ts";
import { option, type XtContext, type XtInfo } from "../info.ts";

/** A set by its number, and from which side of the packet each part of the key is taken. */
export interface SetReference {
  readonly index: number;
  readonly sides: readonly IpsetSide[];
}

/** struct xt_set_info: index 0, dim 2, flags 3: a bit a dimension from bit 1 on. Undefined for no set. */
export function setReference(info: XtInfo, at: number): SetReference | undefined {
  const index = info.u16(at);
  if (index === 0xffff) return undefined;
  const flags = info.u8(at + 3);
  const sides = Array.from({ length: Math.min(info.u8(at + 2), 6) }, (_, part) =>
    (flags & (2 << part)) === 0 ? ("dst" as const) : ("src" as const),
  );
  return { index, sides };
}

export function setText({ index, sides }: SetReference, { ipsets }: XtContext): string {
  return `${ipsets?.get(index) ?? `#${index}`} ${sides.join(",")}`;
}

/** enum of IPSET_COUNTER_*: none, equal, not equal, less, greater. */
const COUNTERS = [undefined, ["eq", false], ["eq", true], ["lt", false], ["gt", false]] as const;

export interface CounterMatch {
  readonly of: "packets" | "bytes";
  readonly than: "eq" | "lt" | "gt";
  readonly value: Wanted<bigint>;
}

/** IPSET_FLAG_* of enum ipset_cmd_flags. */
const FLAG = { skipCounters: 1 << 3, skipSubcounters: 1 << 4, returnNomatch: 1 << 7 } as const;

function counterOf(info: XtInfo, of: CounterMatch["of"], at: number, revision: number): CounterMatch[] {
  // Revision 3 has the operation in front of the value.
  const [opAt, valueAt] = revision === 3 ? [at, at + 8] : [at + 8, at];
  const op = COUNTERS[info.u8(opAt)];
  return op === undefined ? [] : [{ of, than: op[0], value: { value: info.u64(valueAt), not: op[1] } }];
}

/** struct xt_set_info_match_v1; v3 and v4 have counters at 8 and 24 and flags at 40. */
export const set = describe({
  name: "set",
  revisions: [1, 2, 3, 4],
  read(info, revision) {
    const flags = revision < 3 ? 0 : info.u32(40);
    return {
      set: setReference(info, 0) ?? { index: 0xffff, sides: [] },
      not: (info.u8(3) & 1) !== 0,
      returnNomatch: (flags & FLAG.returnNomatch) !== 0,
      skipCounters: (flags & FLAG.skipCounters) !== 0,
      skipSubcounters: (flags & FLAG.skipSubcounters) !== 0,
      counters:
        revision < 3
          ? []
          : [...counterOf(info, "packets", 8, revision), ...counterOf(info, "bytes", 24, revision)],
    };
  },
  options: (value, context) => [
    option("--match-set", setText(value.set, context), value.not),
    ...(value.returnNomatch ? [option("--return-nomatch")] : []),
    ...(value.skipCounters ? [option("--update-counters", undefined, true)] : []),
    ...(value.skipSubcounters ? [option("--update-subcounters", undefined, true)] : []),
    ...value.counters.map((one) => option(`--${one.of}-${one.than}`, `${one.value.value}`, one.value.not)),
  ],
});
