/** Fields of the IP header. */
import { describe, type XtDescription } from "../describe.ts";
import { option } from "../info.ts";

export function hexTwo(value: number): string {
  return `0x${value.toString(16).padStart(2, "0")}`;
}

/** struct xt_dscp_info: dscp 0, invert 1. */
export const dscp = describe({
  name: "dscp",
  revisions: [0],
  read: (info) => ({ dscp: info.u8(0), not: info.u8(1) !== 0 }),
  options: ({ dscp: value, not }) => [option("--dscp", hexTwo(value), not)],
});

/** struct xt_tos_match_info: tos_mask 0, tos_value 1, invert 2. */
export const tos = describe({
  name: "tos",
  revisions: [1],
  read: (info) => ({ mask: info.u8(0), value: info.u8(1), not: info.u8(2) !== 0 }),
  options: ({ mask, value, not }) => [option("--tos", `${hexTwo(value)}/${hexTwo(mask)}`, not)],
});

export interface HopLimitMatch {
  readonly compare: "eq" | "lt" | "gt";
  readonly value: number;
  readonly not: boolean;
}

const COMPARISONS = ["eq", "eq", "lt", "gt"] as const;

/** struct ipt_ttl_info, struct ip6t_hl_info: mode 0 (equal, not equal, less, greater), value 1. */
function hopLimit(name: string): XtDescription<HopLimitMatch> {
  return describe({
    name,
    revisions: [0],
    read: (info) => ({
      compare: COMPARISONS[info.u8(0)] ?? "eq",
      value: info.u8(1),
      not: info.u8(0) === 1,
    }),
    options: ({ compare, value, not }) => [option(`--${name}-${compare}`, value, not)],
  });
}

export const ttl = hopLimit("ttl");
export const hl = hopLimit("hl");

/** struct xt_ecn_info: operation 0, invert 1, ip_ect 2. */
export const ecn = describe({
  name: "ecn",
  revisions: [0],
  read(info) {
    const operation = info.u8(0);
    const inverted = info.u8(1);
    const part = (bit: number) => ((operation & bit) === 0 ? undefined : { not: (inverted & bit) !== 0 });
    return { ip: part(0x01), ect: info.u8(2), ece: part(0x10), cwr: part(0x20) };
  },
  options: ({ ip, ect, ece, cwr }) => [
    ...(ece === undefined ? [] : [option("--ecn-tcp-ece", undefined, ece.not)]),
    ...(cwr === undefined ? [] : [option("--ecn-tcp-cwr", undefined, cwr.not)]),
    ...(ip === undefined ? [] : [option("--ecn-ip-ect", ect, ip.not)]),
  ],
});

/** struct ip6t_frag: ids 0 to 4, hdrlen 8, flags 12, invflags 13. */
export const frag = describe({
  name: "frag",
  revisions: [0],
  read: (info) => ({
    first: info.u32(0),
    last: info.u32(4),
    length: info.u32(8),
    flags: info.u8(12),
    inverted: info.u8(13),
  }),
  options({ first, last, length, flags, inverted }) {
    const isAny = first === 0 && last === 0xffff_ffff;
    const range = first === last ? `${first}` : `${first}:${last}`;
    return [
      ...(isAny ? [] : [option("--fragid", range, (inverted & 1) !== 0)]),
      ...((flags & 2) === 0 ? [] : [option("--fraglen", length, (inverted & 2) !== 0)]),
      ...((flags & 4) === 0 ? [] : [option("--fragres")]),
      ...((flags & 8) === 0 ? [] : [option("--fragfirst")]),
      ...((flags & 16) === 0 ? [] : [option("--fragmore")]),
      ...((flags & 32) === 0 ? [] : [option("--fraglast")]),
    ];
  },
});
