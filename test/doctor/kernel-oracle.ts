/** What the kernel really does with packets under a ruleset: sent by hand, seen by capture. */
import { predictPath, type PredictedPath } from "../../src/doctor/predict/predict.ts";
import type { Prediction, Target } from "../../src/doctor/predict/path.ts";
import { Conntrack } from "../../src/kernel/conntrack/conntrack.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { PacketTap, type CapturedPacket } from "../../src/kernel/packet-socket.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { ask, run } from "../support/witness.ts";
import { FrameSender } from "./frame.ts";
import { DESTINATIONS, PORTS, Random, randomRuleset, UPLINKS, type RandomRuleset } from "./random-ruleset.ts";
import { snapshotOf, PLAN, type World } from "./world.ts";

/** How long the kernel gets to forward what was sent. It needs microseconds. */
const QUIET_MS = 25;
const [UPLINK, SECOND] = UPLINKS;
/** The router's side of the second uplink. */
const SECOND_ROUTER = "to-node-2";
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

/** Which link of the outside leads to the node's uplink of that name, and which MAC addresses are at its ends. */
interface UplinkEnds {
  readonly sender: FrameSender;
  readonly node: string;
  readonly router: string;
}

/** One random ruleset, a handful of random packets, the prediction beside what happened. */
export class KernelOracle implements Disposable {
  readonly #pod: FrameSender;
  readonly #podTap: PacketTap;
  readonly #outsideTap: PacketTap;
  /** By the outside's link. */
  readonly #uplinks = new Map<string, UplinkEnds>();
  readonly #podMac: string;
  readonly #bridgeMac: string;
  #port = 20_000;

