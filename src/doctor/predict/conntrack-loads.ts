/** Expressions that ask conntrack or the routing tables: ct, fib. */
import { CT_STATE, type Zone } from "../../linux/netfilter.ts";
import { RTN } from "../../linux/route/constants.ts";
import { ipBytes } from "../../address/ip.ts";
import type { ExpressionKinded } from "../../linux/nftables/expressions.ts";
import { registerWord } from "../../linux/nftables/registers.ts";
import { decide } from "./comparisons.ts";
import { zoneIn } from "./flow.ts";
import { usesLink } from "./fib.ts";
import { nameBytes } from "./loads.ts";
import { BREAK, CONTINUE, type Machine, type Step, type StepResult } from "./machine.ts";
import { PROTOCOL_NUMBER, type CtState, type Tuple } from "./packet.ts";
import { present } from "../../present.ts";
import { BROADCAST, isMulticastAddress } from "../../address/special-purpose.ts";

/** `ct state` of a packet, by its one name. */
export const STATE_BITS: Readonly<Record<CtState, number>> = CT_STATE;

export function compileCt(expression: ExpressionKinded<"ct">): Step {
  const { key, direction, dreg, sreg } = expression;
  if (sreg !== undefined) return compileCtSet(key, registerWord(sreg), direction);
  if (dreg === undefined) return () => CONTINUE;
  const word = registerWord(dreg);
  return (machine) => {
    if (key === "state") {
      machine.storeNumber(word, STATE_BITS[hasTemplate(machine) ? "new" : machine.packet.state]);
      return CONTINUE;
    }
    const { flow } = machine;
    // Nor does the template say anything that a rule which chose a zone has left with the packet (Linux 6.18).
    if (flow === undefined) return BREAK;
    switch (key) {
      case "direction":
        machine.storeNumber(word, machine.packet.reply ? 1 : 0);
        return CONTINUE;
      case "status":
        machine.storeNumber(word, flow.status);
        return CONTINUE;
      case "mark":
        if (flow.unknownMark === undefined) machine.storeNumber(word, flow.mark);
        else machine.storeUnknown(word, 4, flow.unknownMark);
        return CONTINUE;
      case "zone":
        machine.storeNumber(word, zoneNumber(flow.zone, direction));
        return CONTINUE;
      case "l3proto":
        machine.storeNumber(word, machine.packet.family === 4 ? 2 : 10);
        return CONTINUE;
      case "protocol":
        machine.storeNumber(word, PROTOCOL_NUMBER[machine.packet.protocol]);
        return CONTINUE;
      case "label":
      case "helper":
        machine.store(word, new Uint8Array(16));
        return CONTINUE;
      default:
        return loadTuple(machine, key, direction === "reply" ? flow.reply : flow.original, word);
    }
  };
}

/** Without a direction the zone's own number, for which direction ever it counts. */
function zoneNumber(zone: Zone | undefined, direction: string | undefined): number {
  return direction === "original" || direction === "reply" ? zoneIn(zone, direction) : (zone?.id ?? 0);
}

/** Between a rule that chose a zone and conntrack's look at the packet. */
export function hasTemplate({ isLookedAt, zone }: Machine): boolean {
  return !isLookedAt && zone !== undefined;
}

function loadTuple(machine: Machine, key: string, tuple: Tuple, word: number): StepResult {
  const address = key.endsWith("saddr")
    ? tuple.source
    : key.endsWith("daddr")
      ? tuple.destination
      : undefined;
  if (address !== undefined) {
    const bytes = ipBytes(address);
    if (key.startsWith("ip ") && bytes.length !== 4) return BREAK;
    if (key.startsWith("ip6 ") && bytes.length !== 16) return BREAK;
    machine.store(word, bytes);
    return CONTINUE;
  }
  if (key === "proto-src" || key === "proto-dst") {
    const port = key === "proto-src" ? tuple.sourcePort : tuple.destinationPort;
    machine.store(word, [port >> 8, port & 0xff]);
    return CONTINUE;
  }
  if (!CARRIED.has(key)) {
    machine.storeUnknown(word, 8, `ct ${key}`);
    return CONTINUE;
  }
  // The first packet is the least that a connection carries: later ones have more behind them.
  machine.store(word, new Uint8Array(8));
  machine.differs(word, {
    about: `what the connection has carried (ct ${key})`,
    of: "content",
    text: (bytes) => String(Buffer.from(bytes).readBigUInt64LE()),
  });
  return CONTINUE;
}

