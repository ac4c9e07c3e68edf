/** xtables matches by name: their structures (include/uapi/linux/netfilter/xt_*.h) as iptables options. */
import { macText } from "../../address/mac.ts";
import {
  bitNames,
  markText,
  maskedAddress,
  option,
  portRange,
  type XtContext,
  type XtInfo,
  type XtOption,
} from "./info.ts";

export type XtDecoder = (info: XtInfo, revision: number, context: XtContext) => readonly XtOption[];

// ── Conntrack ────────────────────────────────────────────────────────────────────────────────────────────────────

const STATES = [
  [1, "INVALID"],
  [8, "NEW"],
  [4, "RELATED"],
  [2, "ESTABLISHED"],
  [256, "UNTRACKED"],
  [64, "SNAT"],
  [128, "DNAT"],
] as const;

const STATUSES = [
  [1, "EXPECTED"],
  [2, "SEEN_REPLY"],
  [4, "ASSURED"],
  [8, "CONFIRMED"],
] as const;

/** XT_CONNTRACK_* bits: which parts are asked for. */
const CT = {
  state: 1,
  proto: 2,
  origsrc: 4,
  origdst: 8,
  replsrc: 16,
  repldst: 32,
  status: 64,
  expires: 128,
  origsrcport: 256,
  origdstport: 512,
  replsrcport: 1024,
  repldstport: 2048,
  direction: 4096,
  stateAlias: 8192,
} as const;

/** struct xt_conntrack_mtinfo2 and 3: four address/mask pairs, then the numbers. */
function conntrack(info: XtInfo, revision: number, context: XtContext): readonly XtOption[] {
  const flags = info.u16(146);
  const inverted = info.u16(148);
  const not = (bit: number): boolean => (inverted & bit) !== 0;
  if ((flags & CT.stateAlias) !== 0)
    return [option("--state", bitNames(info.u16(150), STATES), not(CT.state))];
  const options: XtOption[] = [];
  if ((flags & CT.state) !== 0)
    options.push(option("--ctstate", bitNames(info.u16(150), STATES), not(CT.state)));
  if ((flags & CT.proto) !== 0) options.push(option("--ctproto", info.u16(136), not(CT.proto)));
  const size = context.family === "ip" ? 4 : 16;
  for (const [index, name] of (["origsrc", "origdst", "replsrc", "repldst"] as const).entries()) {
    if ((flags & CT[name]) === 0) continue;
    const address = info.address(index * 32, context.family);
    const mask = info.bytes.subarray(index * 32 + 16, index * 32 + 16 + size);
    const text = mask.every((byte) => byte === 0xff) ? address : maskedAddress(address, mask);
    options.push(option(`--ct${name}`, text, not(CT[name])));
  }
  for (const [index, name] of (
    ["origsrcport", "origdstport", "replsrcport", "repldstport"] as const
  ).entries()) {
    if ((flags & CT[name]) === 0) continue;
    // Revision 3 has ranges, in host order; revision 2 one port in network order.
    const text =
      revision >= 3
        ? portRange(info.u16(138 + index * 2), info.u16(154 + index * 2))
        : info.be16(138 + index * 2);
    options.push(option(`--ct${name}`, text, not(CT[name])));
  }
  if ((flags & CT.status) !== 0) {
    const status = info.u16(152);
    options.push(option("--ctstatus", status === 0 ? "NONE" : bitNames(status, STATUSES), not(CT.status)));
  }
  if ((flags & CT.expires) !== 0) {
    options.push(option("--ctexpire", portRange(info.u32(128), info.u32(132)), not(CT.expires)));
  }
  if ((flags & CT.direction) !== 0) options.push(option("--ctdir", not(CT.direction) ? "REPLY" : "ORIGINAL"));
  return options;
}

// ── Addresses ────────────────────────────────────────────────────────────────────────────────────────────────────

/** Bits of RTN_* (linux/rtnetlink.h). */
const ADDRESS_TYPES = [
  [1, "UNSPEC"],
  [2, "UNICAST"],
  [4, "LOCAL"],
  [8, "BROADCAST"],
  [16, "ANYCAST"],
  [32, "MULTICAST"],
  [64, "BLACKHOLE"],
  [128, "UNREACHABLE"],
  [256, "PROHIBIT"],
  [512, "THROW"],
  [1024, "NAT"],
  [2048, "XRESOLVE"],
] as const;

