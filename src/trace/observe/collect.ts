/** Gathers the evidence: opens every instrument, sends the exchange, listens until the answer is complete. */
import { WayoutError, messageOf } from "../../error.ts";
import { DropWatch, type KernelDrop } from "../../kernel/bpf/drops.ts";
import { kernelFunctionAt } from "../../kernel/bpf/symbols.ts";
import { SystemError } from "../../linux/errno.ts";
import * as libc from "../../kernel/libc.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import { PacketTap, type CapturedPacket } from "../../kernel/packet-socket.ts";
import { packetTest, type PacketMatch } from "../../linux/packet/filter.ts";
import { NETLINK_NETFILTER } from "../../kernel/netlink/transport.ts";
import { counterGrowth, networkCounters, type Counters } from "../../kernel/procfs.ts";
import { Rtnetlink } from "../../kernel/route/rtnetlink.ts";
import type {
  FlowEnds,
  FlowPattern,
  LegacyGrowth,
  NotObserved,
  PathSurvey,
  SeenPacket,
  TraceEvidence,
} from "../evidence.ts";
import type { Exchange } from "./exchange.ts";
import { TracedFlowEvents } from "./flow-watch.ts";
import { legacyGrowth, readLegacyCounters } from "./legacy.ts";
import { flowAmong, isBegunOutside, nothingFlows, type Following } from "./listen.ts";
import {
  belongsTo,
  isAnswered,
  isEnded,
  isFatalDrop,
  outsideEnds,
  translatedDestination,
  type FlowDestination,
} from "../judge/progress.ts";
import { portsOfFailure } from "./local-ports.ts";
import { RuleTrace } from "./rule-trace.ts";
import { Lists, surveyTranslated } from "./survey.ts";
import { neighbourFilter, portsFilter, tapFilter } from "./tap-filter.ts";
import { podRoute, podSocket } from "../../pods/pod-socket.ts";
import { present } from "../../present.ts";

export interface CollectOptions {
  readonly survey: PathSurvey;
  readonly pod: NetworkNamespace;
  readonly node: NetworkNamespace | undefined;
  readonly flow: FlowPattern;
  /** Absent to follow what flows by itself: the first flow that fits, and that has this port at either end. */
  readonly exchange?: Exchange;
  readonly port?: number;
  readonly timeoutMs: number;
}

/** How long something that has ended the packet may still be followed by its explanation. */
const AFTERMATH_MS = 30;
/** Kernel drops cannot be waited for with poll(2): they are looked at this often. */
const TICK_MS = 15;
const PACKETS_AT_ONCE = 500;
const MOST_PACKETS = 20_000;
/** More packets than one exchange makes in a moment: others have flows to the same destination. */
const MANY_PACKETS = 200;
/** How long after a socket asked for them the kernel has time stamps on every packet. */
const STAMPING_MS = 5;

/** More than one flow makes before it is known to be the one; of what was seen before that the newest is kept. */
const MOST_UNKNOWN = 2000;

/**
 * Runs the exchange and returns all that was seen. Everything that was opened is closed again.
 * @throws WayoutError nothing-flows when there was nothing to follow
 */
export function collect(options: CollectOptions): TraceEvidence {
  using instruments = new Instruments(options);
  const beganUs = libc.clockUs(0);
  options.exchange?.begin();
  instruments.follow(options.exchange);
  listen(options, instruments);
  options.exchange?.advance();
  instruments.drain(MOST_PACKETS);
  return instruments.evidence(beganUs);
}

function listen(options: CollectOptions, instruments: Instruments): void {
  const { exchange } = options;
  let deadline = performance.now() + options.timeoutMs;
  let ending = false;
  for (let left = options.timeoutMs; left > 0; left = deadline - performance.now()) {
    instruments.wait(Math.min(left, TICK_MS), exchange);
    exchange?.advance();
    instruments.drain();
    const state = exchange?.state.kind;
    if (state === "answered" || state === "refused") return;
    if (instruments.flow === undefined) {
      if (instruments.settle()) deadline = performance.now() + options.timeoutMs;
      continue;
    }
    const isFollowed = exchange === undefined && instruments.isAnswered();
    if (!ending && (isFollowed || state === "failed" || isEnded(instruments.progress(instruments.flow)))) {
      ending = true;
      deadline = Math.min(deadline, performance.now() + AFTERMATH_MS);
    }
  }
}

