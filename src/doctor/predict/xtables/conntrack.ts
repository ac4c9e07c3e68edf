/** The judgement of `-m conntrack` (conntrack_mt of net/netfilter/xt_conntrack.c). */
import { ipBytes } from "../../../address/ip.ts";
import type { Range, Wanted } from "../../../linux/xtables/describe.ts";
import {
  CONNTRACK_STATE,
  type ConntrackMatch,
  type MaskedAddress,
} from "../../../linux/xtables/matches/conntrack.ts";
import { hasTemplate, STATE_BITS } from "../conntrack-loads.ts";
import { Flow } from "../flow.ts";
import type { Machine } from "../machine.ts";
import { IPS } from "../../../linux/conntrack/status.ts";
import { PROTOCOL_NUMBER, type CtState } from "../packet.ts";

function holds<T>(part: Wanted<T> | undefined, test: (value: T) => boolean): boolean {
  return part === undefined || test(part.value) !== part.not;
}

/** Unlike nf_tables, xtables take a template for a connection: of no addresses, and in its first direction. */
export function seenFlow(machine: Machine): Flow | undefined {
  if (machine.flow !== undefined || !hasTemplate(machine)) return machine.flow;
  const { family, protocol } = machine.packet;
  const none = family === 4 ? "0.0.0.0" : "::";
  const ends = { source: none, destination: none, sourcePort: 0, destinationPort: 0 };
  const flow = new Flow({ ...ends, protocol });
  flow.status = IPS.CONFIRMED | IPS.TEMPLATE;
  return flow;
}

export function seenState(machine: Machine): CtState {
  return hasTemplate(machine) ? "new" : machine.packet.state;
}

function stateBits(machine: Machine): number {
  const { packet, flow } = machine;
  if (packet.state === "untracked") return CONNTRACK_STATE.untracked;
  let bits = STATE_BITS[seenState(machine)];
  if (flow !== undefined && (flow.status & IPS.SRC_NAT) !== 0) bits |= CONNTRACK_STATE.snat;
  if (flow !== undefined && (flow.status & IPS.DST_NAT) !== 0) bits |= CONNTRACK_STATE.dnat;
  return bits;
}

export function conntrackMatches(machine: Machine, wanted: ConntrackMatch): boolean {
  if (!holds(wanted.state, (mask) => (stateBits(machine) & mask) !== 0)) return false;
  const { packet } = machine;
  const flow = seenFlow(machine);
  // Without a connection nothing else is looked at, and only who asks for a state can match.
  if (flow === undefined) return wanted.state !== undefined;
  const isTemplate = flow !== machine.flow;
  const isReply = packet.reply && !isTemplate;
  if (wanted.direction !== undefined && (wanted.direction === "reply") !== isReply) return false;
  return (
    holds(wanted.protocol, (number) => !isTemplate && PROTOCOL_NUMBER[packet.protocol] === number) &&
    holds(wanted.status, (mask) => (mask === 0 ? flow.status === 0 : (flow.status & mask) !== 0)) &&
    holds(wanted.expires, () => machine.ask("how long the connection will be remembered")) &&
    tupleMatches(flow, wanted)
  );
}

function tupleMatches({ original, reply }: Flow, wanted: ConntrackMatch): boolean {
  const port = (number: number) => (range: Range) => number >= range.first && number <= range.last;
  return (
    holds(wanted.origsrc, isIn(original.source)) &&
    holds(wanted.origdst, isIn(original.destination)) &&
    holds(wanted.replsrc, isIn(reply.source)) &&
    holds(wanted.repldst, isIn(reply.destination)) &&
    holds(wanted.origsrcport, port(original.sourcePort)) &&
    holds(wanted.origdstport, port(original.destinationPort)) &&
    holds(wanted.replsrcport, port(reply.sourcePort)) &&
    holds(wanted.repldstport, port(reply.destinationPort))
  );
}

function isIn(text: string): (wanted: MaskedAddress) => boolean {
  return ({ address, mask }) => {
    const bytes = ipBytes(text);
    return mask.every((bits, at) => ((bytes[at]! ^ address[at]!) & bits) === 0);
  };
}