function addrtype(info: XtInfo, revision: number): readonly XtOption[] {
  const flags = info.u32(4);
  const source = revision === 0 ? flags !== 0 : (flags & 1) !== 0;
  const destination = revision === 0 ? info.u32(8) !== 0 : (flags & 2) !== 0;
  const options: XtOption[] = [];
  if (info.u16(0) !== 0) options.push(option("--src-type", bitNames(info.u16(0), ADDRESS_TYPES), source));
  if (info.u16(2) !== 0)
    options.push(option("--dst-type", bitNames(info.u16(2), ADDRESS_TYPES), destination));
  if (revision > 0 && (flags & 4) !== 0) options.push(option("--limit-iface-in"));
  if (revision > 0 && (flags & 8) !== 0) options.push(option("--limit-iface-out"));
  return options;
}

function iprange(info: XtInfo, _revision: number, context: XtContext): readonly XtOption[] {
  const flags = info.u8(64);
  const range = (offset: number): string =>
    `${info.address(offset, context.family)}-${info.address(offset + 16, context.family)}`;
  return [
    ...((flags & 1) === 0 ? [] : [option("--src-range", range(0), (flags & 16) !== 0)]),
    ...((flags & 2) === 0 ? [] : [option("--dst-range", range(32), (flags & 32) !== 0)]),
  ];
}

/** struct xt_set_info: index of the set, dimensions, direction bits from bit 1, inversion in bit 0. */
function set(info: XtInfo, _revision: number, context: XtContext): readonly XtOption[] {
  const index = info.u16(0);
  const name = context.ipsets?.get(index) ?? `#${index}`;
  return [option("--match-set", `${name} ${setDirections(info, 0)}`, (info.u8(3) & 1) !== 0)];
}

/** `src,dst` of a struct xt_set_info at an offset. */
export function setDirections(info: XtInfo, offset: number): string {
  const parts: string[] = [];
  for (let part = 1; part <= info.u8(offset + 2); part++) {
    parts.push((info.u8(offset + 3) & (1 << part)) === 0 ? "dst" : "src");
  }
  return parts.join(",");
}

// ── Transport protocols ──────────────────────────────────────────────────────────────────────────────────────────

const TCP_FLAGS = [
  [1, "FIN"],
  [2, "SYN"],
  [4, "RST"],
  [8, "PSH"],
  [16, "ACK"],
  [32, "URG"],
] as const;

/** `SYN,RST,ACK`; `NONE` for no flag. */
export function tcpFlagNames(flags: number): string {
  return flags === 0 ? "NONE" : bitNames(flags, TCP_FLAGS);
}

function ports(info: XtInfo, name: string, offset: number, not: boolean): XtOption[] {
  const [first, last] = [info.u16(offset), info.u16(offset + 2)];
  return first === 0 && last === 0xffff && !not ? [] : [option(name, portRange(first, last), not)];
}

function tcp(info: XtInfo): readonly XtOption[] {
  const inverted = info.u8(11);
  const options = [
    ...ports(info, "--sport", 0, (inverted & 1) !== 0),
    ...ports(info, "--dport", 4, (inverted & 2) !== 0),
  ];
  if (info.u8(8) !== 0) options.push(option("--tcp-option", info.u8(8), (inverted & 8) !== 0));
  if (info.u8(9) !== 0) {
    const flags = `${tcpFlagNames(info.u8(9))} ${tcpFlagNames(info.u8(10))}`;
    options.push(option("--tcp-flags", flags, (inverted & 4) !== 0));
  }
  return options;
}

function udp(info: XtInfo): readonly XtOption[] {
  const inverted = info.u8(8);
  return [
    ...ports(info, "--sport", 0, (inverted & 1) !== 0),
    ...ports(info, "--dport", 4, (inverted & 2) !== 0),
  ];
}

/** struct xt_sctp_info: ports, a bitmap of chunk types (256 bytes, of which it uses 32), how to match them, four flag entries, flags. */
function sctp(info: XtInfo): readonly XtOption[] {
  const flags = info.u32(284);
  const inverted = info.u32(288);
  return [
    ...((flags & 1) === 0 ? [] : ports(info, "--sport", 4, (inverted & 1) !== 0)),
    ...((flags & 2) === 0 ? [] : ports(info, "--dport", 0, (inverted & 2) !== 0)),
    ...((flags & 4) === 0 ? [] : [option("--chunk-types", chunkTypes(info), (inverted & 4) !== 0)]),
  ];
}

