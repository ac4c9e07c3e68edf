/**
 * What happens in a lane: a pod or two, a peer or two, and packets between them, told without the addresses and ports that
 * a world gives them. A lane knows nothing of the others, so hundreds of them go side by side.
 */
import { Random } from "../../doctor/random-ruleset.ts";
import { FLAGS, ICMP, ICMPV6, TCP, UDP, type Manner, type Transport } from "./packets.ts";

/** An exchange, by the numbers of its ends. */
export interface Exchange {
  readonly protocol: number;
  readonly pod: number;
  readonly port: number;
  readonly peer: number;
  readonly peerPort: number;
}

export interface Step {
  /**
   * `out`: the pod sends; `answer`: the peer sends to where it sees the pod; `in`: the peer sends to the pod's own address;
   * `stray`: the peer sends to the node, at the pod's port; `error`, `pod-error`: the peer, or the pod, complains about what
   * it got last in this exchange.
   */
  readonly kind: "out" | "answer" | "in" | "stray" | "error" | "pod-error";
  readonly exchange: Exchange;
  readonly what: Transport;
  readonly manner: Manner;
  /** Of errors: so many bytes of the packet are quoted. */
  readonly quote?: number;
}

export interface Lane {
  readonly family: 4 | 6;
  readonly steps: readonly Step[];
}

const { fin, syn, rst, psh, ack } = FLAGS;
const TCP_FLAGS = [
  syn,
  syn,
  syn | ack,
  syn | ack,
  ack,
  ack,
  ack,
  ack | psh,
  ack | psh,
  fin | ack,
  fin | ack,
  rst,
  rst | ack,
  fin,
  0,
  syn | fin,
  syn | rst,
  fin | psh | ack | 32,
  syn | psh,
  syn | ack | psh,
  63,
  syn | 0xc0,
  ack | 0xc0,
] as const;
const ERRORS: Readonly<Record<4 | 6, readonly (readonly [number, number])[]>> = {
  4: [
    [3, 0],
    [3, 1],
    [3, 3],
    [3, 4],
    [3, 13],
    [11, 0],
    [11, 1],
    [12, 0],
    [4, 0],
    [5, 1],
  ],
  6: [
    [1, 0],
    [1, 3],
    [1, 4],
    [2, 0],
    [3, 0],
    [3, 1],
    [4, 0],
    [4, 1],
    [100, 0],
    [127, 0],
  ],
} as const;
/** Pairs of question and answer, and what is neither. */
const QUERIES: typeof ERRORS = {
  4: [
    [8, 0],
    [8, 0],
    [8, 0],
    [13, 14],
    [15, 16],
    [17, 18],
  ],
  6: [[128, 129]],
};
const OTHER_ICMP: Readonly<Record<4 | 6, readonly number[]>> = {
  4: [0, 9, 10, 14, 30, 42],
  6: [129, 130, 133, 135, 136, 137, 139, 143, 144, 160, 200],
};
const OTHER_PROTOCOLS = [132, 132, 47, 50, 51, 33, 136, 99, 253, 4, 41] as const;
const LENGTHS = [0, 1, 2, 7, 8, 20, 100, 101, 333] as const;

/** A lane by its seed. */
export function randomLane(seed: number, length: number): Lane {
  return new Writer(new Random(seed), length).write();
}

class Writer {
  readonly #family: 4 | 6;
  readonly #exchanges: Exchange[];
  /** Sequence numbers, of the pod and of the peer. */
  readonly #sequences = new Map<Exchange, [number, number]>();
  readonly #asked = new Set<Exchange>();
  /** How far an exchange of TCP has come, when nothing disturbs it. */
  readonly #stages = new Map<Exchange, number>();

  constructor(
    private readonly random: Random,
    private readonly length: number,
  ) {
    this.#family = random.chance(0.5) ? 4 : 6;
    this.#exchanges = random.times(1, 4, () => this.#exchange());
    // The same port of another pod, to the same peer.
    if (random.chance(0.5))
      this.#exchanges.push({ ...this.#exchanges[0]!, pod: 1 - this.#exchanges[0]!.pod });
  }

