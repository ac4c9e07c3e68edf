/**
 * What a capture shall see, said in words, and the classic BPF program (the kernel's
 * Documentation/networking/filter.rst) that the kernel runs for it.
 */
import { ICMP_ERRORS } from "../icmp.ts";
import { IP_PROTOCOL } from "../ip-protocol.ts";
import { ETH_P } from "../link-layer.ts";
import { cidrContains, parseCidr } from "../../address/cidr.ts";
import { ipBytes, type IpFamily } from "../../address/ip.ts";
import { IP_HEADER_BYTES, IPV4_FRAGMENT, IPV6_EXTENSION, isIcmpError, type DecodedPacket } from "./packet.ts";
import { TCP_FLAG } from "../tcp.ts";

/** The protocols of which a filter can speak by name. */
export type IpProtocolName = "icmp" | "tcp" | "udp" | "icmpv6" | "sctp";

/** One kind of packet. Every field given must hold; ends are addresses or CIDRs. */
export interface PacketMatch {
  readonly family?: IpFamily;
  /** `arp` is the only one that is not carried in IP. */
  readonly protocol?: IpProtocolName | "arp";
  readonly source?: string;
  readonly destination?: string;
  /** Either end. */
  readonly host?: string;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** Either end. */
  readonly port?: number;
  /** ICMP and ICMPv6 messages that report what became of another packet. */
  readonly icmpErrors?: true;
  /** The two packets that begin a TCP connection. */
  readonly tcpSyn?: true;
}

/** Any of these kinds; an empty list is every packet. */
export type PacketFilter = PacketMatch | readonly PacketMatch[];

// ── Exact, on a decoded packet ───────────────────────────────────────────────────────────────────────────────────

/** A test whether a decoded packet is one of the kinds. A fragment without ports matches by its addresses. */
export function packetTest(filter: PacketFilter): (packet: DecodedPacket) => boolean {
  const tests = listOf(filter).map(matchTest);
  return tests.length === 0 ? () => true : (packet) => tests.some((test) => test(packet));
}

function matchTest(match: PacketMatch): (packet: DecodedPacket) => boolean {
  const ends = endsTest(match);
  if (match.protocol === "arp") {
    return ({ arp }) => arp !== undefined && ends(arp.senderIp, arp.targetIp);
  }
  // Only a match that asks nothing takes a packet without IP.
  const takesAll = Object.values(match).every((value) => value === undefined);
  const protocol = match.protocol === undefined ? undefined : IP_PROTOCOL[match.protocol];
  return (packet) => {
    const { ip } = packet;
    if (ip === undefined) return takesAll;
    if (match.family !== undefined && match.family !== ip.family) return false;
    if (protocol !== undefined && ip.protocol !== protocol) return false;
    if (match.icmpErrors === true && !isIcmpError(packet)) return false;
    if (match.tcpSyn === true && packet.tcp?.flags.includes("SYN") !== true) return false;
    return portsMatch(match, packet) && ends(ip.source, ip.destination);
  };
}

function endsTest(match: PacketMatch): (source: string, destination: string) => boolean {
  const source = match.source === undefined ? undefined : insideTest(match.source);
  const destination = match.destination === undefined ? undefined : insideTest(match.destination);
  const host = match.host === undefined ? undefined : insideTest(match.host);
  return (from, to) =>
    source?.(from) !== false && destination?.(to) !== false && (host === undefined || host(from) || host(to));
}

/** A whole address is compared as text. */
function insideTest(text: string): (address: string) => boolean {
  const cidr = parseCidr(text);
  if (cidr.first === cidr.last) return (address) => address === cidr.address;
  return (address) => cidrContains(cidr, address);
}

function portsMatch(match: PacketMatch, packet: DecodedPacket): boolean {
  const { sourcePort, destinationPort, port } = match;
  if (sourcePort === undefined && destinationPort === undefined && port === undefined) return true;
  const ports = packet.tcp ?? packet.udp ?? packet.sctp;
  if (ports === undefined) return (packet.ip?.fragmentOffset ?? 0) > 0;
  if (sourcePort !== undefined && ports.sourcePort !== sourcePort) return false;
  if (destinationPort !== undefined && ports.destinationPort !== destinationPort) return false;
  return port === undefined || ports.sourcePort === port || ports.destinationPort === port;
}

function listOf(filter: PacketFilter): readonly PacketMatch[] {
  return Array.isArray(filter) ? (filter as readonly PacketMatch[]) : [filter as PacketMatch];
}

// ── In the kernel ────────────────────────────────────────────────────────────────────────────────────────────────

