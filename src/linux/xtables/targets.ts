/** xtables targets by name: their structures as iptables options. */
import { hexadecimal, option, type XtContext, type XtFamily, type XtInfo, type XtOption } from "./info.ts";
import { setDirections, type XtDecoder } from "./matches.ts";

/** NF_NAT_RANGE_* of linux/netfilter/nf_nat.h */
const RANGE = { mapIps: 1, protoSpecified: 2, random: 4, persistent: 8, fullyRandom: 16 } as const;

interface NatRange {
  readonly flags: number;
  readonly first: string;
  readonly last: string;
  readonly firstPort: number;
  readonly lastPort: number;
}

/**
 * Older structures (IPv4 only) hold a count and ranges of 4-byte addresses; newer ones one range of 16-byte unions.
 * They are told apart by their size.
 */
function natRange(info: XtInfo, family: XtFamily): NatRange {
  if (info.length < 40) {
    return {
      flags: info.u32(4),
      first: info.address(8, "ip"),
      last: info.address(12, "ip"),
      firstPort: info.be16(16),
      lastPort: info.be16(18),
    };
  }
  return {
    flags: info.u32(0),
    first: info.address(4, family),
    last: info.address(20, family),
    firstPort: info.be16(36),
    lastPort: info.be16(38),
  };
}

function natFlags(flags: number): XtOption[] {
  return [
    ...((flags & RANGE.random) === 0 ? [] : [option("--random")]),
    ...((flags & RANGE.fullyRandom) === 0 ? [] : [option("--random-fully")]),
    ...((flags & RANGE.persistent) === 0 ? [] : [option("--persistent")]),
  ];
}

function natPorts(range: NatRange): string {
  return range.firstPort === range.lastPort
    ? String(range.firstPort)
    : `${range.firstPort}-${range.lastPort}`;
}

/** SNAT and DNAT: `--to-source 203.0.113.5-203.0.113.9:1024-65535` */
function nat(name: string): XtDecoder {
  return (info, _revision, context) => {
    const range = natRange(info, context.family);
    let text = "";
    if ((range.flags & RANGE.mapIps) !== 0) {
      const last = range.last === range.first ? "" : `-${range.last}`;
      const isIpv6WithPort = context.family === "ip6" && (range.flags & RANGE.protoSpecified) !== 0;
      text = isIpv6WithPort ? `[${range.first}]${last === "" ? "" : `-[${range.last}]`}` : range.first + last;
    }
    if ((range.flags & RANGE.protoSpecified) !== 0) text += `:${natPorts(range)}`;
    return [option(name, text), ...natFlags(range.flags)];
  };
}

/** MASQUERADE and REDIRECT: `--to-ports 1024-65535` */
function natToPorts(info: XtInfo, _revision: number, context: XtContext): readonly XtOption[] {
  const range = natRange(info, context.family);
  const ports = (range.flags & RANGE.protoSpecified) === 0 ? [] : [option("--to-ports", natPorts(range))];
  return [...ports, ...natFlags(range.flags)];
}

function netmap(info: XtInfo, _revision: number, context: XtContext): readonly XtOption[] {
  const range = natRange(info, context.family);
  const start = info.length < 40 ? 8 : 4;
  const width = context.family === "ip" ? 4 : 16;
  const distance = info.length < 40 ? 4 : 16;
  let length = 0;
  for (let at = 0; at < width; at++) {
    const differing = info.u8(start + at) ^ info.u8(start + distance + at);
    length += differing === 0 ? 8 : Math.clz32(differing) - 24;
    if (differing !== 0) break;
  }
  return [option("--to", length === width * 8 ? range.first : `${range.first}/${length}`)];
}

const REJECT_IP = [
  "icmp-net-unreachable",
  "icmp-host-unreachable",
  "icmp-proto-unreachable",
  "icmp-port-unreachable",
  "echo-reply",
  "icmp-net-prohibited",
  "icmp-host-prohibited",
  "tcp-reset",
  "icmp-admin-prohibited",
] as const;

const REJECT_IP6 = [
  "icmp6-no-route",
  "icmp6-adm-prohibited",
  "not-neighbour",
  "icmp6-addr-unreachable",
  "icmp6-port-unreachable",
  "echo-reply",
  "tcp-reset",
  "icmp6-policy-fail",
  "icmp6-reject-route",
] as const;

function reject(info: XtInfo, _revision: number, context: XtContext): readonly XtOption[] {
  const names = context.family === "ip" ? REJECT_IP : REJECT_IP6;
  return [option("--reject-with", names[info.u32(0)] ?? info.u32(0))];
}

function log(info: XtInfo): readonly XtOption[] {
  const flags = info.u8(1);
  const prefix = info.text(2, 30);
  return [
    ...(prefix === "" ? [] : [option("--log-prefix", prefix)]),
    ...(info.u8(0) === 4 ? [] : [option("--log-level", info.u8(0))]),
    ...((flags & 1) === 0 ? [] : [option("--log-tcp-sequence")]),
    ...((flags & 2) === 0 ? [] : [option("--log-tcp-options")]),
    ...((flags & 4) === 0 ? [] : [option("--log-ip-options")]),
    ...((flags & 8) === 0 ? [] : [option("--log-uid")]),
    ...((flags & 32) === 0 ? [] : [option("--log-macdecode")]),
  ];
}