  /** @param packets that are sent under each ruleset */
  constructor(
    readonly world: World,
    readonly packets = 16,
  ) {
    this.#buildSecondUplink();
    const pod = linkIn(world.blue, PLAN.podInterface);
    this.#podMac = pod.mac;
    this.#bridgeMac = linkIn(world.node, PLAN.node.bridge).mac;
    this.#pod = new FrameSender(world.blue, pod.index);
    this.#podTap = PacketTap.open(world.blue, { interfaces: [PLAN.podInterface] });
    const links = [PLAN.internet.link, SECOND_ROUTER];
    this.#outsideTap = PacketTap.open(world.internet, { interfaces: links });
    for (const [at, { link, router: address }] of UPLINKS.entries()) {
      const router = linkIn(world.internet, links[at]!);
      this.#uplinks.set(links[at]!, {
        sender: new FrameSender(world.internet, router.index),
        node: linkIn(world.node, link).mac,
        router: router.mac,
      });
      this.#knows(link, address, router.mac);
    }
    // SNAT to this address must find its way back to the node.
    ask(world.node, ["ip", "addr", "add", "203.0.113.77/24", "dev", UPLINK.link]);
    this.#knows(PLAN.node.bridge, PLAN.pods.blue.ipv4, pod.mac);
    ask(world.node, ["ipset", "create", "nets", "hash:net", "counters"]);
    ask(world.node, ["ipset", "add", "nets", "198.51.100.96/29"]);
    ask(world.node, ["ipset", "create", "pairs", "hash:ip,port"]);
    ask(world.node, ["ipset", "add", "pairs", "192.0.2.7,tcp:80"]);
    // What the outside's own stack would answer is not part of the experiment.
    ask(
      world.internet,
      ["nft", "-f", "-"],
      "table inet silent { chain output { type filter hook output priority 0; policy drop; }; }",
    );
  }

  #buildSecondUplink(): void {
    const { node, internet } = this.world;
    const peer = ["type", "veth", "peer", "name", SECOND_ROUTER, "netns", PLAN.internet.namespace];
    ask(node, ["ip", "link", "add", SECOND.link, ...peer]);
    ask(node, ["ip", "addr", "add", `${SECOND.address}/25`, "dev", SECOND.link]);
    ask(node, ["ip", "link", "set", SECOND.link, "up"]);
    ask(internet, ["ip", "addr", "add", `${SECOND.router}/25`, "dev", SECOND_ROUTER]);
    ask(internet, ["ip", "link", "set", SECOND_ROUTER, "up"]);
  }

  /** Neighbours that are fixed answer at once: the capture waits for no ARP. */
  #knows(link: string, address: string, mac: string): void {
    ask(this.world.node, ["ip", "neigh", "replace", address, "lladdr", mac, "dev", link]);
  }

  [Symbol.dispose](): void {
    for (const one of [this.#pod, this.#podTap, this.#outsideTap]) one[Symbol.dispose]();
    for (const { sender } of this.#uplinks.values()) sender[Symbol.dispose]();
  }

  /** @returns undefined when nft, iptables or ip refused the ruleset: another seed makes another one */
  run(seed: number): CaseResult | undefined {
    const random = new Random(seed);
    const ruleset = randomRuleset(random);
    if (!this.#load(ruleset)) return undefined;
    const recorded = random.chance(0.5) ? DESTINATIONS : [];
    return this.#compare(seed, ruleset, this.#shots(random), recorded);
  }

  /** What the kernel does with random packets under one ruleset, beside the prediction. */
  runWith(seed: number, ruleset: RandomRuleset): CaseResult | undefined {
    if (!this.#load(ruleset)) return undefined;
    return this.#compare(seed, ruleset, this.#shots(new Random(seed)), []);
  }

  #shots(random: Random): Shot[] {
    return Array.from({ length: this.packets }, (_, index) => this.#shot(random, index + 1));
  }

  #compare(
    seed: number,
    ruleset: RandomRuleset,
    shots: readonly Shot[],
    recorded: readonly string[],
  ): CaseResult {
    const snapshot = snapshotOf(this.world, recorded);
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
      const predicted = predictPath(snapshot, snapshot.pods[0]!, shot);
      const observedOut = out.get(shot.id);
      const path = legOf(predicted, observedOut);
      // What holds for this packet is known, also where it does not for larger ones.
      const doubts = predicted.doubts.filter((one) => one.of !== "content" || !one.likely);
      if (doubts.length > 0 || !predicted.certain || path === undefined) {
        unsure++;
        continue;
      }
      const seenOut = observedOut === undefined ? "nothing" : tupleOf(observedOut);
      const seenBack = back.get(shot.id + ANSWER_ID);
      const found = (way: "out" | "back", expected: Seen, observed: Seen): void => {
        if (expected === observed) return;
        const packet = `${shot.protocol} :${shot.sourcePort} > ${shot.address}:${shot.port}`;
        differences.push({
          seed,
          ruleset,
          packet,
          way,
          predicted: `${expected} (${endText(path)})`,
          observed,
        });
      };
      // A port within the range is kept, unless a flow before it was given that one by chance.
      const ports = path.translatedPorts ?? path.allowedPorts;
      const port = observedOut?.packet.tcp?.sourcePort ?? observedOut?.packet.udp?.sourcePort ?? 0;
      const chosen = ports !== undefined && port >= ports.first && port <= ports.last ? port : undefined;
      found("out", predictedOut(path, chosen), seenOut);
      if (observedOut === undefined) continue;
      delivered++;
      found("back", predictedBack(path, seenBack), seenBack === undefined ? "nothing" : tupleOf(seenBack));
    }
    return { differences, compared: shots.length - unsure, delivered, unsure };
  }

  #load({ nft, iptables, routing, sysctls }: RandomRuleset): boolean {
    const { node } = this.world;
    ask(node, ["nft", "flush", "ruleset"]);
    // What is not there cannot be taken away: that is no failure.
    run(node, ["ip", "-force", "-batch", "-"], RESET.join("\n"));
    const settings = Object.entries({ ...PLAIN, ...sysctls }).map(([name, value]) => `${name}=${value}`);
    ask(node, ["sysctl", "-qw", ...settings]);
    if (run(node, ["nft", "-f", "-"], nft).exitCode !== 0) return false;
    if (routing.length > 0) run(node, ["ip", "-force", "-batch", "-"], routing.join("\n"));
    return iptables === undefined || run(node, ["iptables-nft-restore"], iptables).exitCode === 0;
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
        from: this.#podMac,
        to: this.#bridgeMac,
        source: PLAN.pods.blue.ipv4,
        destination: shot.address,
        protocol: shot.protocol,
        sourcePort: shot.sourcePort,
        destinationPort: shot.port,
        tcpFlags: 0x02,
        id: shot.id,
      });
    }
    return this.#arrivals(this.#outsideTap, (id) => id >= 1 && id <= this.packets);
  }

  /** Answers to what arrived, as the other side would send them. */
  #shootBack(out: ReadonlyMap<number, CapturedPacket>): Map<number, CapturedPacket> {
    for (const [id, { packet, interface: link }] of out) {
      const ends = packet.tcp ?? packet.udp;
      if (packet.ip === undefined || ends === undefined) continue;
      const { sender, node, router } = this.#uplinks.get(answerLink(packet.ip.source, link))!;
      sender.send({
        from: router,
        to: node,
        source: packet.ip.destination,
        destination: packet.ip.source,
        protocol: packet.tcp === undefined ? "udp" : "tcp",
        sourcePort: ends.destinationPort,
        destinationPort: ends.sourcePort,
        tcpFlags: 0x12,
        id: id + ANSWER_ID,
      });
    }
    return this.#arrivals(this.#podTap, (id) => id > ANSWER_ID && id <= ANSWER_ID + this.packets);
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