/** include/uapi/linux/bpf_common.h and filter.h */
const LD_W_ABS = 0x20;
const LD_H_ABS = 0x28;
const LD_B_ABS = 0x30;
const LD_H_IND = 0x48;
const LD_B_IND = 0x50;
const LDX_B_MSH = 0xb1;
const ALU_AND_K = 0x54;
const JMP_JEQ_K = 0x15;
const JMP_JSET_K = 0x45;
const RET_K = 0x06;
const SKF_AD_PROTOCOL = -0x1000;
/** Offsets from the network header, whatever the link layer is. */
const NET = -0x10_0000;

/** Where the flags stand in a TCP header, and the one that begins a connection. */
const TCP_FLAGS_AT = 13;
/** Behind one of them the transport header stands elsewhere. */
const EXTENSION_HEADERS = Object.values(IPV6_EXTENSION);
/** Where IPv6's transport header stands, without any. */
const TRANSPORT6 = NET + IP_HEADER_BYTES[6];

/**
 * The program (an array of struct sock_filter) that lets through at least what the filter means, at most `snapLength`
 * bytes of each packet. IPv6 extension headers and later fragments hide the ports: such packets pass, and
 * packetTest decides about them.
 */
export function compilePacketFilter(filter: PacketFilter, snapLength: number): Uint8Array {
  const program = new Program();
  const matches = listOf(filter);
  for (const settled of matches.flatMap(settle)) {
    writeMatch(program, settled);
    program.accept(snapLength);
    program.label("next");
  }
  if (matches.length === 0) program.accept(snapLength);
  program.accept(0);
  return program.assemble();
}

/** Instructions with jumps to labels. `next` always means the label of that name that comes after the jump. */
class Program {
  readonly #code: { code: number; k: number; whenTrue?: string; whenFalse?: string }[] = [];
  readonly #labels: { readonly name: string; readonly at: number }[] = [];

  load(code: number, k: number): void {
    this.#code.push({ code, k });
  }

  /** Goes on when the loaded value is k, else to the next match. */
  mustEqual(k: number): void {
    this.#code.push({ code: JMP_JEQ_K, k, whenFalse: "next" });
  }

  /** Goes on when the loaded value is one of these, else to the next match. */
  mustBeOneOf(values: readonly number[]): void {
    for (const k of values.slice(0, -1)) this.#code.push({ code: JMP_JEQ_K, k, whenTrue: "found" });
    this.mustEqual(values.at(-1)!);
    this.label("found");
  }

  /** Takes the packet, undecided, when the loaded value is one of these. */
  passIfOneOf(values: readonly number[]): void {
    for (const k of values) this.#code.push({ code: JMP_JEQ_K, k, whenTrue: "pass" });
  }

  passIfAnyBit(k: number): void {
    this.#code.push({ code: JMP_JSET_K, k, whenTrue: "pass" });
  }

  accept(length: number): void {
    this.label("pass");
    this.#code.push({ code: RET_K, k: length });
  }

  label(name: string): void {
    this.#labels.push({ name, at: this.#code.length });
  }

