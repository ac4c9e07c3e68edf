/**
 * What becomes of connections that are tracked already when the rules change. The kernel decides about a connection's
 * translation once, at its first packet, and so one that began before the rules leaves with the pod's own address for
 * as long as it lives: it is forgotten, and its next packet begins it anew. One that is translated keeps its translation
 * to its end, for its other side knows it by that; it is forgotten only at a person's word.
 */
import { isLoopbackAddress } from "../address/special-purpose.ts";
import { ipNumber } from "../address/ip.ts";
import { Conntrack } from "../kernel/conntrack/conntrack.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import type { ConntrackEntry } from "../linux/conntrack/entry.ts";
import type { EntryScan } from "../linux/conntrack/scan.ts";
import type { AppliedNat, NatBackend, NatChange, TrackedByBackend } from "./backend.ts";
import { decisionOf, type Decide, type NatDecision } from "./decision.ts";
import {
  cidrsOf,
  normalizeIntent,
  replacing,
  type AddressRange,
  type NatIntent,
  type Translation,
} from "./intent.ts";

export interface SettledFlows {
  /** Forgotten: their next packet is translated as is wanted now. */
  readonly forgotten: number;
  /** They go on with another translation than is wanted now. */
  readonly kept: number;
}

export interface SettleOptions {
  /** Forget all whose translation is not the one that is wanted. */
  readonly cut?: boolean;
  /** Look also when no rule was changed: flows may have begun while there were none. */
  readonly always?: boolean;
}

const NONE: SettledFlows = { forgotten: 0, kept: 0 };
/** Packets that were on their way while the rules changed may begin a flow in the old way behind our back. */
const MOST_ROUNDS = 3;

/** Makes the rules be as an intent wants them, and then the flows. @throws as NatBackend.apply */
export function applyAndSettle(
  nat: NatBackend,
  namespace: NetworkNamespace,
  intent: NatIntent,
  { cut = false, always = false }: SettleOptions = {},
): NatChange & { readonly flows: SettledFlows } {
  return settled(nat, namespace, [intent], nat.apply(intent), { cut, always });
}

/** The same for several owners: in one transaction where the backend can. */
export function applyAllAndSettle(
  nat: NatBackend,
  namespace: NetworkNamespace,
  intents: readonly NatIntent[],
): NatChange {
  if (nat.applyAll !== undefined) return settled(nat, namespace, intents, nat.applyAll(intents));
  const changes = intents.map((intent) => applyAndSettle(nat, namespace, intent));
  return {
    changed: changes.some(({ changed }) => changed),
    drifts: changes.flatMap(({ drifts }) => drifts),
  };
}

function settled(
  nat: NatBackend,
  namespace: NetworkNamespace,
  intents: readonly NatIntent[],
  { changed, drifts, before }: AppliedNat,
  { cut = false, always = false }: SettleOptions = {},
): NatChange & { readonly flows: SettledFlows } {
  if (!changed && !cut && !always) return { changed, drifts, flows: NONE };
  const wanted = before ?? nat.intents();
  const now = changed ? intents.map(normalizeIntent).reduce(replacing, wanted) : wanted;
  return { changed, drifts, flows: settleFlows(nat, namespace, wanted, now, cut) };
}

/** @param before what was wanted until now, by which flows got the translation that they have */
function settleFlows(
  nat: NatBackend,
  namespace: NetworkNamespace,
  before: readonly NatIntent[],
  now: readonly NatIntent[],
  cut: boolean,
): SettledFlows {
  if (now.length === 0) return NONE;
  if (nat.connections === undefined) {
    const tracked = readSysctl(namespace, "net.netfilter.nf_conntrack_count");
    if (tracked === undefined || tracked === "0") return NONE;
  }
  using route = Rtnetlink.open(namespace);
  const judge = new FlowJudge(route, decisionOf(before), decisionOf(now), cut);
  if (nat.connections !== undefined) return settleOwn(nat.connections, judge, cut);
  using conntrack = Conntrack.open(namespace);
  const concerns = sourceFilter([...before, ...now]);
  let forgotten = 0;
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const found: ConntrackEntry[] = [];
    let kept = 0;
    conntrack.scan((scan) => {
      if (!concerns(scan)) return;
      const entry = scan.entry();
      const verdict = judge.verdict(entry);
      if (verdict === "stale" || (verdict === "other" && cut)) found.push(entry);
      else if (verdict === "other") kept++;
    });
    if (found.length === 0) return { forgotten, kept };
    forgotten += conntrack.deleteEntries(found);
  }
  return { forgotten, kept: 0 };
}

/**
 * Of connections that a backend tracks by itself: what the kernel tracks of them has the pod's own address both ways, and is
 * right as it is. One that is seen as an address which this node has lost gets no answer, and ends without being asked for.
 */
function settleOwn(own: TrackedByBackend, judge: FlowJudge, cut: boolean): SettledFlows {
  const gone: ConntrackEntry[] = [];
  let kept = 0;
  for (const entry of own.entries()) {
    const verdict = judge.verdict(entry);
    if (verdict === "stale" || (verdict === "other" && (cut || judge.isLost(entry)))) gone.push(entry);
    else if (verdict === "other") kept++;
  }
  return { forgotten: own.end(gone), kept };
}

