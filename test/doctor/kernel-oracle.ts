/** What the kernel really does with packets under a ruleset: sent by hand, seen by capture. */
import { predictPath } from "../../src/doctor/predict/predict.ts";
import type { Prediction, Target } from "../../src/doctor/predict/path.ts";
import { Conntrack } from "../../src/kernel/conntrack/conntrack.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { PacketTap, type CapturedPacket } from "../../src/kernel/packet-socket.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { PLAN } from "../../src/lab/plan.ts";
import type { World } from "../../src/lab/world.ts";
import { ask, run } from "../support/witness.ts";
import { FrameSender } from "./frame.ts";
import { DESTINATIONS, PORTS, Random, randomRuleset, type RandomRuleset } from "./random-ruleset.ts";
import { snapshotOf } from "./world.ts";

/** How long the kernel gets to forward what was sent. It needs microseconds. */
const QUIET_MS = 25;
const PACKETS = 16;
const ANSWER_ID = 30_000;

interface Shot extends Target {
  readonly protocol: "tcp" | "udp";
  readonly sourcePort: number;
  readonly id: number;
}

/** `10.0.0.1:2000 > 198.51.100.1:80`, or `nothing`. */
type Seen = string;

export interface Difference {
  readonly seed: number;
  readonly ruleset: RandomRuleset;
  readonly packet: string;
  readonly way: "out" | "back";
  readonly predicted: Seen;
  readonly observed: Seen;
}

export interface CaseResult {
  readonly differences: readonly Difference[];
  readonly compared: number;
  readonly delivered: number;
  /** The prediction itself said that it cannot tell. */
  readonly unsure: number;
}