/** Routers bring an answer to the network of its address; what is nobody's goes back the way it came. */
function answerLink(address: string, cameBy: string): string {
  if (address.startsWith("203.0.113.")) return PLAN.internet.link;
  return address === SECOND.address ? SECOND_ROUTER : cameBy;
}

/** The leg that the packet took; undefined when it was not seen and the legs do not agree. */
function legOf({ path, legs }: PredictedPath, seen: CapturedPacket | undefined): Prediction | undefined {
  if (legs.length === 0 || legs.some((leg) => leg.taken === true)) return path;
  if (legs.some((leg) => !leg.certain)) return undefined;
  const at = seen === undefined ? undefined : seen.interface === SECOND_ROUTER ? SECOND.link : UPLINK.link;
  if (at === undefined)
    return legs.find((leg) => predictedOut(leg.path, undefined) === "nothing")?.path ?? path;
  return legs.find((leg) => leg.path.outLink?.name === at)?.path ?? path;
}

function endText({ end, stops }: Prediction): string {
  return [end, ...stops.map((stop) => `${stop.kind} ${stop.direction}`)].join(", ");
}

/** Back to how the world was built. */
const RESET = [
  "rule flush",
  "rule add priority 32766 lookup main",
  "rule add priority 32767 lookup default",
  ...[101, 102, 103].map((table) => `route flush table ${table}`),
  "route flush 198.51.100.0/24",
  "route flush root 198.51.100.0/24",
  "route flush root 192.0.2.0/25",
  `route replace default via ${UPLINK.router} dev ${UPLINK.link}`,
];

const PLAIN: Readonly<Record<string, number>> = {
  "net.ipv4.conf.all.rp_filter": 0,
  "net.ipv4.conf.lan0.rp_filter": 0,
  "net.ipv4.conf.up0.rp_filter": 0,
  "net.ipv4.conf.eth1.rp_filter": 0,
  "net.ipv4.conf.up0.src_valid_mark": 0,
  "net.ipv4.conf.lan0.src_valid_mark": 0,
};

function linkIn(namespace: NetworkNamespace, name: string) {
  using route = Rtnetlink.open(namespace);
  return route.link(name)!;
}

function tupleOf({ packet }: CapturedPacket): Seen {
  const ends = packet.tcp ?? packet.udp;
  return `${packet.ip!.source}:${ends?.sourcePort} > ${packet.ip!.destination}:${ends?.destinationPort}`;
}

/** Judgements about the world outside are no drops. */
const JUDGEMENTS = new Set([
  "untranslated",
  "foreign-source",
  "source-unanswered",
  "answer-unrecognized",
  "answer-from-another",
]);

/** @param chosen the port that the kernel took from the range it was given */
function predictedOut(path: Prediction, chosen: number | undefined): Seen {
  const stopped = path.stops.some((stop) => stop.direction === "out" && !JUDGEMENTS.has(stop.kind));
  if (stopped || path.left === undefined || path.end !== "outside") return "nothing";
  const { source, sourcePort, destination, destinationPort } = path.left;
  return `${source}:${chosen ?? sourcePort} > ${destination}:${destinationPort}`;
}

function predictedBack(path: Prediction, seen: CapturedPacket | undefined): Seen {
  const last = path.steps.at(-1);
  const stopped = path.stops.some((stop) => stop.direction === "back" && !JUDGEMENTS.has(stop.kind));
  if (stopped || last?.direction !== "back" || last.at !== "input") return "nothing";
  const { source, destination, destinationPort } = last.tuple;
  const port = seen?.packet.tcp?.sourcePort ?? seen?.packet.udp?.sourcePort ?? 0;
  const { first, last: greatest } = last.sourcePorts ?? { first: 1, last: 0 };
  const sourcePort = port >= first && port <= greatest ? port : last.tuple.sourcePort;
  return `${source}:${sourcePort} > ${destination}:${destinationPort}`;
}