/** `any 0,3`: how, and the numbers of the chunk types. */
function chunkTypes(info: XtInfo): string {
  const types: number[] = [];
  for (let type = 0; type < 256; type++) {
    if (((info.u32(8 + Math.floor(type / 32) * 4) >>> (type % 32)) & 1) === 1) types.push(type);
  }
  return `${["any", "all", "only"][info.u32(264) - 1] ?? "any"} ${types.join(",")}`;
}

function icmp(name: string): XtDecoder {
  return (info) => {
    const type = info.u8(0);
    const any = info.u8(1) === 0 && info.u8(2) === 0xff;
    if (type === 0xff && any) return [option(name, "any", (info.u8(3) & 1) !== 0)];
    return [option(name, any ? type : `${type}/${info.u8(1)}`, (info.u8(3) & 1) !== 0)];
  };
}

const MULTIPORT = ["--sports", "--dports", "--ports"] as const;

function multiport(info: XtInfo): readonly XtOption[] {
  const count = Math.min(info.u8(1), 15);
  const list: string[] = [];
  for (let index = 0; index < count; index++) {
    const first = info.u16(2 + index * 2);
    const isRange = info.u8(32 + index) !== 0;
    if (isRange) index++;
    list.push(isRange ? `${first}:${info.u16(2 + index * 2)}` : String(first));
  }
  return [option(MULTIPORT[info.u8(0)] ?? "--ports", list.join(","), info.u8(47) !== 0)];
}

// ── Rates ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** XT_LIMIT_SCALE: an average is the time between two packets in 1/10000 s. */
const LIMIT_SCALE = 10_000;
const RATES = [
  ["day", 86_400],
  ["hour", 3600],
  ["min", 60],
  ["sec", 1],
] as const;

/** `5/min`: the largest unit whose rate, as a whole number, is close enough to the time between two packets. */
export function rateText(perPacket: number, scale: number): string {
  let [name, seconds]: readonly [string, number] = RATES[0];
  for (const [shorter, unit] of RATES.slice(1)) {
    const units = unit * scale;
    if (perPacket > units || units / perPacket < units % perPacket) break;
    [name, seconds] = [shorter, unit];
  }
  return `${Math.floor((seconds * scale) / perPacket)}/${name}`;
}

function limit(info: XtInfo): readonly XtOption[] {
  const options = [option("--limit", rateText(info.u32(0), LIMIT_SCALE))];
  if (info.u32(4) !== 5) options.push(option("--limit-burst", info.u32(4)));
  return options;
}

/** struct xt_statistic_info; a probability is a share of 0x80000000. */
function statistic(info: XtInfo): readonly XtOption[] {
  const not = (info.u16(2) & 1) !== 0;
  if (info.u16(0) === 0) {
    const probability = (info.u32(4) / 0x8000_0000).toFixed(11);
    return [option("--mode", "random"), option("--probability", probability, not)];
  }
  return [option("--mode", "nth"), option("--every", info.u32(4) + 1, not), option("--packet", info.u32(8))];
}

/** struct xt_connlimit_info */
function connlimit(info: XtInfo, _revision: number, context: XtContext): readonly XtOption[] {
  const flags = info.u32(20);
  const mask = info.bytes.subarray(0, context.family === "ip" ? 4 : 16);
  let length = 0;
  for (const byte of mask) for (let bit = 128; bit > 0 && (byte & bit) !== 0; bit >>= 1) length++;
  return [
    option((flags & 1) === 0 ? "--connlimit-above" : "--connlimit-upto", info.u32(16)),
    option("--connlimit-mask", length),
    option((flags & 2) === 0 ? "--connlimit-saddr" : "--connlimit-daddr"),
  ];
}

// ── The packet and its way ───────────────────────────────────────────────────────────────────────────────────────

function mark(info: XtInfo): readonly XtOption[] {
  return [option("--mark", markText(info.u32(0), info.u32(4)), info.u8(8) !== 0)];
}

function physdev(info: XtInfo): readonly XtOption[] {
  const inverted = info.u8(64);
  const wanted = info.u8(65);
  const not = (bit: number): boolean => (inverted & bit) !== 0;
  const name = (offset: number): string => {
    const text = info.text(offset, 16);
    // A mask that ends with the name, and not with its NUL, is a wildcard.
    return info.u8(offset + 16 + text.length) === 0 ? `${text}+` : text;
  };
  return [
    ...((wanted & 8) === 0 ? [] : [option("--physdev-is-in", undefined, not(8))]),
    ...((wanted & 1) === 0 ? [] : [option("--physdev-in", name(0), not(1))]),
    ...((wanted & 16) === 0 ? [] : [option("--physdev-is-out", undefined, not(16))]),
    ...((wanted & 2) === 0 ? [] : [option("--physdev-out", name(32), not(2))]),
    ...((wanted & 4) === 0 ? [] : [option("--physdev-is-bridged", undefined, not(4))]),
  ];
}

