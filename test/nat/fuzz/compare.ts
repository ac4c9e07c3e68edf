/** The same lanes through both worlds, step by step, and what is different about what comes out. */
import { ipBytes } from "../../../src/address/ip.ts";
import { listedAs, UNASKED, type Outcome } from "./listed.ts";
import {
  checksumAt,
  checksumError,
  headerError,
  ICMP,
  ICMPV6,
  packets,
  readPacket,
  reassembled,
  sealed,
  completed,
  hasPorts,
  transportBytes,
  type Ends,
  type ReadPacket,
} from "./packets.ts";
import type { Exchange, Lane, Step } from "./steps.ts";
import type { Transport } from "./packets.ts";
import type { Frame } from "./wire.ts";
import { NODE, World, type WorldOptions } from "./worlds.ts";

export const MOST_LANES = 240;
export const MOST_STEPS = 40;
const NODE_BYTES = { 4: ipBytes(NODE[4]), 6: ipBytes(NODE[6]) } as const;
const NODE_HEX = { 4: NODE_BYTES[4].toHex(), 6: NODE_BYTES[6].toHex() } as const;

/** What is wrong about a lane: where, and what each world made of it. */
export interface Difference {
  readonly lane: Lane;
  readonly at: number;
  readonly what: string;
  readonly nftables: readonly string[];
  readonly ebpf: readonly string[];
}

export interface Result {
  /** Packets sent through each of both worlds, while they were compared. */
  readonly compared: number;
  readonly differences: readonly Difference[];
  /** How often what is written down as different was so. */
  readonly listed: ReadonlyMap<string, number>;
  /** From where the outside got packets by way of the programs, in hexadecimal. */
  readonly sources: ReadonlySet<string>;
}

/** Both worlds, for as many rounds as there are ports. */
export class Comparison implements Disposable {
  readonly #worlds: readonly [World, World];
  #round = 0;

  constructor(options: WorldOptions) {
    this.#worlds = [new World("nftables", options), new World("ebpf", options)];
  }

