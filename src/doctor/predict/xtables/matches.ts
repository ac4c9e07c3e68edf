/** Whether a packet matches, by the value of each xtables match. Questions nobody can answer go to the oracle. */
import type { Range, Wanted, XtDescription } from "../../../linux/xtables/describe.ts";
import { addrtype } from "../../../linux/xtables/matches/addrtype.ts";
import { comment } from "../../../linux/xtables/matches/comment.ts";
import {
  cluster,
  connbytes,
  connlabel,
  helper,
  length,
  nfacct,
  quota,
} from "../../../linux/xtables/matches/connection.ts";
import { connlimit } from "../../../linux/xtables/matches/connlimit.ts";
import { conntrack, state } from "../../../linux/xtables/matches/conntrack.ts";
import {
  cpu,
  devgroup,
  mac,
  physdev,
  pkttype,
  realm,
  rpfilter,
} from "../../../linux/xtables/matches/devices.ts";
import { icmp, icmp6, type IcmpMatch } from "../../../linux/xtables/matches/icmp.ts";
import {
  dscp,
  ecn,
  frag,
  hl,
  tos,
  ttl,
  type HopLimitMatch,
} from "../../../linux/xtables/matches/ip-header.ts";
import { iprange } from "../../../linux/xtables/matches/iprange.ts";
import { ah, esp, policy } from "../../../linux/xtables/matches/policy.ts";
import { connmark, mark } from "../../../linux/xtables/matches/mark.ts";
import { bpf, recent, string, time, u32 } from "../../../linux/xtables/matches/programs.ts";
import { hashlimit, limit, statistic } from "../../../linux/xtables/matches/rates.ts";
import { set } from "../../../linux/xtables/matches/set.ts";
import { cgroup, owner, socket } from "../../../linux/xtables/matches/sockets.ts";
import {
  dccp,
  multiport,
  sctp,
  tcp,
  tcpmss,
  udp,
  type PortsMatch,
} from "../../../linux/xtables/matches/transport.ts";
import { ipNumber } from "../../../address/ip.ts";
import { STATE_BITS } from "../conntrack-loads.ts";
import { hasOption } from "../loads.ts";
import { ipsetContains } from "../ipset.ts";
import type { Machine } from "../machine.ts";
import { addressTypeMatches, physdevMatches, reversePathMatches } from "./devices.ts";
import { conntrackMatches, seenFlow, seenState } from "./conntrack.ts";
import { match, type Judge } from "./judge.ts";
import { connlimitMatches, hashlimitMatches } from "./rates.ts";
import { cgroupMatches, ownerMatches, socketMatches } from "./sockets.ts";
import { timeMatches } from "./time.ts";
import { TCP_FLAG } from "../../../linux/tcp.ts";

function within({ first, last }: Range, value: number): boolean {
  return value >= first && value <= last;
}

/** A part that is not asked for matches. */
function holds<T>(part: Wanted<T> | undefined, test: (value: T) => boolean): boolean {
  return part === undefined || test(part.value) !== part.not;
}

function portsMatch({ packet, ask }: PacketAndAsk, { source, destination }: PortsMatch): boolean {
  const isUnknown = packet.sourcePortFrom !== undefined;
  return (
    holds(source, (range) =>
      isUnknown ? ask("the translated source port") : within(range, packet.sourcePort),
    ) && holds(destination, (range) => within(range, packet.destinationPort))
  );
}

interface PacketAndAsk {
  readonly packet: Machine["packet"];
  readonly ask: (about: string, likely?: boolean) => boolean;
}

function asked(machine: Machine): PacketAndAsk {
  return { packet: machine.packet, ask: (about, likely) => machine.ask(about, likely) };
}

function icmpMatches(machine: Machine, { type, firstCode, lastCode, not }: IcmpMatch): boolean {
  const { icmpType, icmpCode = 0 } = machine.packet;
  const matched = type === undefined || (type === icmpType && icmpCode >= firstCode && icmpCode <= lastCode);
  return matched !== not;
}

function hopLimitMatches({ packet }: Machine, { compare, value, not }: HopLimitMatch): boolean {
  const { ttl: left } = packet;
  return (compare === "eq" ? left === value : compare === "lt" ? left < value : left > value) !== not;
}

/** A packet of another protocol than the structure's never matches, whatever is inverted. */
const never = (): boolean => false;