/** One random ruleset, a handful of random packets, the prediction beside what happened. */
export class KernelOracle implements Disposable {
  readonly #pod: FrameSender;
  readonly #outside: FrameSender;
  readonly #podTap: PacketTap;
  readonly #outsideTap: PacketTap;
  readonly #macs: {
    readonly pod: string;
    readonly bridge: string;
    readonly uplink: string;
    readonly router: string;
  };
  #port = 20_000;

  constructor(readonly world: World) {
    const pod = linkIn(world.blue, PLAN.podInterface);
    const bridge = linkIn(world.node, PLAN.node.bridge);
    const uplink = linkIn(world.node, PLAN.node.uplink);
    const router = linkIn(world.internet, PLAN.internet.link);
    this.#macs = { pod: pod.mac, bridge: bridge.mac, uplink: uplink.mac, router: router.mac };
    this.#pod = new FrameSender(world.blue, pod.index);
    this.#outside = new FrameSender(world.internet, router.index);
    this.#podTap = PacketTap.open(world.blue, { interfaces: [PLAN.podInterface] });
    this.#outsideTap = PacketTap.open(world.internet, { interfaces: [PLAN.internet.link] });
    // SNAT to this address must find its way back to the node.
    ask(world.node, ["ip", "addr", "add", "203.0.113.77/24", "dev", PLAN.node.uplink]);
    // Neighbours that are fixed answer at once: the capture waits for no ARP.
    ask(world.node, [
      "ip",
      "neigh",
      "replace",
      PLAN.internet.routerIpv4,
      "lladdr",
      router.mac,
      "dev",
      PLAN.node.uplink,
    ]);
    ask(world.node, [
      "ip",
      "neigh",
      "replace",
      PLAN.pods.blue.ipv4,
      "lladdr",
      pod.mac,
      "dev",
      PLAN.node.bridge,
    ]);
    // What the outside's own stack would answer is not part of the experiment.
    ask(
      world.internet,
      ["nft", "-f", "-"],
      "table inet silent { chain output { type filter hook output priority 0; policy drop; }; }",
    );
  }

  [Symbol.dispose](): void {
    for (const one of [this.#pod, this.#outside, this.#podTap, this.#outsideTap]) one[Symbol.dispose]();
  }

  /** @returns undefined when nft or iptables refused the ruleset: another seed makes another one */
  run(seed: number): CaseResult | undefined {
    const random = new Random(seed);
    const ruleset = randomRuleset(random);
    if (!this.#load(ruleset)) return undefined;
    const shots = Array.from({ length: PACKETS }, (_, index) => this.#shot(random, index + 1));
    const snapshot = snapshotOf(this.world, []);
    using conntrack = Conntrack.open(this.world.node);
    conntrack.flush();
    this.#podTap.read();
    this.#outsideTap.read();
    const out = this.#shootOut(shots);
    const back = this.#shootBack(out);
    const differences: Difference[] = [];
    let unsure = 0;
    let delivered = 0;
    for (const shot of shots) {
      const { path, doubts, certain } = predictPath(snapshot, snapshot.pods[0]!, shot);
      if (doubts.length > 0 || !certain) {
        unsure++;
        continue;
      }
      const observedOut = out.get(shot.id);
      const seenOut = observedOut === undefined ? "nothing" : tupleOf(observedOut);
      const seenBack = back.get(shot.id + ANSWER_ID);
      const found = (way: "out" | "back", predicted: Seen, observed: Seen): void => {
        if (predicted === observed) return;
        const packet = `${shot.protocol} :${shot.sourcePort} > ${shot.address}:${shot.port}`;
        differences.push({ seed, ruleset, packet, way, predicted, observed });
      };
      const ports = path.translatedPorts;
      const port = observedOut?.packet.tcp?.sourcePort ?? observedOut?.packet.udp?.sourcePort ?? 0;
      const chosen = ports !== undefined && port >= ports.first && port <= ports.last ? port : undefined;
      found("out", predictedOut(path, chosen), seenOut);
      if (observedOut === undefined) continue;
      delivered++;
      found("back", predictedBack(path), seenBack === undefined ? "nothing" : tupleOf(seenBack));
    }
    return { differences, compared: shots.length - unsure, delivered, unsure };
  }

  #load({ nft, iptables }: RandomRuleset): boolean {
    ask(this.world.node, ["nft", "flush", "ruleset"]);
    if (run(this.world.node, ["nft", "-f", "-"], nft).exitCode !== 0) return false;
    return iptables === undefined || run(this.world.node, ["iptables-nft-restore"], iptables).exitCode === 0;
  }

  #shot(random: Random, id: number): Shot {
    // A port of its own for every packet: no two share a conntrack entry.
    this.#port = this.#port >= 39_000 ? 20_000 : this.#port + 1 + random.below(3);
    return {
      address: random.pick(DESTINATIONS),
      protocol: random.pick(["tcp", "udp"]),
      port: random.pick(PORTS),
      sourcePort: this.#port,
      id,
    };
  }

  #shootOut(shots: readonly Shot[]): Map<number, CapturedPacket> {
    for (const shot of shots) {
      this.#pod.send({
        from: this.#macs.pod,
        to: this.#macs.bridge,
        source: PLAN.pods.blue.ipv4,
        destination: shot.address,
        protocol: shot.protocol,
        sourcePort: shot.sourcePort,
        destinationPort: shot.port,
        tcpFlags: 0x02,
        id: shot.id,
      });
    }
    return this.#arrivals(this.#outsideTap, (id) => id >= 1 && id <= PACKETS);
  }

  /** Answers to what arrived, as the other side would send them. */
  #shootBack(out: ReadonlyMap<number, CapturedPacket>): Map<number, CapturedPacket> {
    for (const [id, { packet }] of out) {
      const ends = packet.tcp ?? packet.udp;
      if (packet.ip === undefined || ends === undefined) continue;
      this.#outside.send({
        from: this.#macs.router,
        to: this.#macs.uplink,
        source: packet.ip.destination,
        destination: packet.ip.source,
        protocol: packet.tcp === undefined ? "udp" : "tcp",
        sourcePort: ends.destinationPort,
        destinationPort: ends.sourcePort,
        tcpFlags: 0x12,
        id: id + ANSWER_ID,
      });
    }
    return this.#arrivals(this.#podTap, (id) => id > ANSWER_ID && id <= ANSWER_ID + PACKETS);
  }

  #arrivals(tap: PacketTap, wanted: (id: number) => boolean): Map<number, CapturedPacket> {
    const found = new Map<number, CapturedPacket>();
    for (;;) {
      const captured = tap.read(QUIET_MS);
      if (captured.length === 0) return found;
      for (const one of captured) {
        const id = one.packet.ip?.id;
        if (one.direction === "host" && id !== undefined && wanted(id)) found.set(id, one);
      }
    }
  }
}

function linkIn(namespace: NetworkNamespace, name: string) {
  using route = Rtnetlink.open(namespace);
  return route.link(name)!;
}

function tupleOf({ packet }: CapturedPacket): Seen {
  const ends = packet.tcp ?? packet.udp;
  return `${packet.ip!.source}:${ends?.sourcePort} > ${packet.ip!.destination}:${ends?.destinationPort}`;
}

/** Judgements about the world outside are no drops. */
const JUDGEMENTS = new Set(["untranslated", "foreign-source"]);

/** @param chosen the port that the kernel took from the range it was given */
function predictedOut(path: Prediction, chosen: number | undefined): Seen {
  const stopped = path.stops.some((stop) => stop.direction === "out" && !JUDGEMENTS.has(stop.kind));
  if (stopped || path.left === undefined) return "nothing";
  const { source, sourcePort, destination, destinationPort } = path.left;
  return `${source}:${chosen ?? sourcePort} > ${destination}:${destinationPort}`;
}

function predictedBack(path: Prediction): Seen {
  const last = path.steps.at(-1);
  if (path.stops.some((stop) => stop.direction === "back") || last?.direction !== "back") return "nothing";
  const { source, sourcePort, destination, destinationPort } = last.tuple;
  return `${source}:${sourcePort} > ${destination}:${destinationPort}`;
}
