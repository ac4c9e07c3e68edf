/** Ports and flags of TCP, UDP, SCTP and DCCP. */
import { describe, wantedIf, type Range, type Wanted } from "../describe.ts";
import { bitNames, option, portRange, type XtInfo, type XtOption } from "../info.ts";
import { TCP_FLAG } from "../../tcp.ts";

export interface PortsMatch {
  readonly source: Wanted<Range> | undefined;
  readonly destination: Wanted<Range> | undefined;
}

function range(info: XtInfo, at: number, not: boolean): Wanted<Range> | undefined {
  const [first, last] = [info.u16(at), info.u16(at + 2)];
  return wantedIf(first !== 0 || last !== 0xffff || not, () => ({ first, last }), not);
}

function portOptions({ source, destination }: PortsMatch): XtOption[] {
  return [
    ...(source === undefined ? [] : [option("--sport", portRange(source.value), source.not)]),
    ...(destination === undefined ? [] : [option("--dport", portRange(destination.value), destination.not)]),
  ];
}

/** iptables has names for these six. */
const TCP_FLAGS = [
  [TCP_FLAG.fin, "FIN"],
  [TCP_FLAG.syn, "SYN"],
  [TCP_FLAG.rst, "RST"],
  [TCP_FLAG.psh, "PSH"],
  [TCP_FLAG.ack, "ACK"],
  [TCP_FLAG.urg, "URG"],
] as const;

/** `SYN,RST,ACK`; `NONE` for no flag. */
export function tcpFlagNames(flags: number): string {
  return flags === 0 ? "NONE" : bitNames(flags, TCP_FLAGS);
}

/** struct xt_tcp: spts 0, dpts 4, option 8, flg_mask 9, flg_cmp 10, invflags 11. */
export const tcp = describe({
  name: "tcp",
  revisions: [0],
  read(info) {
    const inverted = info.u8(11);
    const flags = () => ({ mask: info.u8(9), set: info.u8(10) });
    return {
      source: range(info, 0, (inverted & 1) !== 0),
      destination: range(info, 4, (inverted & 2) !== 0),
      flags: wantedIf(info.u8(9) !== 0 || (inverted & 4) !== 0, flags, (inverted & 4) !== 0),
      option: wantedIf(info.u8(8) !== 0, () => info.u8(8), (inverted & 8) !== 0),
    };
  },
  options: (value) => [
    ...portOptions(value),
    ...(value.option === undefined ? [] : [option("--tcp-option", value.option.value, value.option.not)]),
    ...(value.flags === undefined
      ? []
      : [
          option(
            "--tcp-flags",
            `${tcpFlagNames(value.flags.value.mask)} ${tcpFlagNames(value.flags.value.set)}`,
            value.flags.not,
          ),
        ]),
  ],
});

/** struct xt_udp: spts 0, dpts 4, invflags 8. */
export const udp = describe({
  name: "udp",
  revisions: [0],
  read: (info): PortsMatch => ({
    source: range(info, 0, (info.u8(8) & 1) !== 0),
    destination: range(info, 4, (info.u8(8) & 2) !== 0),
  }),
  options: portOptions,
});

/** RFC 9260 and its additions, as iptables calls them. */
const CHUNKS: Readonly<Record<number, string>> = {
  0: "DATA",
  1: "INIT",
  2: "INIT_ACK",
  3: "SACK",
  4: "HEARTBEAT",
  5: "HEARTBEAT_ACK",
  6: "ABORT",
  7: "SHUTDOWN",
  8: "SHUTDOWN_ACK",
  9: "ERROR",
  10: "COOKIE_ECHO",
  11: "COOKIE_ACK",
  12: "ECN_ECNE",
  13: "ECN_CWR",
  14: "SHUTDOWN_COMPLETE",
  64: "I_DATA",
  128: "ASCONF_ACK",
  130: "RE_CONFIG",
  132: "PAD",
  192: "FORWARD_TSN",
  193: "ASCONF",
  194: "I_FORWARD_TSN",
};
const CHUNK_MATCHES: Readonly<Record<number, string>> = { 1: "any", 2: "all", 4: "only" };