  write(): Lane {
    return { family: this.#family, steps: this.random.times(2, this.length, () => this.#step()) };
  }

  #exchange(): Exchange {
    const { random } = this;
    const roll = random.next();
    const icmp = this.#family === 4 ? ICMP : ICMPV6;
    const protocol = roll < 0.5 ? TCP : roll < 0.75 ? UDP : roll < 0.9 ? icmp : random.pick(OTHER_PROTOCOLS);
    return {
      protocol,
      pod: random.below(2),
      port: random.pick([2000, 2000, 2001, 53, 600, 65_535]),
      peer: random.below(2),
      peerPort: random.pick([80, 443]),
    };
  }

  #step(): Step {
    const { random } = this;
    const exchange = random.pick(this.#exchanges);
    const roll = random.next();
    if (roll < 0.05) return this.#error("error", exchange);
    if (roll < 0.09) return this.#error("pod-error", exchange);
    if (roll < 0.11) return this.#shaped("in", exchange);
    if (roll < 0.13) return this.#shaped("stray", exchange);
    if (exchange.protocol === TCP) return this.#tcp(exchange);
    const isAsked = this.#asked.has(exchange) || random.chance(0.03);
    this.#asked.add(exchange);
    return this.#shaped(isAsked && random.chance(0.5) ? "answer" : "out", exchange);
  }