  assemble(): Uint8Array {
    const bytes = new Uint8Array(this.#code.length * 8);
    const view = new DataView(bytes.buffer);
    const distance = (from: number, name: string | undefined): number =>
      name === undefined ? 0 : this.#labels.find((l) => l.name === name && l.at > from)!.at - from - 1;
    for (const [at, instruction] of this.#code.entries()) {
      view.setUint16(at * 8, instruction.code, true);
      view.setUint8(at * 8 + 2, distance(at, instruction.whenTrue));
      view.setUint8(at * 8 + 3, distance(at, instruction.whenFalse));
      view.setUint32(at * 8 + 4, instruction.k >>> 0, true);
    }
    return bytes;
  }
}

/** A match with its family settled, so that every offset is known, and either-end fields written out. */
type SettledMatch = Omit<PacketMatch, "host" | "port">;

function settle(match: PacketMatch): SettledMatch[] {
  if (match.protocol === "arp") return splitEnds(match);
  const families = new Set<IpFamily>();
  for (const end of [match.source, match.destination, match.host]) {
    if (end !== undefined) families.add(parseCidr(end).family);
  }
  if (match.family !== undefined) families.add(match.family);
  if (match.protocol === "icmp") families.add(4);
  if (match.protocol === "icmpv6") families.add(6);
  // Two families at once describe no packet; none named means either, and without any wish every packet.
  if (families.size > 1) return [];
  if (families.size === 1) return splitEnds({ ...match, family: [...families][0]! });
  if (Object.values(match).every((value) => value === undefined)) return [{}];
  return ([4, 6] as const).flatMap((family) => splitEnds({ ...match, family }));
}

function splitEnds(match: PacketMatch): SettledMatch[] {
  const { host, port, ...rest } = match;
  // A field beside its either-end twin stays in only one of the halves; packetTest settles the rest.
  const byHost =
    host === undefined
      ? [rest]
      : [
          { source: host, ...rest },
          { destination: host, ...rest },
        ];
  return byHost.flatMap((half) =>
    port === undefined
      ? [half]
      : [
          { sourcePort: port, ...half },
          { destinationPort: port, ...half },
        ],
  );
}

function writeMatch(program: Program, match: SettledMatch): void {
  const etherType =
    match.protocol === "arp"
      ? ETH_P.arp
      : match.family === 4
        ? ETH_P.ip
        : match.family === 6
          ? ETH_P.ip6
          : undefined;
  if (etherType === undefined) return;
  program.load(LD_H_ABS, SKF_AD_PROTOCOL);
  program.mustEqual(etherType);
  const [sourceAt, destinationAt] =
    etherType === ETH_P.ip ? [12, 16] : etherType === ETH_P.arp ? [14, 24] : [8, 24];
  if (match.source !== undefined) writePrefix(program, match.source, sourceAt);
  if (match.destination !== undefined) writePrefix(program, match.destination, destinationAt);
  if (match.protocol === "arp") return;
  if (match.family === 4) writeTransport4(program, match);
  else writeTransport6(program, match);
}

/** The bits of a prefix, 32 at a time. */
function writePrefix(program: Program, text: string, at: number): void {
  const cidr = parseCidr(text);
  const view = new DataView(ipBytes(cidr.network).buffer);
  for (let offset = 0; offset * 8 < cidr.prefixLength; offset += 4) {
    const bits = Math.min(32, cidr.prefixLength - offset * 8);
    program.load(LD_W_ABS, NET + at + offset);
    if (bits < 32) program.load(ALU_AND_K, 0xffff_ffff << (32 - bits));
    program.mustEqual(view.getUint32(offset));
  }
}

function protocolsOf(match: SettledMatch): number[] {
  if (match.icmpErrors === true) return [IP_PROTOCOL[match.family === 4 ? "icmp" : "icmpv6"]];
  if (match.tcpSyn === true) return [IP_PROTOCOL.tcp];
  if (match.protocol !== undefined && match.protocol !== "arp") return [IP_PROTOCOL[match.protocol]];
  const hasPorts = match.sourcePort !== undefined || match.destinationPort !== undefined;
  return hasPorts ? [IP_PROTOCOL.tcp, IP_PROTOCOL.udp, IP_PROTOCOL.sctp] : [];
}

function writeTransport4(program: Program, match: SettledMatch): void {
  const protocols = protocolsOf(match);
  if (protocols.length === 0) return;
  program.load(LD_B_ABS, NET + 9);
  program.mustBeOneOf(protocols);
  const { icmpErrors, tcpSyn, sourcePort, destinationPort } = match;
  if ([icmpErrors, tcpSyn, sourcePort, destinationPort].every((wish) => wish === undefined)) return;
  program.load(LD_H_ABS, NET + 6);
  program.passIfAnyBit(IPV4_FRAGMENT.offset);
  program.load(LDX_B_MSH, NET);
  if (match.icmpErrors === true) {
    program.load(LD_B_IND, NET);
    program.mustBeOneOf(ICMP_ERRORS[4]);
  }
  if (tcpSyn === true) {
    program.load(LD_B_IND, NET + TCP_FLAGS_AT);
    program.load(ALU_AND_K, TCP_FLAG.syn);
    program.mustEqual(TCP_FLAG.syn);
  }
  if (sourcePort !== undefined) {
    program.load(LD_H_IND, NET);
    program.mustEqual(sourcePort);
  }
  if (destinationPort !== undefined) {
    program.load(LD_H_IND, NET + 2);
    program.mustEqual(destinationPort);
  }
}

function writeTransport6(program: Program, match: SettledMatch): void {
  const protocols = protocolsOf(match);
  if (protocols.length === 0) return;
  program.load(LD_B_ABS, NET + 6);
  program.passIfOneOf(EXTENSION_HEADERS);
  program.mustBeOneOf(protocols);
  if (match.icmpErrors === true) {
    program.load(LD_B_ABS, TRANSPORT6);
    program.mustBeOneOf(ICMP_ERRORS[6]);
  }
  if (match.tcpSyn === true) {
    program.load(LD_B_ABS, TRANSPORT6 + TCP_FLAGS_AT);
    program.load(ALU_AND_K, TCP_FLAG.syn);
    program.mustEqual(TCP_FLAG.syn);
  }
  if (match.sourcePort !== undefined) {
    program.load(LD_H_ABS, TRANSPORT6);
    program.mustEqual(match.sourcePort);
  }
  if (match.destinationPort !== undefined) {
    program.load(LD_H_ABS, TRANSPORT6 + 2);
    program.mustEqual(match.destinationPort);
  }
}