/** struct xt_sctp_info: dpts 0, spts 4, chunkmap 8 (256 bits), chunk_match_type 264, flags 284, invflags 288. */
export const sctp = describe({
  name: "sctp",
  revisions: [0],
  read(info) {
    const flags = info.u32(284);
    const inverted = info.u32(288);
    const types = (): number[] =>
      Array.from({ length: 256 }, (_, type) => type).filter(
        (type) => ((info.u32(8 + (type >> 5) * 4) >>> (type & 31)) & 1) === 1,
      );
    return {
      source: (flags & 1) === 0 ? undefined : range(info, 4, (inverted & 1) !== 0),
      destination: (flags & 2) === 0 ? undefined : range(info, 0, (inverted & 2) !== 0),
      chunks: wantedIf(
        (flags & 4) !== 0,
        () => ({ how: CHUNK_MATCHES[info.u32(264)] ?? "any", types: types() }),
        (inverted & 4) !== 0,
      ),
    };
  },
  options: (value) => [
    ...portOptions(value),
    ...(value.chunks === undefined
      ? []
      : [
          option(
            "--chunk-types",
            `${value.chunks.value.how} ${value.chunks.value.types.map((type) => CHUNKS[type] ?? type).join(",")}`,
            value.chunks.not,
          ),
        ]),
  ],
});

const DCCP_TYPES = [
  "REQUEST",
  "RESPONSE",
  "DATA",
  "ACK",
  "DATAACK",
  "CLOSEREQ",
  "CLOSE",
  "RESET",
  "SYNC",
  "SYNCACK",
] as const;

/** struct xt_dccp_info: dpts 0, spts 4, flags 8, invflags 10, typemask 12, option 14. */
export const dccp = describe({
  name: "dccp",
  revisions: [0],
  read(info) {
    const flags = info.u16(8);
    const inverted = info.u16(10);
    return {
      source: (flags & 1) === 0 ? undefined : range(info, 4, (inverted & 1) !== 0),
      destination: (flags & 2) === 0 ? undefined : range(info, 0, (inverted & 2) !== 0),
      types: wantedIf((flags & 4) !== 0, () => info.u16(12), (inverted & 4) !== 0),
      option: wantedIf((flags & 8) !== 0, () => info.u8(14), (inverted & 8) !== 0),
    };
  },
  options({ types, option: number, ...ports }) {
    const names = DCCP_TYPES.map((name, bit) => [1 << bit, name] as const);
    return [
      ...portOptions(ports),
      ...(types === undefined ? [] : [option("--dccp-types", bitNames(types.value, names), types.not)]),
      ...(number === undefined ? [] : [option("--dccp-option", number.value, number.not)]),
    ];
  },
});

/** struct xt_tcpmss_match_info: mss_min 0, mss_max 2, invert 4. */
export const tcpmss = describe({
  name: "tcpmss",
  revisions: [0],
  read: (info) => ({ first: info.u16(0), last: info.u16(2), not: info.u8(4) !== 0 }),
  options: ({ not, ...mss }) => [option("--mss", portRange(mss), not)],
});

const MULTIPORT = ["--sports", "--dports", "--ports"] as const;

/** struct xt_multiport_v1: flags 0, count 1, ports 2 (15 of them), pflags 32, invert 47. */
export const multiport = describe({
  name: "multiport",
  revisions: [1],
  read(info) {
    const ports: Range[] = [];
    const count = Math.min(info.u8(1), 15);
    for (let at = 0; at < count; at++) {
      const first = info.u16(2 + at * 2);
      // A set pflag makes this port and the next the two ends of a range.
      const last = info.u8(32 + at) === 0 ? first : info.u16(2 + ++at * 2);
      ports.push({ first, last });
    }
    return { which: MULTIPORT[info.u8(0)] ?? "--ports", ports, not: info.u8(47) !== 0 };
  },
  options: ({ which, ports, not }) => [option(which, ports.map(portRange).join(","), not)],
});