function owner(info: XtInfo): readonly XtOption[] {
  const wanted = info.u8(16);
  const inverted = info.u8(17);
  const range = (offset: number): string => {
    const [first, last] = [info.u32(offset), info.u32(offset + 4)];
    return first === last ? String(first) : `${first}-${last}`;
  };
  return [
    ...((wanted & 4) === 0 ? [] : [option("--socket-exists", undefined, (inverted & 4) !== 0)]),
    ...((wanted & 1) === 0 ? [] : [option("--uid-owner", range(0), (inverted & 1) !== 0)]),
    ...((wanted & 2) === 0 ? [] : [option("--gid-owner", range(8), (inverted & 2) !== 0)]),
  ];
}

/** Revision 1 has a path of PATH_MAX and the class behind it, revision 2 either of both in one place. */
function cgroup(info: XtInfo, revision: number): readonly XtOption[] {
  if (revision === 0) return [option("--cgroup", info.u32(0), info.u32(4) !== 0)];
  const classAt = revision === 1 ? 4100 : 4;
  return [
    ...(info.u8(0) === 0
      ? []
      : [option("--path", info.text(4, revision === 1 ? 4096 : 512), info.u8(2) !== 0)]),
    ...(info.u8(1) === 0 ? [] : [option("--cgroup", info.u32(classAt), info.u8(3) !== 0)]),
  ];
}

const PACKET_TYPES = ["unicast", "broadcast", "multicast"] as const;
const TTL_MODES = ["--ttl-eq", "--ttl-eq", "--ttl-lt", "--ttl-gt"] as const;

function ttl(prefix: string): XtDecoder {
  return (info) => {
    const mode = info.u8(0);
    return [option((TTL_MODES[mode] ?? "--ttl-eq").replace("--ttl", prefix), info.u8(1), mode === 1)];
  };
}

function rpfilter(info: XtInfo): readonly XtOption[] {
  const flags = info.u8(0);
  const names = ["--loose", "--validmark", "--accept-local", "--invert"];
  return names.filter((_, bit) => (flags & (1 << bit)) !== 0).map((name) => option(name));
}

function spiRange(info: XtInfo): readonly XtOption[] {
  const [first, last] = [info.u32(0), info.u32(4)];
  return first === 0 && last === 0xffffffff
    ? []
    : [option("--espspi", portRange(first, last), (info.u8(8) & 1) !== 0)];
}

function lengthRange(info: XtInfo): readonly XtOption[] {
  return [option("--length", portRange(info.u16(0), info.u16(2)), info.u8(4) !== 0)];
}

/** Decoders by the module's name. */
export const MATCHES: Readonly<Record<string, XtDecoder>> = {
  addrtype,
  comment: (info) => [option("--comment", info.text(0, Math.min(256, info.length)))],
  connlimit,
  connmark: mark,
  conntrack,
  cgroup,
  cpu: (info) => [option("--cpu", info.u32(0), info.u32(4) !== 0)],
  dscp: (info) => [option("--dscp", `0x${info.u8(0).toString(16).padStart(2, "0")}`, info.u8(1) !== 0)],
  esp: spiRange,
  helper: (info) => [option("--helper", info.text(4, 30), info.u32(0) !== 0)],
  hl: ttl("--hl"),
  icmp: icmp("--icmp-type"),
  icmp6: icmp("--icmpv6-type"),
  iprange,
  length: lengthRange,
  limit,
  mac: (info) => [option("--mac-source", macText(info.bytes, 0, 6), info.u32(8) !== 0)],
  mark,
  multiport,
  owner,
  physdev,
  pkttype: (info) => [option("--pkt-type", PACKET_TYPES[info.u32(0)] ?? info.u32(0), info.u32(4) !== 0)],
  rpfilter,
  sctp,
  set,
  statistic,
  tcp,
  tos: (info) => [option("--tos", `${hexTwo(info.u8(1))}/${hexTwo(info.u8(0))}`, info.u8(2) !== 0)],
  ttl: ttl("--ttl"),
  udp,
};

function hexTwo(value: number): string {
  return `0x${value.toString(16).padStart(2, "0")}`;
}
