/**
 * Matches of xtables (`-m set`, `-m iprange` …) about a packet of which only the destination, the link and the family are
 * known: those that ask for the destination are judged by it, any other may match or not. Pure.
 */
import { ipNumber, type IpFamily } from "../../../address/ip.ts";
import { ipsetAddressHolds, ipsetHolds, type IpsetContents, type IpsetSide } from "../../../linux/ipset.ts";
import type { ExpressionKinded } from "../../../linux/nftables/expressions.ts";
import { RTN } from "../../../linux/route/constants.ts";
import type { Wanted, XtDescription } from "../../../linux/xtables/describe.ts";
import { decodeExtension } from "../../../linux/xtables/extension.ts";
import { addrtype } from "../../../linux/xtables/matches/addrtype.ts";
import { comment } from "../../../linux/xtables/matches/comment.ts";
import { conntrack } from "../../../linux/xtables/matches/conntrack.ts";
import { iprange } from "../../../linux/xtables/matches/iprange.ts";
import { set } from "../../../linux/xtables/matches/set.ts";
import { bytesOfHex } from "../../../platform/bytes.ts";

export type Answer = boolean | "maybe";

export interface KnownOfPacket {
  readonly family: IpFamily;
  readonly destination: string;
  /** Whether the destination is an address of this node. */
  readonly isLocal: boolean;
  readonly link: { readonly name: string };
  /** Those of the namespace, as rules call them by number and lists by name. */
  readonly ipsets: readonly (IpsetContents & { readonly name: string; readonly index: number })[];
}

/** @param state the bits of `ct state` */
export function matchOf(expression: ExpressionKinded<"match">, packet: KnownOfPacket, state: number): Answer {
  const valueOf = valueReader(expression, packet.family);
  if (valueOf(comment) !== undefined) return true;
  const [inSet, range, kind, tracked] = [
    valueOf(set),
    valueOf(iprange),
    valueOf(addrtype),
    valueOf(conntrack),
  ];
  if (inSet !== undefined)
    return every([
      wanted({ value: inSet.set, not: inSet.not }, ({ index, sides }) => isInSet(packet, index, sides)),
      inSet.counters.length > 0 ? "maybe" : true,
    ]);
  if (range !== undefined)
    return every([
      wanted(range.source, () => "maybe"),
      wanted(range.destination, ({ first, last }) => isBetween(packet.destination, first, last)),
    ]);
  if (kind !== undefined)
    return every([
      wanted(kind.source, () => "maybe"),
      wanted(kind.destination, (types) =>
        kind.limit === undefined
          ? (types & (1 << (packet.isLocal ? RTN.local : RTN.unicast))) !== 0
          : "maybe",
      ),
    ]);
  if (tracked !== undefined) {
    const { state: states, isState: _, ...others } = tracked;
    return every([
      wanted(states, (bits) => (bits & state) !== 0),
      Object.values(others).some((one) => one !== undefined) ? "maybe" : true,
    ]);
  }
  return "maybe";
}

/** The ends of the range of destinations that a match names. */
export function rangeOf(expression: ExpressionKinded<"match">, family: IpFamily): readonly string[] {
  const range = valueReader(expression, family)(iprange)?.destination?.value;
  return range === undefined ? [] : [range.first, range.last];
}

/** Reads a match as the one that a description is of; undefined when it is another, or not understood. */
function valueReader({ name, revision, info }: ExpressionKinded<"match">, family: IpFamily) {
  const context = { family: family === 4 ? ("ip" as const) : ("ip6" as const) };
  const { understood } = decodeExtension("match", name, revision, bytesOfHex(info), context);
  return <V>(description: XtDescription<V>): V | undefined =>
    understood?.description === description ? (understood.value as V) : undefined;
}

function isInSet(packet: KnownOfPacket, index: number, sides: readonly IpsetSide[]): Answer {
  const found = packet.ipsets.find((one) => one.index === index);
  if (found === undefined) return "maybe";
  const held = ipsetHolds(found, sides, {
    family: packet.family,
    fits(part, text, side) {
      if (part === "iface") return side === "src" ? text === packet.link.name : undefined;
      const isAddress = part === "ip" || part === "net";
      return isAddress && side === "dst" ? ipsetAddressHolds(text, packet.destination) : undefined;
    },
    member: (name) => packet.ipsets.find((one) => one.name === name),
  });
  return held ?? "maybe";
}

function isBetween(address: string, first: string, last: string): boolean {
  const number = ipNumber(address);
  return number >= ipNumber(first) && number <= ipNumber(last);
}

/** What is not asked for matches. */
function wanted<T>(part: Wanted<T> | undefined, test: (value: T) => Answer): Answer {
  if (part === undefined) return true;
  const answer = test(part.value);
  return part.not ? not(answer) : answer;
}

function every(answers: readonly Answer[]): Answer {
  return answers.includes(false) ? false : answers.includes("maybe") ? "maybe" : true;
}

export function not(answer: Answer): Answer {
  return answer === "maybe" ? answer : !answer;
}