function nflog(info: XtInfo): readonly XtOption[] {
  const prefix = info.text(12, Math.min(64, info.length - 12));
  return [
    ...(prefix === "" ? [] : [option("--nflog-prefix", prefix)]),
    ...(info.u16(4) === 0 ? [] : [option("--nflog-group", info.u16(4))]),
    ...(info.u32(0) === 0 ? [] : [option("--nflog-range", info.u32(0))]),
    ...(info.u16(6) <= 1 ? [] : [option("--nflog-threshold", info.u16(6))]),
  ];
}

/** iptables-save writes every MARK as --set-xmark. */
function markAsSaved(info: XtInfo): readonly XtOption[] {
  return [option("--set-xmark", `${hexadecimal(info.u32(0))}/${hexadecimal(info.u32(4))}`)];
}

const CONNMARK_MODES = ["--set-xmark", "--save-mark", "--restore-mark"] as const;

/** Revision 2 has a shift before the mode. */
function connmark(info: XtInfo, revision: number): readonly XtOption[] {
  const mode = info.u8(revision >= 2 ? 14 : 12);
  const name = CONNMARK_MODES[mode] ?? "--set-xmark";
  if (mode === 0) return [option(name, `${hexadecimal(info.u32(0))}/${hexadecimal(info.u32(4))}`)];
  return [
    option(name),
    option("--nfmask", hexadecimal(info.u32(8))),
    option("--ctmask", hexadecimal(info.u32(4))),
  ];
}

/** struct xt_ct_target_info_v1 */
function ct(info: XtInfo): readonly XtOption[] {
  const flags = info.u16(0);
  const options: XtOption[] = [];
  // XT_CT_NOTRACK_ALIAS: it was written as -j NOTRACK.
  if ((flags & 1) !== 0 && (flags & 2) === 0) options.push(option("--notrack"));
  if (info.text(12, 16) !== "") options.push(option("--helper", info.text(12, 16)));
  if (info.length >= 60 && info.text(28, 32) !== "") options.push(option("--timeout", info.text(28, 32)));
  if (info.u16(2) !== 0) options.push(option("--zone", info.u16(2)));
  return options;
}

function tcpmss(info: XtInfo): readonly XtOption[] {
  return info.u16(0) === 0xffff ? [option("--clamp-mss-to-pmtu")] : [option("--set-mss", info.u16(0))];
}

function nfqueue(info: XtInfo, revision: number): readonly XtOption[] {
  const total = revision > 0 ? info.u16(2) : 1;
  const first = info.u16(0);
  const flags = revision >= 2 ? info.u16(4) : 0;
  return [
    total > 1 ? option("--queue-balance", `${first}:${first + total - 1}`) : option("--queue-num", first),
    ...((flags & 1) === 0 ? [] : [option("--queue-bypass")]),
    ...((flags & 2) === 0 ? [] : [option("--queue-cpu-fanout")]),
  ];
}

function tproxy(info: XtInfo, revision: number, context: XtContext): readonly XtOption[] {
  const port = revision === 0 ? info.be16(12) : info.be16(24);
  const address = info.address(8, revision === 0 ? "ip" : context.family);
  return [
    option("--on-port", port),
    option("--on-ip", address),
    option("--tproxy-mark", `${hexadecimal(info.u32(4))}/${hexadecimal(info.u32(0))}`),
  ];
}

function setTarget(info: XtInfo, revision: number, context: XtContext): readonly XtOption[] {
  const one = (name: string, offset: number): XtOption[] => {
    const index = info.u16(offset);
    if (index === 0xffff) return [];
    return [option(name, `${context.ipsets?.get(index) ?? `#${index}`} ${setDirections(info, offset)}`)];
  };
  const options = [...one("--add-set", 0), ...one("--del-set", 4)];
  // Revision 3 has a third set before the flags.
  const at = revision >= 3 ? 12 : 8;
  if (revision >= 2 && (info.u32(at) & 1) !== 0) options.push(option("--exist"));
  if (revision >= 2 && info.u32(at + 4) !== 0xffffffff) options.push(option("--timeout", info.u32(at + 4)));
  return options;
}

const TTL_MODES = ["--ttl-set", "--ttl-inc", "--ttl-dec"] as const;
const hexFour = (value: number): string => value.toString(16).padStart(4, "0");
const hexTwo = (value: number): string => `0x${value.toString(16).padStart(2, "0")}`;

/** Decoders by the target's name. */
export const TARGETS: Readonly<Record<string, XtDecoder>> = {
  CHECKSUM: () => [option("--checksum-fill")],
  CLASSIFY: (info) => [
    option("--set-class", `${hexFour(info.u32(0) >>> 16)}:${hexFour(info.u32(0) & 0xffff)}`),
  ],
  CONNMARK: connmark,
  CT: ct,
  DNAT: nat("--to-destination"),
  DSCP: (info) => [option("--set-dscp", hexTwo(info.u8(0)))],
  HL: (info) => [option((TTL_MODES[info.u8(0)] ?? "--ttl-set").replace("--ttl", "--hl"), info.u8(1))],
  LOG: log,
  MARK: markAsSaved,
  MASQUERADE: natToPorts,
  NETMAP: netmap,
  NFLOG: nflog,
  NFQUEUE: nfqueue,
  NOTRACK: () => [],
  REDIRECT: natToPorts,
  REJECT: reject,
  SET: setTarget,
  SNAT: nat("--to-source"),
  TCPMSS: tcpmss,
  TEE: (info, _revision, context) => [option("--gateway", info.address(0, context.family))],
  TOS: (info) => [option("--set-tos", `${hexTwo(info.u8(0))}/${hexTwo(info.u8(1))}`)],
  TPROXY: tproxy,
  TRACE: () => [],
  TTL: (info) => [option(TTL_MODES[info.u8(0)] ?? "--ttl-set", info.u8(1))],
};
