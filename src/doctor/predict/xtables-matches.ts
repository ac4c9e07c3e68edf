/**
 * Matches of xtables modules, as iptables-legacy holds them and iptables-nft wraps them ("match" expressions). Each
 * is read from the module's own structure (include/uapi/linux/netfilter/xt_*.h), little-endian, at the offsets given.
 */
import { ipBytes, ipText } from "../../address/ip.ts";
import { macText } from "../../address/mac.ts";
import { STATE_BITS, addressType } from "./conntrack-loads.ts";
import type { Flow } from "./flow.ts";
import { ipsetContains } from "./ipset.ts";
import type { Machine } from "./machine.ts";
import { IPS, PROTOCOL_NUMBER, type Tuple } from "./packet.ts";
import { compareBytes } from "./sets.ts";

/** A module's structure. */
export class Info {
  readonly #view: DataView;
  constructor(readonly bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }
  u8(at: number): number {
    return this.bytes[at] ?? 0;
  }
  u16(at: number): number {
    return at + 2 <= this.bytes.length ? this.#view.getUint16(at, true) : 0;
  }
  be16(at: number): number {
    return at + 2 <= this.bytes.length ? this.#view.getUint16(at, false) : 0;
  }
  u32(at: number): number {
    return at + 4 <= this.bytes.length ? this.#view.getUint32(at, true) : 0;
  }
  text(at: number, length: number): string {
    const end = this.bytes.indexOf(0, at);
    return Buffer.from(this.bytes.subarray(at, end < 0 || end > at + length ? at + length : end)).toString();
  }
}

/** Whether the packet matches. Questions nobody can answer go to the machine's oracle. */
export type Match = (machine: Machine, info: Info, revision: number) => boolean;

/** Undefined for a module we do not know. */
export function findMatch(name: string): Match | undefined {
  return Object.hasOwn(MATCHES, name) ? MATCHES[name] : undefined;
}

const portsMatch = (machine: Machine, info: Info, invertAt: number): boolean => {
  const { sourcePort, destinationPort } = machine.packet;
  const inverted = info.u8(invertAt);
  const anySource = info.u16(0) === 0 && info.u16(2) === 0xffff;
  const source =
    machine.packet.sourcePortFrom !== undefined && !anySource
      ? machine.ask("the translated source port")
      : sourcePort >= info.u16(0) && sourcePort <= info.u16(2);
  const destination = destinationPort >= info.u16(4) && destinationPort <= info.u16(6);
  return source !== ((inverted & 1) !== 0) && destination !== ((inverted & 2) !== 0);
};