/** All that listens, opened together and closed together. */
class Instruments implements Disposable {
  readonly #options: CollectOptions;
  readonly #open: Disposable[] = [];
  readonly #taps: { readonly where: "pod" | "node"; readonly tap: PacketTap }[] = [];
  readonly #missing: NotObserved[] = [];
  readonly #drops: KernelDrop[] = [];
  readonly #ruleTraces: { pod?: RuleTrace; node?: RuleTrace } = {};
  readonly #flowWatch: TracedFlowEvents | undefined;
  readonly #dropWatch: DropWatch | undefined;
  readonly #before: { readonly pod: Counters; readonly node: Counters };
  #legacyBefore: readonly LegacyGrowth[] = [];
  readonly seen: SeenPacket[] = [];
  /** undefined until it is known which flow is followed. */
  flow: FlowEnds | undefined;
  #isInbound = false;
  #wideTap: PacketTap | undefined;
  readonly #wide: CapturedPacket[] = [];
  #isNarrow = false;

  constructor(options: CollectOptions) {
    this.#options = options;
    const { pod, node, flow } = options;
    if (flow.sourcePort !== undefined) this.flow = { ...flow, sourcePort: flow.sourcePort };
    try {
      // The taps first: the kernel switches time stamps on from a work queue, a little later.
      this.#addTap("pod", pod);
      if (node !== undefined) this.#addTap("node", node);
      const openedAt = performance.now();
      this.#tryOpen(
        "rules of the pod",
        () => RuleTrace.open(pod, flow, podSocket(NETLINK_NETFILTER, { namespace: pod })),
        (trace) => (this.#ruleTraces.pod = trace),
      );
      if (node !== undefined) {
        this.#tryOpen(
          "rules of the node",
          () => RuleTrace.open(node, flow),
          (trace) => (this.#ruleTraces.node = trace),
        );
        this.#flowWatch = this.#tryOpen("conntrack events", () => TracedFlowEvents.open(node, flow));
        if (flow.protocol !== "icmp" && this.#mayTranslateDestinations()) this.#openWide(node);
      }
      this.#dropWatch = this.#tryOpen("the kernel's drop reasons", () =>
        DropWatch.open([...new Set([flow.source, flow.destination])]),
      );
      this.#before = {
        pod: networkCounters(pod),
        node: node === undefined ? {} : networkCounters(node),
      };
      if (node !== undefined) this.#legacyBefore = this.#legacy(node);
      const early = STAMPING_MS - (performance.now() - openedAt);
      if (early > 0) libc.poll([], Math.ceil(early));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Waits until something can be read. */
  wait(timeoutMs: number, exchange: Exchange | undefined): void {
    const entries = this.#taps.flatMap(({ tap }) => tap.fds.map((fd) => ({ fd, events: 1, revents: 0 })));
    if (exchange?.state.kind === "waiting")
      entries.push({ fd: exchange.fd, events: exchange.events, revents: 0 });
    libc.poll(entries, Math.ceil(timeoutMs));
  }

  /** Reads what has come: no more at once than leaves time to look at the exchange. */
  drain(most = PACKETS_AT_ONCE): void {
    for (const { where, tap } of this.#taps) {
      for (const packet of tap.read(0, most)) {
        if (this.flow === undefined || belongsTo(packet.packet, this.flow))
          this.seen.push(Object.assign(packet, { where }));
      }
    }
    this.#wide.push(...(this.#wideTap?.read(0, most) ?? []));
    this.#wide.splice(0, this.#wide.length - MOST_PACKETS);
    if (this.flow === undefined) {
      this.seen.splice(0, this.seen.length - MOST_UNKNOWN);
      this.#flowWatch?.read();
    } else if (!this.#isNarrow && this.seen.length > MANY_PACKETS) this.#narrow(this.flow);
    this.#drops.push(...(this.#dropWatch?.read() ?? []));
  }

  /** A socket that found its port only with its first packet; 0 when it found none. */
  follow(exchange: Exchange | undefined): void {
    if (exchange === undefined || this.flow !== undefined) return;
    this.flow = { ...this.#options.flow, sourcePort: exchange.localPort ?? 0 };
  }

  /** Looks which flow it is that flows here, and forgets the others. Returns whether it is known. */
  settle(): boolean {
    const wanted = this.#following();
    this.seen.sort((a, b) => a.timeUs - b.timeUs);
    const flow = flowAmong(wanted, this.seen, this.#ruleTraces.node?.events() ?? []);
    if (flow === undefined) return false;
    this.flow = flow;
    this.#isInbound = isBegunOutside(flow, this.#flowWatch?.entry(flow), this.seen);
    const ours = this.seen.filter(({ packet }) => belongsTo(packet, flow));
    // A connection of the pod's own that is in its midst is followed from the pod's next packet on.
    const first = ours.findIndex(({ where, direction }) => where === "pod" && direction === "out");
    this.seen.splice(0, this.seen.length, ...(this.#isInbound ? ours : ours.slice(Math.max(0, first))));
    const outside = this.#flowWatch?.entry(flow)?.reply.destinationPort;
    const translated = outside === undefined ? [] : portsFilter(flow, [outside]);
    for (const { tap } of this.#taps) tap.narrow([...tapFilter(flow), ...translated]);
    return true;
  }

  #following(): Following {
    const { flow: pattern, port } = this.#options;
    return present({ pattern, port });
  }

  /** Whether both directions were seen at the pod, in their order. */
  isAnswered(): boolean {
    return this.flow !== undefined && isAnswered(this.seen, this.flow, this.#isInbound ? "back" : "out");
  }

  progress(flow: FlowEnds) {
    return {
      flow,
      seen: this.seen,
      // Where the outside is a namespace of this machine, its drops are none of the packet's: they are its answer's.
      drops: this.#drops.filter(({ namespaceInode }) => this.#isOurs(namespaceInode)),
      ruleEvents: [...(this.#ruleTraces.pod?.events() ?? []), ...(this.#ruleTraces.node?.events() ?? [])],
    };
  }

  #isOurs(inode: number): boolean {
    const { pod, node } = this.#options;
    return inode === 0 || inode === pod.inode || inode === node?.inode;
  }

  evidence(beganUs: number): TraceEvidence {
    const { pod, node, exchange, timeoutMs } = this.#options;
    if (this.flow === undefined) throw nothingFlows(this.#following(), this.seen, timeoutMs);
    const entry = this.#flowWatch?.entry(this.flow);
    const flowEvents = this.#flowWatch?.events(this.flow) ?? [];
    const outside = this.#isInbound ? undefined : outsideEnds(entry ?? flowEvents[0]?.entry);
    const flow: FlowEnds = { ...this.flow, ...present({ outside }) };
    const lists = new Lists();
    const [ports] = lists.read("sockets", () => [portsOfFailure(pod, flow, exchange)]) ?? [];
    const neighbours = lists.read("neighbours", () => neighboursOfPod(pod)) ?? [];
    const ruleEvents = {
      pod: this.#ruleTraces.pod?.events() ?? [],
      node: this.#ruleTraces.node?.events() ?? [],
    };
    return present({
      survey: this.#isInbound
        ? this.#options.survey
        : this.#surveyOf(translatedDestination(flow, entry ?? flowEvents[0]?.entry, ruleEvents.node)),
      isInbound: this.#isInbound || undefined,
      flow,
      exchange:
        exchange === undefined
          ? undefined
          : present({
              state: exchange.state,
              beganUs,
              connected: exchange.connected,
              timeoutMs,
              deliveredUs: exchange.deliveredUs,
            }),
      packets: this.#packetsOf(flow),
      lostPackets: this.#taps.reduce((sum, { tap }) => sum + tap.lost(), 0),
      ruleEvents,
      rulesets: {
        pod: this.#ruleTraces.pod?.ruleset ?? [],
        node: this.#ruleTraces.node?.ruleset ?? [],
      },
      flowEvents,
      entry,
      drops: withFunctions(this.#drops, flow),
      growth: {
        pod: counterGrowth(this.#before.pod, networkCounters(pod)),
        node: node === undefined ? {} : counterGrowth(this.#before.node, networkCounters(node)),
      },
      legacyGrowth: node === undefined ? [] : legacyGrowth(this.#legacyBefore, this.#legacy(node)),
      localPorts: ports,
      neighbours: { pod: neighbours, node: node === undefined ? [] : neighboursOf(node) },
      missing: [...this.#missing, ...lists.unread],
    });
  }

  [Symbol.dispose](): void {
    for (const instrument of this.#open.splice(0)) instrument[Symbol.dispose]();
  }

  /**
   * Where both ends are translated nothing of the pod's own is left in its packets. They are found by conntrack's
   * word: of TCP among the beginnings of all connections, of UDP among everything. By another socket, lest other
   * traffic crowds out the rest.
   */
  #openWide(node: NetworkNamespace): void {
    const { family, protocol } = this.#options.flow;
    const filter: PacketMatch = protocol === "tcp" ? { family, tcpSyn: true } : { family, protocol: "udp" };
    this.#wideTap = this.#tryOpen("packets with both ends translated", () =>
      PacketTap.open(node, { filter }),
    );
  }

  #mayTranslateDestinations(): boolean {
    const chains = this.#ruleTraces.node?.ruleset.flatMap((table) => table.chains) ?? [];
    const isLegacy = this.#options.survey.node?.iptablesLegacy.includes("nat") === true;
    return isLegacy || chains.some(({ base }) => base?.type === "nat" && base.hook === "prerouting");
  }

  /** What was seen, in the order of time, and what only conntrack knows to be the flow's. */
  #packetsOf(flow: FlowEnds): SeenPacket[] {
    const key = (packet: CapturedPacket): string =>
      `${packet.interfaceIndex} ${packet.direction} ${packet.timeUs}`;
    const known = new Set(this.seen.filter(({ where }) => where === "node").map(key));
    const found = this.#wide
      .filter((packet) => belongsTo(packet.packet, flow) && !known.has(key(packet)))
      .map((packet) => Object.assign(packet, { where: "node" as const }));
    return [...this.seen, ...found].toSorted((a, b) => a.timeUs - b.timeUs);
  }

  /** The node routes for the destination that a rule has put into the packet. */
  #surveyOf(destination: FlowDestination | undefined): PathSurvey {
    const { survey, flow, node } = this.#options;
    if (destination === undefined || node === undefined || survey.node === undefined) return survey;
    const { family, protocol, source } = flow;
    const packet = present({
      family,
      protocol,
      source,
      destination: destination.address,
      destinationPort: destination.port,
    });
    return { ...survey, node: surveyTranslated(node, survey.node, packet) };
  }

  /**
   * Other flows to the same destination pass the filter until it is known which of them is ours behind the
   * translation. What was kept of them is forgotten.
   */
  #narrow(flow: FlowEnds): void {
    this.#isNarrow = true;
    const outside = this.#flowWatch?.entry(flow)?.reply.destinationPort;
    if (outside === undefined || flow.protocol === "icmp") return;
    const filter = [...neighbourFilter(flow), ...portsFilter(flow, [flow.sourcePort, outside])];
    const isOurs = packetTest(filter);
    const kept = this.seen.filter(({ packet }) => isOurs(packet));
    this.seen.splice(0, this.seen.length, ...kept);
    for (const { tap } of this.#taps) tap.narrow(filter);
  }

  /** Empty where there is no table of iptables-legacy. */
  #legacy(node: NetworkNamespace): LegacyGrowth[] {
    const { survey, flow } = this.#options;
    if ((survey.node?.iptablesLegacy ?? []).length === 0) return [];
    try {
      return readLegacyCounters(node, flow.family);
    } catch (error) {
      this.#missing.push({ what: "iptables-legacy's counters", why: messageOf(error) });
      return [];
    }
  }

  #addTap(where: "pod" | "node", namespace: NetworkNamespace): void {
    const tap = PacketTap.open(namespace, { filter: tapFilter(this.#options.flow) });
    this.#open.push(tap);
    this.#taps.push({ where, tap });
  }

  /** Some instruments need more than others: without one of them the trace tells less, and says so. */
  #tryOpen<T extends Disposable>(
    what: string,
    open: () => T | undefined,
    keep: (instrument: T) => void = () => {},
  ): T | undefined {
    try {
      const instrument = open();
      if (instrument === undefined) return undefined;
      this.#open.push(instrument);
      keep(instrument);
      return instrument;
    } catch (error) {
      if (error instanceof WayoutError) throw error;
      const refused = error instanceof SystemError && (error.code === "EPERM" || error.code === "EACCES");
      this.#missing.push({ what, why: refused ? "this needs root of the machine" : messageOf(error) });
      return undefined;
    }
  }
}

function neighboursOfPod(pod: NetworkNamespace) {
  using route = podRoute(pod);
  return route.neighbours();
}

function neighboursOf(namespace: NetworkNamespace) {
  using route = Rtnetlink.open(namespace);
  return route.neighbours();
}

/** Where the kernel gives no reason, the function that dropped the packet says something to those who look it up. */
function withFunctions(drops: readonly KernelDrop[], flow: FlowEnds): KernelDrop[] {
  return drops.map((drop) => {
    const isAsked = drop.reason === "NOT_SPECIFIED" && isFatalDrop(drop, flow);
    const name = isAsked ? kernelFunctionAt(drop.location) : undefined;
    return name === undefined ? drop : { ...drop, function: name };
  });
}