  /** @param lanes at most MOST_LANES */
  run(lanes: readonly Lane[]): Result {
    if (this.#round++ > 0) for (const world of this.#worlds) world.renew();
    const runs = lanes.map((lane, index) => new LaneRun(lane, index + 1, this.#round));
    const byNumber = new Map(runs.map((run) => [run.number, run]));
    const length = Math.max(0, ...lanes.map(({ steps }) => steps.length));
    const listed = new Map<string, number>();
    const sources = new Set<string>();
    let compared = 0;
    for (let at = 0; at < length; at++) {
      const outcomes = this.#worlds.map((world, side) =>
        outcomesOf(world, side as 0 | 1, runs, byNumber, at),
      );
      for (const run of runs) {
        if (run.lane.steps[at] === undefined || run.difference !== undefined) continue;
        const [nftables, ebpf] = outcomes.map((all) => all.get(run.number)!) as [Outcome, Outcome];
        if (!run.diverged) compared += Math.max(1, nftables.sent);
        run.judge(at, nftables, ebpf, listed);
        for (const { source } of ebpf.raw) sources.add(source);
      }
    }
    return { compared, differences: runs.flatMap(({ difference }) => difference ?? []), listed, sources };
  }

  [Symbol.dispose](): void {
    for (const world of this.#worlds) world[Symbol.dispose]();
  }
}

function outcomesOf(
  world: World,
  side: 0 | 1,
  runs: readonly LaneRun[],
  byNumber: ReadonlyMap<number, LaneRun>,
  at: number,
): Map<number, Outcome> {
  const outcomes = new Map(runs.map((run) => [run.number, emptyOutcome()]));
  const frames = { pod: [] as Frame[], outside: [] as Frame[] };
  for (const run of runs) {
    const step = run.lane.steps[at];
    if (step === undefined) continue;
    const sent = run.frames(side, step, at);
    outcomes.get(run.number)!.sent = sent.length;
    frames[step.kind === "out" || step.kind === "pod-error" ? "pod" : "outside"].push(...sent);
  }
  const came = world.exchange(frames.pod, frames.outside);
  for (const end of ["pod", "outside"] as const) {
    const byLane = new Map<number, [ReadPacket, Frame][]>();
    for (const frame of came[end]) {
      const packet = readPacket(frame.bytes);
      const number = packet === undefined ? undefined : laneOf(packet.destination);
      if (number === undefined || !byNumber.has(number)) continue;
      const list = byLane.get(number);
      if (list === undefined) byLane.set(number, [[packet!, frame]]);
      else list.push([packet!, frame]);
    }
    for (const [number, list] of byLane) {
      const run = byNumber.get(number)!;
      const step = run.lane.steps[at];
      if (step !== undefined) run.take(side, end, step, at, list, outcomes.get(number)!);
    }
  }
  return outcomes;
}

function emptyOutcome(): Outcome {
  return { sent: 0, pod: [], outside: [], raw: [], rawPod: [] };
}

/** By the address that a packet goes to. */
function laneOf(address: string): number | undefined {
  if (address.length === 8) {
    const bytes = Uint8Array.fromHex(address);
    if (bytes[0] === 10 && bytes[1] === 9) return bytes[2];
    return (bytes[0] === 203 && bytes[2] === 113) || (bytes[0] === 198 && bytes[2] === 100)
      ? bytes[3]
      : undefined;
  }
  if (address.startsWith("fd000009") || address.startsWith("20010db8"))
    return Number.parseInt(address.slice(8, 12), 16);
  return undefined;
}

class LaneRun {
  diverged = false;
  difference: Difference | undefined;
  /** By world: at which port the outside sees an exchange. */
  readonly #ports = [new Map<string, number>(), new Map<string, number>()] as const;
  /** By world: what the outside, or the pod, saw last of an exchange. */
  readonly #seen = [new Map<string, Uint8Array>(), new Map<string, Uint8Array>()] as const;
  /** By world: at which ports of the node the outside has asked. */
  readonly #asked = [new Set<number>(), new Set<number>()] as const;
  readonly #inbound = new Set<string>();
  /** Whether the outside has spoken to the node itself, at a port that may be a pod's later. */
  #isNodeAsked = false;
  readonly pods: readonly string[];

  constructor(
    readonly lane: Lane,
    readonly number: number,
    private readonly round: number,
  ) {
    this.pods = [0, 1].map((pod) => this.#pod(pod).toHex());
  }

  frames(side: 0 | 1, step: Step, at: number): Frame[] {
    const { exchange, what, manner, kind } = step;
    const id = this.#id(at);
    if (kind === "error" || kind === "pod-error") return this.#errorFrames(side, step, id);
    if (kind === "in") this.#inbound.add(`${exchange.peer} ${exchange.pod}`);
    const isNumbered = what.protocol === ICMP || what.protocol === ICMPV6;
    if (kind === "answer" && isNumbered && !this.#ports[side].has(portKey(exchange, what))) return [];
    if (kind === "stray" || (kind === "answer" && !this.#ports[side].has(portKey(exchange, what))))
      this.#isNodeAsked = true;
    const ends = this.#ends(side, step);
    const frames = packets(ends, what.protocol, transportBytes(ends, what, manner, at), manner, id);
    if (kind === "answer" || kind === "stray") this.#asked[side].add(ends.destinationPort);
    return frames;
  }

  #ends(side: 0 | 1, { kind, exchange, what }: Step): Ends {
    const [pod, peer] = [this.#pod(exchange.pod), this.#peer(exchange.peer)];
    const node = NODE_BYTES[this.lane.family];
    const isEcho = what.protocol === ICMP || what.protocol === ICMPV6;
    if (kind === "out")
      return {
        source: pod,
        destination: peer,
        sourcePort: exchange.port,
        destinationPort: exchange.peerPort,
      };
    const port =
      kind === "answer" ? (this.#ports[side].get(portKey(exchange, what)) ?? exchange.port) : exchange.port;
    return {
      source: peer,
      destination: kind === "in" ? pod : node,
      sourcePort: isEcho ? port : exchange.peerPort,
      destinationPort: port,
    };
  }

  #errorFrames(side: 0 | 1, { kind, exchange, what, manner, quote }: Step, id: number): Frame[] {
    const seen = this.#seen[side].get(`${kind} ${keyOf(exchange)}`);
    if (seen === undefined) return [];
    const { family } = this.lane;
    // Less than eight bytes of the transport is no quotation (RFC 792).
    const quoted = seen.subarray(0, Math.max(quote!, readPacket(seen)!.start + 8));
    const bytes = new Uint8Array(8 + quoted.length);
    bytes[0] = what.type!;
    bytes[1] = what.code!;
    const wantsMtu = family === 4 ? what.type === 3 && what.code === 4 : what.type === 2;
    if (wantsMtu) new DataView(bytes.buffer).setUint16(6, 1290);
    bytes.set(quoted, 8);
    const to = family === 4 ? seen.subarray(12, 16) : seen.subarray(8, 24);
    const ends = {
      source: kind === "error" ? this.#peer(exchange.peer) : this.#pod(exchange.pod),
      destination: to.slice(),
    };
    sealed(bytes, ends, what.protocol, manner.checksum);
    return packets(ends, what.protocol, bytes, {}, id);
  }

  /** What came out at an end of a world at this step. */
  take(
    side: 0 | 1,
    end: "pod" | "outside",
    step: Step,
    at: number,
    list: readonly (readonly [ReadPacket, Frame])[],
    outcome: Outcome,
  ): void {
    const offloads = new Map(list.map(([packet, frame]) => [packet, frame.offload]));
    outcome[end === "outside" ? "raw" : "rawPod"].push(...list.map(([packet]) => packet));
    const { whole, incomplete } = reassembled(list.map(([packet]) => packet));
    outcome.incomplete = (outcome.incomplete ?? 0) + incomplete;
    for (const packet of whole) {
      const offload = offloads.get(packet);
      if (offload?.gso === undefined) this.#remember(side, end, step, completed(packet, offload));
      outcome[end].push(this.#normal(side, end, at, packet, offload));
    }
    outcome[end].sort();
  }

  #remember(side: 0 | 1, end: "pod" | "outside", { kind, exchange, what }: Step, packet: ReadPacket): void {
    const { bytes, start, protocol, family, source } = packet;
    if (protocol !== what.protocol || bytes.length < start + 8) return;
    const key = keyOf(exchange);
    if (end === "outside" && kind === "out") {
      const at = protocol === ICMP || protocol === ICMPV6 ? 4 : 0;
      const isQuery =
        at === 0 ||
        bytes[start] === (family === 4 ? 8 : 128) ||
        (family === 4 && [13, 15, 17].includes(bytes[start]!));
      if (source === NODE_HEX[family] && isQuery)
        this.#ports[side].set(portKey(exchange, what), (bytes[start + at]! << 8) | bytes[start + at + 1]!);
      this.#seen[side].set(`error ${key}`, bytes);
    }
    if (end === "pod" && (kind === "answer" || kind === "in"))
      this.#seen[side].set(`pod-error ${key}`, bytes);
  }

  /** A packet as text, without what translation may choose: the port outside, and what follows of it. */
  #normal(
    side: 0 | 1,
    end: "pod" | "outside",
    at: number,
    packet: ReadPacket,
    offload: Frame["offload"],
  ): string {
    const { family, protocol, start } = packet;
    const bytes = packet.bytes.slice();
    const notes: string[] = [];
    if (family === 4) {
      notes.push(`header ${headerError(bytes, 0).toString(16)}`);
      bytes.fill(0, 10, 12);
      if (((bytes[4]! << 8) | bytes[5]!) !== this.#id(at)) bytes.fill(0, 4, 6);
    }
    notes.push(`checksum ${checksumError(packet, offload).toString(16)}`);
    const field = checksumAt(protocol);
    if (field !== undefined) bytes.fill(0, start + field, start + field + 2);
    if (offload?.gso !== undefined) notes.push(`segments of ${offload.gso.size}`);
    const isIcmp = protocol === ICMP || protocol === ICMPV6;
    if (end === "outside" && packet.source === NODE_HEX[family]) {
      if (isIcmp && !isError(bytes[start]!, family)) bytes.fill(0, start + 4, start + 6);
      if (hasPorts(protocol)) bytes.fill(0, start, start + 2);
    }
    if (isIcmp && isError(bytes[start]!, family)) this.#normalQuote(side, end, bytes, start + 8, notes);
    return `${notes.join(", ")}: ${bytes.toHex()}`;
  }

  /** In what is quoted to the outside stands the port that was chosen, at which the outside has asked. */
  #normalQuote(side: 0 | 1, end: "pod" | "outside", bytes: Uint8Array, from: number, notes: string[]): void {
    const inner = readPacket(bytes.subarray(from));
    if (inner === undefined) return;
    if (inner.family === 4) notes.push(`quoted header ${headerError(bytes, from).toString(16)}`);
    if (inner.family === 4) bytes.fill(0, from + 10, from + 12);
    if (end === "pod" || inner.destination !== NODE_HEX[inner.family]) return;
    const isIcmp = inner.protocol === ICMP || inner.protocol === ICMPV6;
    const port = from + inner.start + (isIcmp ? 4 : hasPorts(inner.protocol) ? 2 : -1);
    if (port >= from + inner.start) {
      const was = (bytes[port]! << 8) | bytes[port + 1]!;
      if (!this.#asked[side].has(was)) notes.push(UNASKED);
      bytes.fill(0, port, port + 2);
    }
    const field = checksumAt(inner.protocol);
    if (field !== undefined) bytes.fill(0, from + inner.start + field, from + inner.start + field + 2);
  }

  judge(at: number, nftables: Outcome, ebpf: Outcome, listed: Map<string, number>): void {
    const step = this.lane.steps[at]!;
    const fail = (what: string): void => {
      const text = ({ pod, outside }: Outcome): string[] => [
        ...pod.map((one) => `pod: ${one}`),
        ...outside.map((one) => `outside: ${one}`),
      ];
      this.difference = { lane: this.lane, at, what, nftables: text(nftables), ebpf: text(ebpf) };
    };
    const leak = this.#leak(ebpf);
    if (leak !== undefined) return fail(leak);
    if (this.diverged) return;
    if (same(nftables.pod, ebpf.pod) && same(nftables.outside, ebpf.outside)) return;
    const reason = listedAs(this.lane, at, nftables, ebpf, this.pods, this.#isNodeAsked);
    if (reason === undefined) return fail(`${step.kind} is not the same`);
    listed.set(reason, (listed.get(reason) ?? 0) + 1);
    this.diverged = true;
  }

  /** A pod's address where nobody may know it. Who spoke to it there first, knows it. */
  #leak({ raw }: Outcome): string | undefined {
    for (const { bytes, source, destination, start, protocol, family } of raw) {
      const pod = this.pods.indexOf(source);
      const peer = this.#peerOf(destination);
      if (pod >= 0 && !this.#inbound.has(`${peer} ${pod}`)) return "left with the pod's address";
      if ((protocol !== ICMP && protocol !== ICMPV6) || !isError(bytes[start]!, family)) continue;
      const inner = readPacket(bytes.subarray(start + 8));
      const inside = inner === undefined ? -1 : this.pods.indexOf(inner.destination);
      if (inside >= 0 && !this.#inbound.has(`${peer} ${inside}`)) return "told the pod's address in an error";
    }
    return undefined;
  }

  /** Fragments that nobody put together stay for a while. */
  #id(at: number): number {
    return 1 + ((this.round * MOST_STEPS + at) % 65_535);
  }

  #pod(pod: number): Uint8Array {
    return ipBytes(
      this.lane.family === 4
        ? `10.9.${this.number}.${pod + 1}`
        : `fd00:9:${this.number.toString(16)}::${pod + 1}`,
    );
  }

  #peer(peer: number): Uint8Array {
    if (this.lane.family === 4) return ipBytes(`${peer === 0 ? "203.0.113" : "198.51.100"}.${this.number}`);
    return ipBytes(`2001:db8:${this.number.toString(16)}::${peer + 1}`);
  }

  #peerOf(address: string): number {
    return [0, 1].findIndex((peer) => this.#peer(peer).toHex() === address);
  }
}

function keyOf({ protocol, pod, port, peer, peerPort }: Exchange): string {
  return `${protocol} ${pod}:${port} ${peer}:${protocol === ICMP || protocol === ICMPV6 ? "" : peerPort}`;
}

/** Questions of different kinds may have the same number, and are seen outside by different ones. */
function portKey(exchange: Exchange, { type }: Transport): string {
  const answers = [14, 16, 18, 129];
  const question = type === undefined ? "" : type === 0 ? 8 : answers.includes(type) ? type - 1 : type;
  return `${keyOf(exchange)} ${question}`;
}

function isError(type: number, family: 4 | 6): boolean {
  return family === 4 ? [3, 4, 5, 11, 12].includes(type) : type < 128;
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one, index) => one === b[index]);
}
