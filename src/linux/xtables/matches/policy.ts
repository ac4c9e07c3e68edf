/** What protects a packet: IPsec policies, and the headers of ESP and AH. */
import { protocolName } from "../../ip-protocol.ts";
import { describe, wantedIf, type Wanted } from "../describe.ts";
import { hostOrNetwork, option, portRange, type XtInfo, type XtOption } from "../info.ts";

/** struct xt_policy_elem: saddr 0, smask 16, daddr 32, dmask 48, spi 64, reqid 68, proto 72, mode 73, match 74, invert 75. */
const ELEMENT_BYTES = 76;
const ELEMENTS = 4;
const MODES: Readonly<Record<number, string>> = { 0: "transport", 1: "tunnel" };
/** Bits of struct xt_policy_spec. */
const SPEC = { source: 1, destination: 2, protocol: 4, mode: 8, spi: 16, reqid: 32 } as const;

export interface PolicyElement {
  readonly reqid: Wanted<number> | undefined;
  readonly spi: Wanted<number> | undefined;
  readonly protocol: Wanted<string> | undefined;
  readonly mode: Wanted<string> | undefined;
  readonly destination: Wanted<string> | undefined;
  readonly source: Wanted<string> | undefined;
}

function element(info: XtInfo, at: number, size: number): PolicyElement {
  const part = <T>(bit: number, value: () => T): Wanted<T> | undefined =>
    wantedIf((info.u8(at + 74) & bit) !== 0, value, (info.u8(at + 75) & bit) !== 0);
  const address = (offset: number): string =>
    hostOrNetwork(info.part(at + offset, size), info.part(at + offset + 16, size));
  return {
    reqid: part(SPEC.reqid, () => info.u32(at + 68)),
    spi: part(SPEC.spi, () => info.be32(at + 64)),
    protocol: part(SPEC.protocol, () => protocolName(info.u8(at + 72))),
    mode: part(SPEC.mode, () => MODES[info.u8(at + 73)] ?? `${info.u8(at + 73)}`),
    destination: part(SPEC.destination, () => address(32)),
    source: part(SPEC.source, () => address(0)),
  };
}

const ELEMENT_OPTIONS = [
  ["reqid", "--reqid"],
  ["spi", "--spi"],
  ["protocol", "--proto"],
  ["mode", "--mode"],
  ["destination", "--tunnel-dst"],
  ["source", "--tunnel-src"],
] as const;

function elementOptions(one: PolicyElement): XtOption[] {
  return ELEMENT_OPTIONS.flatMap(([key, name]) => {
    const part = one[key];
    return part === undefined ? [] : [option(name, part.value, part.not)];
  });
}

/** struct xt_policy_info: four elements, flags 304 (in 1, out 2, none 4, strict 8), len 306. */
export const policy = describe({
  name: "policy",
  revisions: [0],
  read(info, _revision, { family }) {
    const flags = info.u16(304);
    const count = Math.min(info.u16(306), ELEMENTS);
    return {
      direction: (flags & 1) !== 0 ? ("in" as const) : ("out" as const),
      /** What no policy protects matches. */
      none: (flags & 4) !== 0,
      strict: (flags & 8) !== 0,
      elements: Array.from({ length: count }, (_, at) =>
        element(info, at * ELEMENT_BYTES, family === "ip" ? 4 : 16),
      ),
    };
  },
  options: ({ direction, none, strict, elements }) => [
    option("--dir", direction),
    option("--pol", none ? "none" : "ipsec"),
    ...(strict ? [option("--strict")] : []),
    ...elements.flatMap((one, at) => [...(at === 0 ? [] : [option("--next")]), ...elementOptions(one)]),
  ],
});

/** struct xt_esp, struct ipt_ah: spis 0 to 4, invflags 8; struct ip6t_ah has hdrlen 8, hdrres 12, invflags 13. */
export const esp = describe({
  name: "esp",
  revisions: [0],
  read: (info) => ({ first: info.u32(0), last: info.u32(4), not: (info.u8(8) & 1) !== 0 }),
  options: ({ not, ...spis }) => (isAny(spis) ? [] : [option("--espspi", portRange(spis), not)]),
});

export const ah = describe({
  name: "ah",
  revisions: [0],
  read(info, _revision, { family }) {
    const isIpv6 = family === "ip6";
    return {
      first: info.u32(0),
      last: info.u32(4),
      not: (info.u8(isIpv6 ? 13 : 8) & 1) !== 0,
      length: isIpv6 && info.u32(8) !== 0 ? { bytes: info.u32(8), not: (info.u8(13) & 2) !== 0 } : undefined,
      reserved: isIpv6 && info.u8(12) !== 0,
    };
  },
  options: ({ first, last, not, length, reserved }) => [
    ...(isAny({ first, last }) ? [] : [option("--ahspi", portRange({ first, last }), not)]),
    ...(length === undefined ? [] : [option("--ahlen", length.bytes, length.not)]),
    ...(reserved ? [option("--ahres")] : []),
  ],
});

function isAny({ first, last }: { readonly first: number; readonly last: number }): boolean {
  return first === 0 && last === 0xffff_ffff;
}