  #error(kind: "error" | "pod-error", exchange: Exchange): Step {
    const { random } = this;
    const [type, code] = random.pick(ERRORS[this.#family]);
    const protocol = this.#family === 4 ? ICMP : ICMPV6;
    return {
      kind,
      exchange,
      what: { protocol, type, code, length: 0 },
      manner: random.chance(0.05) ? { checksum: "bad" } : {},
      quote: random.pick([28, 28, 36, 40, 48, 60, 68, 100, 548, 1232]),
    };
  }

  #shaped(kind: Step["kind"], exchange: Exchange): Step {
    const what = this.#transport(kind, exchange);
    // What the node drops on the way in was never begun for connection tracking.
    const { ttl: _, fragments: __, cut: ___, ...quiet } = this.#manner(what);
    if (kind === "in") return { kind, exchange, what: { ...what, length: what.length % 400 }, manner: quiet };
    return { kind, exchange, what, manner: this.#manner(what) };
  }

  #transport(kind: Step["kind"], { protocol }: Exchange): Transport {
    const { random } = this;
    const length = random.chance(0.08) ? random.pick([1200, 1300, 1350, 1400]) : random.pick(LENGTHS);
    if (protocol === TCP) return this.#segment(random.pick(TCP_FLAGS), 1, 1, random.chance(0.5) ? 0 : length);
    if (protocol === ICMP || protocol === ICMPV6) {
      const [question, answer] = random.pick(QUERIES[this.#family]);
      const asks = kind === "out" || kind === "in";
      const usual = asks === random.chance(0.95) ? question : answer;
      const type = random.chance(0.06) ? random.pick(OTHER_ICMP[this.#family]) : usual;
      // The node would tell the time.
      const isTime = kind !== "out" && type === 13;
      return { protocol, type: isTime ? 15 : type, code: 0, length };
    }
    return { protocol, length };
  }

  #segment(flags: number, seq: number, acknowledged: number, length: number): Transport {
    return {
      protocol: TCP,
      flags,
      seq: seq >>> 0,
      ack: (flags & ack) === 0 ? 0 : acknowledged >>> 0,
      length,
    };
  }

  /** Mostly the next packet of a connection as it should be. */
  #tcp(exchange: Exchange): Step {
    const { random } = this;
    const sequences = this.#sequences.get(exchange) ?? [1000, 900_000];
    this.#sequences.set(exchange, sequences);
    const stage = this.#stages.get(exchange) ?? 0;
    const isUsual = random.chance(0.9);
    const [side, flags, next] = isUsual
      ? this.#usual(stage)
      : ([random.below(2), random.pick(TCP_FLAGS), stage] as const);
    this.#stages.set(exchange, next);
    const length = (flags & (syn | rst)) === 0 && random.chance(0.4) ? random.pick(LENGTHS) : 0;
    const what = this.#segment(flags, sequences[side]!, sequences[1 - side]!, length);
    sequences[side]! += length + ((flags & (syn | fin)) === 0 ? 0 : 1);
    const kind = side === 0 ? "out" : "answer";
    const { ttl, ...manner } = this.#manner(what);
    // Connection tracking counts what the node drops for its age.
    const isKept = ttl === undefined || (side === 0 && flags !== ack);
    return { kind, exchange, what, manner: isKept ? manner : { ...manner, ttl } };
  }

  /** Who sends what, and where that leads. */
  #usual(stage: number): readonly [side: 0 | 1, flags: number, next: number] {
    const { random } = this;
    switch (stage) {
      case 0:
        return [0, syn, 1];
      case 1:
        return random.chance(0.1) ? [1, rst | ack, 0] : [1, syn | ack, 2];
      case 2:
        return [0, ack, 3];
      case 3: {
        const side = random.chance(0.5) ? 0 : 1;
        if (random.chance(0.25)) return [side, fin | ack, side === 0 ? 4 : 6];
        return random.chance(0.06) ? [side, rst, 0] : [side, ack | psh, 3];
      }
      case 4:
        return random.chance(0.5) ? [1, ack, 5] : [1, fin | ack, 8];
      case 5:
        return [1, fin | ack, 8];
      case 6:
        return random.chance(0.5) ? [0, ack, 7] : [0, fin | ack, 9];
      case 7:
        return [0, fin | ack, 9];
      case 8:
        return [0, ack, random.chance(0.5) ? 0 : 8];
      default:
        return [1, ack, random.chance(0.5) ? 0 : 9];
    }
  }

  #manner(what: Transport): Manner {
    const { random } = this;
    const manner: { -readonly [name in keyof Manner]: Manner[name] } = {};
    if (random.chance(0.05)) manner.ttl = random.pick([1, 1, 2]);
    if (random.chance(0.05)) manner.tos = random.pick([4, 184, 3]);
    if (random.chance(0.3)) manner.mayFragment = true;
    if (random.chance(0.05)) manner.options = this.#options();
    const roll = random.next();
    const isPlain = this.#family === 4 || manner.options === undefined;
    if (roll < 0.06 && what.length > 16 && isPlain) manner.fragments = this.#order();
    else if (roll < 0.16 && (what.protocol === TCP || what.protocol === UDP)) {
      manner.checksum = "partial";
      if (manner.options === undefined && random.chance(0.4) && this.#canSegment(what)) {
        manner.segment = random.pick([100, 500, 1000]);
      }
    } else if (roll < 0.18 && what.protocol === UDP && this.#family === 4) manner.checksum = "zero";
    else if (roll < 0.2) manner.checksum = "bad";
    else if (roll < 0.22) manner.cut = random.below(24);
    return manner;
  }

  #canSegment(what: Transport): boolean {
    return what.length >= 101 && (what.protocol === UDP || (what.flags! & ~(ack | psh)) === 0);
  }

  #options(): number[] {
    const { random } = this;
    if (this.#family === 6) return random.times(1, 3, () => random.pick([0, 60, 60, 43, 51, 60]));
    return random.pick([
      [1, 1, 1, 0],
      [1, 1, 1, 1, 1, 1, 1, 0],
      [7, 7, 4, 0, 0, 0, 0, 0],
      [148, 4, 0, 0],
    ]);
  }

  /** Usually in order; else any. */
  #order(): number[] {
    const { random } = this;
    if (random.chance(0.6))
      return random.pick([
        [0, 1],
        [0, 1, 2],
      ]);
    return random.pick([[1, 0], [2, 0, 1], [0, 2, 1], [0, 0, 1], [0, 1, 1], [1], [0], [2, 1, 0], [0, 2]]);
  }
}