const CARRIED: ReadonlySet<string> = new Set(["bytes", "packets", "avgpkt"]);

function compileCtSet(key: string, word: number, direction: string | undefined): Step {
  if (key === "zone") {
    return compileZoneSet(word, direction === "original" || direction === "reply" ? direction : "both");
  }
  if (key !== "mark") return () => CONTINUE;
  return (machine) => {
    const { flow } = machine;
    if (flow === undefined) return CONTINUE;
    flow.unknownMark = machine.whyUnknown(word, 4);
    if (flow.unknownMark === undefined) flow.mark = machine.loadNumber(word);
    return CONTINUE;
  };
}

function numberOfType(type: string): number {
  return Object.hasOwn(RTN, type) ? RTN[type as keyof typeof RTN] : RTN.unicast;
}

/** nft_ct_set_zone_eval: a template for conntrack to look with; what has been looked at stays where it is. */
function compileZoneSet(word: number, direction: Zone["direction"]): Step {
  return (machine) => {
    // It looks for an entry alone: what "notrack" kept out is tracked again.
    if (machine.flow !== undefined || machine.zone !== undefined) return CONTINUE;
    const why = machine.whyUnknown(word, 2);
    if (why !== undefined) return decide(machine, `a conntrack zone by ${why.why}`, true);
    machine.zonedBy = machine.here?.();
    if (machine.packet.state === "untracked") machine.packet = { ...machine.packet, state: "invalid" };
    machine.untrackedBy = undefined;
    machine.zone = { id: machine.loadNumber(word) & 0xffff, direction };
    return CONTINUE;
  };
}

export function compileFib(expression: ExpressionKinded<"fib">): Step {
  const word = registerWord(expression.dreg);
  const flags = new Set<string>(expression.flags);
  return (machine) => {
    const { packet, view } = machine;
    const reverse = flags.has("saddr");
    const address = reverse ? packet.source : packet.destination;
    if (expression.result === "type") {
      const device = flags.has("iif") ? packet.iif : flags.has("oif") ? packet.oif : undefined;
      machine.storeNumber(word, numberOfType(addressType(machine, address, device)));
      return CONTINUE;
    }
    // Where a packet is forwarded, its source is looked up as if it came back in by the way it goes out.
    const turned = flags.has("iif") && machine.hook === "forward" ? packet.oif : undefined;
    const comesInBy = reverse ? turned : packet.iif;
    const result = view.fib.predict(
      present({
        destination: address,
        source: reverse ? packet.destination : packet.source,
        mark: flags.has("mark") ? packet.mark : undefined,
        iif: comesInBy,
        // Rules by protocol are asked with the packet's (pkt->tprot); its ports are not filled in.
        protocol: PROTOCOL_NUMBER[packet.protocol],
      }),
    );
    const way = result.kind === "route" && result.type === "unicast" ? result : undefined;
    const wanted = flags.has("iif") ? packet.iif : flags.has("oif") ? packet.oif : undefined;
    const asked = view.link(wanted);
    const link =
      wanted === undefined ? way?.link : way !== undefined && usesLink(way, asked) ? asked : undefined;
    if (flags.has("present")) machine.storeNumber(word, link === undefined ? 0 : 1);
    else if (expression.result === "oifname") machine.store(word, nameBytes(link?.name ?? ""));
    else machine.storeNumber(word, link?.index ?? 0);
    return CONTINUE;
  };
}

/** nft_fib4_eval_type asks inet_dev_addr_type: the local table only, and what is not in it is unicast. */
export function addressType(machine: Machine, address: string, device: string | undefined): string {
  const { view, packet } = machine;
  if (packet.family === 6) return view.fib.addressType(address);
  if (isMulticastAddress(address)) return "multicast";
  if (address.startsWith("0.") || address === BROADCAST) return "broadcast";
  const found = view.fib.localRoute(address);
  if (found === undefined) return "unicast";
  if (device !== undefined && view.link(device)?.index !== found.interface) return "unicast";
  return found.type;
}