const MATCHES: Readonly<Record<string, Match>> = {
  comment: () => true,

  /** struct xt_tcp: spts 0, dpts 4, option 8, flg_mask 9, flg_cmp 10, invflags 11. */
  tcp(machine, info) {
    if (machine.packet.protocol !== "tcp" || !portsMatch(machine, info, 11)) return false;
    const flags = (machine.packet.tcpFlags & info.u8(9)) === info.u8(10);
    if (flags === ((info.u8(11) & 4) !== 0)) return false;
    return info.u8(8) === 0 || machine.ask(`TCP option ${info.u8(8)}`);
  },

  /** struct xt_udp: spts 0, dpts 4, invflags 8. */
  udp: (machine, info) => machine.packet.protocol === "udp" && portsMatch(machine, info, 8),
  sctp: (machine, info) =>
    machine.packet.protocol === "sctp" &&
    (info.u32(32) === 0 ? portsMatch(machine, info, 36) : machine.ask("SCTP")),

  icmp: (machine, info) => machine.packet.protocol === "icmp" && icmpMatches(machine, info),
  icmp6: (machine, info) => machine.packet.protocol === "icmpv6" && icmpMatches(machine, info),

  /** struct xt_multiport_v1: flags 0, count 1, ports 2, pflags 32, invert 47. */
  multiport(machine, info) {
    const { sourcePort, destinationPort, protocol } = machine.packet;
    if (protocol === "icmp" || protocol === "icmpv6") return false;
    const wanted = [[sourcePort], [destinationPort], [sourcePort, destinationPort]][info.u8(0)] ?? [];
    let found = false;
    for (let i = 0; i < info.u8(1); i++) {
      const first = info.u16(2 + 2 * i);
      // A set pflag makes this port and the next the two ends of a range.
      const last = info.u8(32 + i) === 0 ? first : info.u16(2 + 2 * ++i);
      found ||= wanted.some((port) => port >= first && port <= last);
    }
    return found !== (info.u8(47) !== 0);
  },

  mark(machine, info) {
    if (machine.unknownMark !== undefined) return machine.ask(machine.unknownMark);
    return ((machine.packet.mark & info.u32(4)) >>> 0 === info.u32(0)) !== (info.u8(8) !== 0);
  },

  connmark(machine, info) {
    const { flow } = machine;
    if (flow === undefined) return false;
    if (flow.unknownMark !== undefined) return machine.ask(flow.unknownMark);
    return ((flow.mark & info.u32(4)) >>> 0 === info.u32(0)) !== (info.u8(8) !== 0);
  },

  /** struct xt_addrtype_info_v1: source 0, dest 2, flags 4; revision 0 has two inversions instead of flags. */
  addrtype(machine, info, revision) {
    const flags = revision === 0 ? (info.u32(4) === 0 ? 0 : 1) | (info.u32(8) === 0 ? 0 : 2) : info.u32(4);
    const device =
      (flags & 4) !== 0 ? machine.packet.iif : (flags & 8) !== 0 ? machine.packet.oif : undefined;
    const is = (address: string, mask: number, inverted: boolean): boolean =>
      mask === 0 || ((typeBit(addressType(machine, address, device)) & mask) !== 0) !== inverted;
    return (
      is(machine.packet.source, info.u16(0), (flags & 1) !== 0) &&
      is(machine.packet.destination, info.u16(2), (flags & 2) !== 0)
    );
  },

  conntrack: conntrackMatches,
  state: (machine, info) => (STATE_BITS[machine.packet.state] & info.u32(0)) !== 0,

  /** struct xt_set_info: index 0, dim 2, flags 3. Later revisions add counters behind. */
  set(machine, info) {
    const set = machine.view.state.ipsets.find((one) => one.index === info.u16(0));
    if (set === undefined) return machine.ask(`ipset number ${info.u16(0)}, which the snapshot lacks`);
    const found = ipsetContains(machine, set, info.u8(3));
    return found !== ((info.u8(3) & 1) !== 0);
  },

  /** struct ipt_iprange: src_min 0, src_max 16, dst_min 32, dst_max 48, flags 64. */
  iprange(machine, info) {
    const { source, destination } = machine.packet;
    const flags = info.u8(64);
    const within = (address: string, at: number): boolean => {
      const bytes = ipBytes(address);
      return (
        compareBytes(info.bytes.subarray(at, at + bytes.length), bytes) <= 0 &&
        compareBytes(info.bytes.subarray(at + 16, at + 16 + bytes.length), bytes) >= 0
      );
    };
    if ((flags & 1) !== 0 && within(source, 0) === ((flags & 16) !== 0)) return false;
    return (flags & 2) === 0 || within(destination, 32) !== ((flags & 32) !== 0);
  },

  /** struct xt_mac_info: srcaddr 0, invert 8. */
  mac(machine, info) {
    const { sourceMac } = machine.packet;
    if (machine.packet.iif === undefined) return false;
    if (sourceMac === undefined) return machine.ask("the sender's MAC address");
    return (macText(info.bytes, 0, 6) === sourceMac) !== (info.u32(8) !== 0);
  },

  physdev: physdevMatches,

  /** PACKET_HOST: a packet that is ours. */
  pkttype: (_machine, info) => (info.u32(0) === 0) !== (info.u32(4) !== 0),
  length: (machine, info) =>
    (machine.packet.length >= info.u16(0) && machine.packet.length <= info.u16(2)) !== (info.u8(4) !== 0),
  dscp: (machine, info) => (machine.packet.dscp === info.u8(0)) !== (info.u8(1) !== 0),
  ttl: (machine, info) => hopLimitMatches(machine, info),
  hl: (machine, info) => hopLimitMatches(machine, info),
  rpfilter: reversePathMatches,

  limit: (machine) => machine.ask("a rate limit", true),
  hashlimit: (machine) => machine.ask("a rate limit (hashlimit)"),
  /** struct xt_connlimit_info: mask 0, limit 16, flags 20; bit 0 turns "above" into "up to". */
  connlimit: (machine, info) =>
    machine.ask(`a limit of ${info.u32(16)} connections`, (info.u32(20) & 1) !== 0),
  /** struct xt_statistic_info: mode 0, flags 2, probability 4. */
  statistic: (machine, info) =>
    machine.ask(info.u16(0) === 0 ? "a random choice" : "every n-th packet", true),
  owner: (machine) => (machine.packet.iif === undefined ? machine.ask("the user who sends") : false),
  socket: (machine) => (machine.hook === "input" ? machine.ask("an open socket") : false),
  policy: (_machine, info) => info.u8(0) === 0,
};