/** Whether an entry's source is one that intents speak of: a busy node tracks hundreds of thousands that are not. */
function sourceFilter(intents: readonly NatIntent[]): (scan: EntryScan) => boolean {
  const cidrs = intents.flatMap((intent) => cidrsOf(intent).sources);
  const ipv4 = cidrs
    .filter(({ family }) => family === 4)
    .map(({ first, last }) => ({ first: Number(first), last: Number(last) }));
  const hasIpv6 = ipv4.length < cidrs.length;
  return ({ family, wire, original }) => {
    if (family === 6) return hasIpv6;
    const source = wire.view.getUint32(original.source, false);
    return ipv4.some(({ first, last }) => first <= source && source <= last);
  };
}

class FlowJudge {
  /** The node's own addresses: what goes there does not leave, what comes from there is no pod's. */
  readonly #own: ReadonlySet<string>;
  readonly #leavesBy = new Map<string, string | undefined>();
  readonly #masquerades = new Map<string, ReadonlySet<string>>();

  constructor(
    private readonly route: Rtnetlink,
    private readonly before: Decide,
    private readonly now: Decide,
    private readonly cut: boolean,
  ) {
    this.#own = new Set(route.addresses().map(({ address }) => address));
  }

  /** `stale`: it leaves with the pod's address and should not. `other`: it has a translation that is not wanted now. */
  verdict({ original, reply }: ConntrackEntry): "right" | "stale" | "other" {
    const { source } = original;
    // What the packet carries when it leaves: the destination may have been translated, too.
    const [destination, seenAs] = [reply.source, reply.destination];
    if (this.#own.has(source) || this.#own.has(destination) || isLoopbackAddress(destination)) return "right";
    // Where its answers are sent, there its packets come from.
    const entered = (): string | undefined => this.#interfaceTo(source);
    const wanted = this.now(source, destination, entered);
    // Its next packet begins it anew, and ends there: nothing may leave under an address of before.
    if (wanted?.dropped === true && this.#leavesByOne(wanted, destination)) return "stale";
    const translation = this.#translationOf(wanted, destination);
    if (translation === undefined) {
      if (seenAs === source) return "right";
      // Of a flow that we did not translate, others know why it is.
      const wasOurs =
        this.#translationOf(this.before(source, destination, entered), destination) !== undefined;
      return wasOurs || (this.cut && wanted !== undefined) ? "other" : "right";
    }
    const { snat } = translation;
    const isRight = snat === undefined ? this.#isMasquerade(seenAs, destination) : isIn(snat, seenAs);
    if (isRight) return "right";
    return seenAs === source ? "stale" : "other";
  }

  /** Whether an entry has an address that was this node's own, by the interface's choice, and is no more. */
  isLost({ original, reply }: ConntrackEntry): boolean {
    const wanted = this.now(original.source, reply.source, () => this.#interfaceTo(original.source));
    const translation = this.#translationOf(wanted, reply.source);
    return translation !== undefined && translation.snat === undefined && !this.#own.has(reply.destination);
  }

  #translationOf(decision: NatDecision | undefined, destination: string): Translation | undefined {
    if (decision?.translated !== true) return undefined;
    return this.#leavesByOne(decision, destination) ? decision.source.translation : undefined;
  }

  /** Whether it leaves by an interface that the source is about. */
  #leavesByOne({ source: { outInterfaces } }: NatDecision, destination: string): boolean {
    if (outInterfaces === undefined) return true;
    const name = this.#interfaceTo(destination);
    return name !== undefined && outInterfaces.includes(name);
  }

  /**
   * MASQUERADE takes an address of the interface that the packet leaves by: a primary one (inet_select_addr), over IPv6
   * one that is not deprecated. Where no route is known, any of the node's will do.
   */
  #isMasquerade(seenAs: string, destination: string): boolean {
    const name = this.#interfaceTo(destination);
    if (name === undefined) return this.#own.has(seenAs);
    let taken = this.#masquerades.get(name);
    if (taken === undefined) {
      const there = this.route.addresses({ interface: this.route.link(name)?.index ?? 0 });
      const usual = there.filter(
        ({ flags }) => !flags.includes("secondary") && !flags.includes("deprecated"),
      );
      this.#masquerades.set(name, (taken = new Set(usual.map(({ address }) => address))));
    }
    return taken.has(seenAs);
  }

  #interfaceTo(destination: string): string | undefined {
    if (!this.#leavesBy.has(destination)) {
      const answer = this.route.routeTo({ destination });
      const index = answer.reachable ? answer.route.interface : undefined;
      this.#leavesBy.set(destination, index === undefined ? undefined : this.route.link(index)?.name);
    }
    return this.#leavesBy.get(destination);
  }
}

function isIn(range: AddressRange | undefined, address: string): boolean {
  if (range === undefined) return false;
  const number = ipNumber(address);
  return ipNumber(range.first) <= number && number <= ipNumber(range.last);
}