const ALL = [
  match(addrtype, addressTypeMatches),
  // What the pods and the node send is none of these protocols.
  match(ah, never),
  match(esp, never),
  match(dccp, never),
  // No packet here has a fragment header.
  match(frag, never),
  match(comment, () => true),

  match(tcp, (machine, value) => {
    const { packet } = machine;
    if (packet.protocol !== "tcp" || !portsMatch(asked(machine), value)) return false;
    return (
      holds(value.flags, ({ mask, set: wanted }) => (packet.tcpFlags & mask) === wanted) &&
      holds(value.option, (number) => hasOption(machine, number))
    );
  }),
  match(udp, (machine, value) => machine.packet.protocol === "udp" && portsMatch(asked(machine), value)),
  match(
    sctp,
    (machine, value) =>
      machine.packet.protocol === "sctp" &&
      portsMatch(asked(machine), value) &&
      holds(value.chunks, () => machine.ask("the chunks of an SCTP packet")),
  ),
  match(icmp, (machine, value) => machine.packet.protocol === "icmp" && icmpMatches(machine, value)),
  match(icmp6, (machine, value) => machine.packet.protocol === "icmpv6" && icmpMatches(machine, value)),
  match(multiport, (machine, { which, ports, not }) => {
    const { sourcePort, destinationPort, protocol, sourcePortFrom } = machine.packet;
    if (protocol === "icmp" || protocol === "icmpv6") return false;
    if (which !== "--dports" && sourcePortFrom !== undefined)
      return machine.ask("the translated source port");
    const asksSource = which !== "--dports";
    const asksDestination = which !== "--sports";
    const found = ports.some(
      (range) =>
        (asksSource && within(range, sourcePort)) || (asksDestination && within(range, destinationPort)),
    );
    return found !== not;
  }),
  match(tcpmss, (machine, { first, last, not }) => {
    const { protocol, tcpFlags, length: bytes, family } = machine.packet;
    if (protocol !== "tcp") return false;
    // Only a SYN says it, in an option.
    const hasOptions = (tcpFlags & TCP_FLAG.syn) !== 0 && bytes > (family === 4 ? 40 : 60);
    if (!hasOptions) return not;
    return machine.ask(`an MSS of ${first} to ${last}`, (first <= 1460 && last >= 1460) !== not);
  }),

  match(mark, (machine, { mark: wanted, mask, not }) => {
    if (machine.unknownMark !== undefined) return machine.ask(machine.unknownMark.why);
    return ((machine.packet.mark & mask) >>> 0 === wanted) !== not;
  }),
  match(connmark, (machine, { mark: wanted, mask, not }) => {
    const flow = seenFlow(machine);
    if (flow === undefined) return false;
    if (flow.unknownMark !== undefined) return machine.ask(flow.unknownMark.why);
    return ((flow.mark & mask) >>> 0 === wanted) !== not;
  }),

  match(conntrack, conntrackMatches),
  match(state, (machine, bits) => (STATE_BITS[seenState(machine)] & bits) !== 0),
  // Only a connection that another one announced has a master with a helper.
  match(helper, (_machine, { not }) => not),
  match(connlabel, (machine, { bit, not, set: sets }) =>
    machine.flow === undefined ? not : sets ? !not : machine.ask(`label ${bit} of the connection`, not),
  ),
  match(connbytes, (machine, { from, not, what }) =>
    machine.ask(`how many ${what} the connection has carried`, from <= 1n !== not, undefined, "content"),
  ),
  match(cluster, (machine) => machine.ask("which node of a cluster takes the flow")),
  match(nfacct, (machine, name) => machine.ask(`the quota of nfacct object ${name}, if it has one`, true)),
  match(quota, (machine, { bytes, not }) =>
    machine.ask(`a quota of ${bytes} bytes`, !not, undefined, "rate"),
  ),

  match(set, (machine, { set: { index, sides }, not, counters }) => {
    const found = machine.view.state.ipsets.find((one) => one.index === index);
    if (found === undefined) return machine.ask(`ipset number ${index}, which the snapshot lacks`);
    const contains = ipsetContains(machine, found, sides);
    if (contains && counters.length > 0) return machine.ask(`the counters of ipset ${found.name}`);
    return contains !== not;
  }),
  match(iprange, ({ packet }, { source, destination }) => {
    const inRange = ({ first, last }: { first: string; last: string }, address: string): boolean =>
      ipNumber(address) >= ipNumber(first) && ipNumber(address) <= ipNumber(last);
    return (
      holds(source, (range) => inRange(range, packet.source)) &&
      holds(destination, (range) => inRange(range, packet.destination))
    );
  }),

  match(mac, (machine, { mac: address, not }) => {
    const { sourceMac, iif } = machine.packet;
    if (iif === undefined) return false;
    if (sourceMac === undefined) return machine.ask("the sender's MAC address");
    return (address === sourceMac) !== not;
  }),
  match(physdev, physdevMatches),
  match(devgroup, ({ packet, view }, value) => {
    const is = (name: string | undefined, { group, mask }: { group: number; mask: number }): boolean =>
      (((view.link(name)?.group ?? 0) ^ group) & mask) === 0;
    return holds(value.in, (one) => is(packet.iif, one)) && holds(value.out, (one) => is(packet.oif, one));
  }),
  // PACKET_HOST: a packet that is ours.
  match(pkttype, (_machine, { type, not }) => (type === 0) !== not),
  match(rpfilter, reversePathMatches),
  // No route here has a realm.
  match(realm, (_machine, { id, not }) => (id === 0) !== not),
  match(cpu, (machine) => machine.ask("the CPU that handles the packet")),

  match(length, (machine, { not, ...range }) => {
    const about = `the length of the packet, ${range.first} to ${range.last}`;
    return machine.ask(about, within(range, machine.packet.length) !== not, undefined, "content");
  }),
  match(dscp, ({ packet }, { dscp: value, not }) => (packet.dscp === value) !== not),
  match(tos, ({ packet }, { mask, value, not }) => (((packet.dscp << 2) & mask) === value) !== not),
  match(ttl, hopLimitMatches),
  match(hl, hopLimitMatches),
  match(ecn, ({ packet }, { ip, ect, ece, cwr }) => {
    const flag = (part: { not: boolean } | undefined, bit: number): boolean =>
      part === undefined || ((packet.tcpFlags & bit) !== 0) !== part.not;
    if (ip !== undefined && (ect === 0) === ip.not) return false;
    if ((ece !== undefined || cwr !== undefined) && packet.protocol !== "tcp") return false;
    return flag(ece, 0x40) && flag(cwr, 0x80);
  }),

  match(limit, (machine, { rate }) => machine.ask(`a rate limit of ${rate}`, true, undefined, "rate")),
  match(hashlimit, hashlimitMatches),
  match(connlimit, connlimitMatches),
  match(statistic, (machine, value) => {
    // What happens more often than not.
    const often = value.mode === "random" ? value.probability >= 0.5 : value.every <= 2;
    const what =
      value.mode === "random" ? `a random choice (${value.probability})` : `every ${value.every}th packet`;
    const share = value.mode === "random" ? value.probability : 1 / value.every;
    return machine.ask(what, often !== value.not, value.not ? 1 - share : share);
  }),

  match(owner, ownerMatches),
  match(socket, socketMatches),
  match(cgroup, cgroupMatches),
  match(policy, (machine, { direction, none, elements }) => {
    const by = direction === "out" ? machine.encryptedBy : machine.decryptedBy;
    if (by === undefined || none) return (by === undefined) === none;
    return elements.length === 0 || machine.ask("which IPsec policy protects the packet");
  }),

  match(string, (machine, { not }) =>
    machine.ask("what the packet carries (string)", not, undefined, "content"),
  ),
  match(u32, (machine, { program }) => machine.ask(`u32 “${program}”`, undefined, undefined, "content")),
  match(bpf, (machine) => machine.ask("a BPF program (xt_bpf)", undefined, undefined, "content")),
  match(time, timeMatches),
  match(recent, (machine, { mode, list, not }) =>
    // To be entered in the list is to match.
    mode === "set"
      ? !not
      : machine.ask(`whether the address is in the list ${list} (recent)`, not, undefined, "rate"),
  ),
];

const JUDGES: ReadonlyMap<XtDescription<unknown>, Judge<unknown, boolean>> = new Map(ALL);

export function judgeOf(description: XtDescription<unknown>): Judge<unknown, boolean> | undefined {
  return JUDGES.get(description);
}
