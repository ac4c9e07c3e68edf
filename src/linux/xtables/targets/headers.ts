/** Targets that write into the packet's headers. */
import { describe, type XtDescription } from "../describe.ts";
import { option } from "../info.ts";
import { hexTwo } from "../matches/ip-header.ts";

/** struct xt_tcpmss_info: mss 0; 0xffff is "what the path takes". */
export const TCPMSS = describe({
  name: "TCPMSS",
  revisions: [0],
  read: (info) => (info.u16(0) === 0xffff ? undefined : info.u16(0)),
  options: (mss) => [mss === undefined ? option("--clamp-mss-to-pmtu") : option("--set-mss", mss)],
});

/** struct xt_tcpoptstrip_target_info: a bit an option. */
export const TCPOPTSTRIP = describe({
  name: "TCPOPTSTRIP",
  revisions: [0],
  read: (info) =>
    Array.from({ length: 256 }, (_, number) => number).filter(
      (number) => ((info.u32((number >> 5) * 4) >>> (number & 31)) & 1) === 1,
    ),
  options: (numbers) => [option("--strip-options", numbers.join(","))],
});

export const CHECKSUM = describe({
  name: "CHECKSUM",
  revisions: [0],
  read: () => undefined,
  options: () => [option("--checksum-fill")],
});

/** struct xt_DSCP_info: dscp 0. */
export const DSCP = describe({
  name: "DSCP",
  revisions: [0],
  read: (info) => info.u8(0),
  options: (dscp) => [option("--set-dscp", hexTwo(dscp))],
});

/** struct xt_tos_target_info: tos_value 0, tos_mask 1. */
export const TOS = describe({
  name: "TOS",
  revisions: [1],
  read: (info) => ({ value: info.u8(0), mask: info.u8(1) }),
  options: ({ value, mask }) => [option("--set-tos", `${hexTwo(value)}/${hexTwo(mask)}`)],
});

export interface HopLimitTarget {
  readonly change: "set" | "inc" | "dec";
  readonly by: number;
}

const CHANGES = ["set", "inc", "dec"] as const;

/** struct ipt_TTL_info, struct ip6t_HL_info: mode 0, value 1. */
function hopLimit(name: string): XtDescription<HopLimitTarget> {
  return describe({
    name,
    revisions: [0],
    read: (info) => ({ change: CHANGES[info.u8(0)] ?? "set", by: info.u8(1) }),
    options: ({ change, by }) => [option(`--${name.toLowerCase()}-${change}`, by)],
  });
}

export const TTL = hopLimit("TTL");
export const HL = hopLimit("HL");

/** struct xt_synproxy_info: options 0 (mss 1, wscale 2, SACK 4, timestamps 8), wscale 1, mss 2. */
export const SYNPROXY = describe({
  name: "SYNPROXY",
  revisions: [0],
  read: (info) => ({ bits: info.u8(0), windowScale: info.u8(1), mss: info.u16(2) }),
  options: ({ bits, windowScale, mss }) => [
    ...((bits & 4) === 0 ? [] : [option("--sack-perm")]),
    ...((bits & 8) === 0 ? [] : [option("--timestamp")]),
    ...((bits & 2) === 0 ? [] : [option("--wscale", windowScale)]),
    ...((bits & 1) === 0 ? [] : [option("--mss", mss)]),
  ],
});