function icmpMatches(machine: Machine, info: Info): boolean {
  const { icmpType, icmpCode = 0 } = machine.packet;
  // Type 255 is any; behind it stand the first and the last code.
  const hasCode = icmpCode >= info.u8(1) && icmpCode <= info.u8(2);
  const matched = info.u8(0) === 255 || (info.u8(0) === icmpType && hasCode);
  return matched !== ((info.u8(3) & 1) !== 0);
}

function typeBit(type: string): number {
  const types = [
    "unspec",
    "unicast",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "blackhole",
    "unreachable",
  ];
  return 1 << Math.max(0, types.indexOf(type));
}

/** mode 0: equal, 1: not equal, 2: less, 3: greater (ttl); hl the same. */
function hopLimitMatches(machine: Machine, info: Info): boolean {
  const { ttl } = machine.packet;
  const than = info.u8(1);
  return [ttl === than, ttl !== than, ttl < than, ttl > than][info.u8(0)] ?? false;
}

// ── conntrack ────────────────────────────────────────────────────────────────────────────────────────────────────

/** XT_CONNTRACK_* flags. */
const CT = { state: 1, proto: 2, status: 64, expires: 128, direction: 4096 } as const;
/** XT_CONNTRACK_STATE_SNAT, DNAT, UNTRACKED. */
const CT_STATE = { snat: 64, dnat: 128, untracked: 256 } as const;

function stateBits(machine: Machine): number {
  const { packet, flow } = machine;
  if (packet.state === "untracked") return CT_STATE.untracked;
  let bits = STATE_BITS[packet.state];
  if (flow !== undefined && (flow.status & IPS.srcNat) !== 0) bits |= CT_STATE.snat;
  if (flow !== undefined && (flow.status & IPS.dstNat) !== 0) bits |= CT_STATE.dnat;
  return bits;
}

/** struct xt_conntrack_mtinfo1…3: eight addresses, then numbers; revision 1 has masks of one byte. */
function conntrackMatches(machine: Machine, info: Info, revision: number): boolean {
  const flags = info.u16(146);
  const inverted = info.u16(148);
  const is = (flag: number, test: () => boolean): boolean =>
    (flags & flag) === 0 || test() !== ((inverted & flag) !== 0);
  const stateMask = revision === 1 ? info.u8(150) : info.u16(150);
  const statusMask = revision === 1 ? info.u8(151) : info.u16(152);
  if (!is(CT.state, () => (stateBits(machine) & stateMask) !== 0)) return false;
  const { flow } = machine;
  if (flow === undefined) return (flags & ~CT.state) === 0;
  if ((flags & CT.direction) !== 0) {
    // XT_CONNTRACK_DIRECTION matches the original direction; inverted, the reply's.
    if (machine.packet.reply !== ((inverted & CT.direction) !== 0)) return false;
  }
  return (
    is(CT.proto, () => PROTOCOL_NUMBER[machine.packet.protocol] === info.u16(136)) &&
    is(CT.status, () => (flow.status & statusMask) !== 0) &&
    is(CT.expires, () => machine.ask("how long the connection will be remembered")) &&
    tuplesMatch(machine, info, flow, is)
  );
}

function tuplesMatch(
  machine: Machine,
  info: Info,
  flow: Flow,
  is: (flag: number, test: () => boolean) => boolean,
): boolean {
  const length = machine.packet.family === 4 ? 4 : 16;
  const address = (at: number, text: string): boolean => {
    const bytes = ipBytes(text);
    for (let i = 0; i < length; i++) {
      if (((bytes[i]! ^ info.u8(at + i)) & info.u8(at + 16 + i)) !== 0) return false;
    }
    return true;
  };
  const port = (at: number, highAt: number, value: number): boolean => {
    const low = info.be16(at);
    const high = info.be16(highAt);
    return high === 0 ? value === low : value >= low && value <= high;
  };
  const sides: readonly (readonly [Tuple, number])[] = [
    [flow.original, 0],
    [flow.reply, 1],
  ];
  return sides.every(
    ([tuple, side]) =>
      is(4 << (2 * side), () => address(64 * side, tuple.source)) &&
      is(8 << (2 * side), () => address(64 * side + 32, tuple.destination)) &&
      is(256 << (2 * side), () => port(138 + 4 * side, 154 + 4 * side, tuple.sourcePort)) &&
      is(512 << (2 * side), () => port(140 + 4 * side, 156 + 4 * side, tuple.destinationPort)),
  );
}

// ── devices and routes ───────────────────────────────────────────────────────────────────────────────────────────

/** struct xt_physdev_info: physindev 0, in_mask 16, physoutdev 32, out_mask 48, invert 64, bitmask 65. */
function physdevMatches(machine: Machine, info: Info): boolean {
  const { physicalIn, physicalOut } = machine.packet;
  const inverted = info.u8(64);
  const wanted = info.u8(65);
  const named = (at: number, name: string | undefined): boolean => {
    const bytes = Buffer.alloc(16);
    bytes.write(name ?? "");
    for (let i = 0; i < 16; i++)
      if (((bytes[i]! ^ info.u8(at + i)) & info.u8(at + 16 + i)) !== 0) return false;
    return true;
  };
  const is = (bit: number, value: () => boolean): boolean =>
    (wanted & bit) === 0 || value() !== ((inverted & bit) !== 0);
  return (
    is(4, () => physicalIn !== undefined && physicalOut !== undefined) &&
    is(8, () => physicalIn !== undefined) &&
    is(16, () => physicalOut !== undefined) &&
    is(1, () => named(0, physicalIn)) &&
    is(2, () => named(32, physicalOut))
  );
}

/** struct xt_rpfilter_info: flags 0 (loose 1, validmark 2, accept-local 4, invert 8). */
function reversePathMatches(machine: Machine, info: Info): boolean {
  const { packet, view } = machine;
  const flags = info.u8(0);
  const inverted = (flags & 8) !== 0;
  if (view.link(packet.iif)?.layer === "loopback") return !inverted;
  const result = view.fib.predict({
    destination: packet.source,
    source: packet.destination,
    ...((flags & 2) === 0 ? {} : { mark: packet.mark }),
  });
  if (result.kind !== "route") return inverted;
  if (result.type !== "unicast" && !(result.type === "local" && (flags & 4) !== 0)) return inverted;
  return ((flags & 1) !== 0 || result.link.name === packet.iif) !== inverted;
}

/** The address in a structure, as text. */
export function infoAddress(info: Info, at: number, family: 4 | 6): string {
  return ipText(info.bytes, at, at + (family === 4 ? 4 : 16));
}
