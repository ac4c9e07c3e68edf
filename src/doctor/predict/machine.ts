/**
 * The state of nf_tables' virtual machine while one packet meets one hook: sixteen registers of 4 bytes
 * (NFT_REG32_00…15), the packet, its conntrack entry.
 */
import type { Verdict } from "../../linux/nftables/values.ts";
import { placeText } from "../../linux/nftables/text/place.ts";
import type { Decision } from "./decision.ts";
import { headersOf, type Headers } from "./headers.ts";
import type { Zone } from "../../linux/netfilter.ts";
import type { Flow, FlowTimeouts } from "./flow.ts";
import type { IpsecPolicy } from "../../linux/xfrm.ts";
import type { DoubtSubject, Oracle, Unforeseen } from "./oracle.ts";
import type { Packet } from "./packet.ts";
import type { NodeView } from "./view.ts";

const REGISTER_BYTES = 64 + 16;

/** A mark, and the rule that gave it to the packet. */
export interface GivenMark {
  readonly mark: number;
  readonly by: Decision;
}

/** Everything that one hook call has to look at. */
export class Machine {
  readonly registers = new Uint8Array(REGISTER_BYTES);
  /** Why the 4 bytes of a register are unknown; undefined when they are known. */
  readonly unknown: (Unforeseen | undefined)[] = [];
  /** What other packets of the same flow, or the same packet at another time, have instead of a register's value. */
  readonly differing: (Differing | undefined)[] = [];
  #headers: Headers | undefined;
  #headersOf: Packet | undefined;

  constructor(
    readonly view: NodeView,
    readonly oracle: Oracle,
    public packet: Packet,
    /** The conntrack entry; undefined before conntrack has seen the packet and for untracked ones. */
    public flow: Flow | undefined,
    public hook: string,
    /** The flow that an answer belongs to; conntrack finds it when the answer comes by. */
    readonly answered?: Flow,
  ) {}

  /** The rule being evaluated; only what has something to tell asks, so that it is not made for every rule. */
  here: (() => Decision) | undefined;
  /** The rule that keeps the packet out of connection tracking. */
  untrackedBy: Decision | undefined;
  /**
   * The conntrack zone that a rule chose for the packet before conntrack looked at it, and the rule. The first decides:
   * it leaves a template with the packet, and who finds one changes nothing.
   */
  zone: Zone | undefined;
  zonedBy: Decision | undefined;
  /** Timeouts that a rule wants for the flow which conntrack has still to begin. */
  timeouts: FlowTimeouts | undefined;
  /** Conntrack has looked at the packet: the template is gone, whatever came of it. */
  isLookedAt = false;
  /** The answer began a flow of its own for which conntrack has no room beside that one. */
  clashes = false;
  /** The flow that an answer belongs to and that conntrack did not find: it looked in another zone. */
  lostFlow: Flow | undefined;
  /** The marks that rules gave it one after the other; what nobody can foresee is none of them. */
  readonly marks: GivenMark[] = [];
  /** The rule that set the mark, and the one that set the TTL. */
  markedBy: Decision | undefined;
  ttlBy: Decision | undefined;
  /** The rule that hands the packet to a local socket, whatever its destination (TPROXY). */
  takenBy: Decision | undefined;
  /** The same, where the socket is lost again on the way. */
  forgottenBy: Decision | undefined;
  /** The IPsec policy that will encrypt what leaves: `-m policy --dir out`, `rt ipsec exists`. */
  encryptedBy: IpsecPolicy | undefined;
  /** The one by which the packet was decrypted when it came in. */
  decryptedBy: IpsecPolicy | undefined;
  /** A chain of type route has changed what routing looks at (NF_HOOK of mangle OUTPUT: ip_route_me_harder). */
  rerouted = false;
  /** Who sends, where it is a process of this namespace whose user is known. */
  sender: Sender | undefined;
  /** Why the packet's mark cannot be foreseen, once a rule has set it to something unknown. */
  unknownMark: Unforeseen | undefined;
  /** Gateway of the chosen route; absent before routing and on-link. */
  nextHop: string | undefined;
  /** Set by a nat statement: what the flow shall become. */
  wanted: NatRange | undefined;

  /** A rule sets the packet's mark (xt_MARK, nft_meta). */
  setMark(mark: number): void {
    this.markedBy = this.here?.();
    if (this.markedBy !== undefined) this.marks.push({ mark: mark >>> 0, by: this.markedBy });
    this.packet = { ...this.packet, mark: mark >>> 0 };
  }

  get headers(): Headers {
    if (this.#headersOf !== this.packet) {
      this.#headers = headersOf(this.packet);
      this.#headersOf = this.packet;
    }
    return this.#headers!;
  }

  /** Stores bytes in a register; the rest of its last 4 bytes becomes zero, as nft_reg_store8 and 16 do. */
  store(word: number, bytes: ArrayLike<number>): void {
    this.storePart(word, bytes, 0, bytes.length);
  }

  /** The same for the `length` bytes at `offset`. */
  storePart(word: number, bytes: ArrayLike<number>, offset: number, length: number): void {
    const { registers } = this;
    const start = word * 4;
    const end = start + ((length + 3) & ~3);
    // By hand: these are a few bytes, and TypedArray.set and fill are calls out of compiled code.
    for (let at = 0; at < length; at++) registers[start + at] = bytes[offset + at]!;
    for (let at = start + length; at < end; at++) registers[at] = 0;
    for (let at = word; at * 4 < end; at++) this.unknown[at] = undefined;
    if (this.differing.length > 0) this.differing.length = 0;
  }

  storeNumber(word: number, value: number): void {
    const start = word * 4;
    this.registers[start] = value & 0xff;
    this.registers[start + 1] = (value >>> 8) & 0xff;
    this.registers[start + 2] = (value >>> 16) & 0xff;
    this.registers[start + 3] = value >>> 24;
    this.unknown[word] = undefined;
    if (this.differing.length > 0) this.differing.length = 0;
  }

  /** Says of the value that was stored last that it is not that of every packet. */
  differs(word: number, differing: Differing): void {
    this.differing[word] = differing;
  }

  /** Marks a register as holding something nobody can know. */
  storeUnknown(word: number, length: number, what: string | Unforeseen): void {
    const unforeseen = typeof what === "string" ? { why: what } : what;
    for (let at = word; at * 4 < word * 4 + length; at++) this.unknown[at] = unforeseen;
  }

  load(word: number, length: number): Uint8Array {
    return this.registers.subarray(word * 4, word * 4 + length);
  }

  loadNumber(word: number): number {
    const start = word * 4;
    const r = this.registers;
    return (r[start]! | (r[start + 1]! << 8) | (r[start + 2]! << 16) | (r[start + 3]! << 24)) >>> 0;
  }

  /** At most 4 bytes as the packet has its numbers, the first the most significant. */
  loadBigEndian(word: number, length: number): number {
    const start = word * 4;
    let value = 0;
    for (let at = 0; at < length; at++) value = value * 256 + this.registers[start + at]!;
    return value;
  }

  /** Why any of these bytes is unknown; undefined when all are known. */
  whyUnknown(word: number, length: number): Unforeseen | undefined {
    for (let at = word; at * 4 < word * 4 + length; at++) {
      if (this.unknown[at] !== undefined) return this.unknown[at];
    }
    return undefined;
  }

  /** Whether conntrack, or a rule in front of it, has already said something about the packet. */
  get isTrackingDecided(): boolean {
    return this.flow !== undefined || this.zone !== undefined || this.packet.state === "untracked";
  }

  /** A yes-or-no question nobody can answer beforehand. */
  ask(about: string, likely?: boolean, share?: number, of?: DoubtSubject): boolean {
    const at = this.here?.();
    const placed = at === undefined ? about : `${about} (${placeText(at.table, at.chain, at.rule)})`;
    return this.oracle.ask(placed, likely, share, of, at);
  }
}

/** What a value depends on beside the flow. */
export interface Differing {
  /** `the time of day`. */
  readonly about: string;
  readonly of: DoubtSubject;
  /** The value that it is compared with, as a person writes it. */
  readonly text: (bytes: Uint8Array) => string;
}

/** The process whose socket sends the packet. */
export interface Sender {
  readonly uid: number;
  readonly gid: number;
}

/** What a nat statement asks for, as far as it is known: struct nf_nat_range2. */
export interface NatRange {
  readonly manip: "source" | "destination";
  /** Absent: the address stays (only the port changes). */
  readonly first?: string;
  readonly last?: string;
  readonly firstPort?: number;
  readonly lastPort?: number;
  /** The statement as nft writes it: `masquerade`, `snat to 203.0.113.9`. */
  readonly text: string;
  /** NETMAP: the host part stays. */
  readonly netmap: boolean;
  /** Why the address cannot be foreseen. */
  readonly unknown?: string;
  /** The address shall be the outgoing interface's own. */
  readonly masquerade: boolean;
  /** The address shall be the incoming interface's own (REDIRECT). */
  readonly redirect: boolean;
}

/** What one expression did: go on, the rule does not match, or a verdict. */
export const CONTINUE = 0;
export const BREAK = 1;
export type StepResult = typeof CONTINUE | typeof BREAK | StepVerdict;

/** A verdict that ends a rule. */
export interface StepVerdict {
  readonly verdict: Verdict["verdict"];
  readonly chain?: string;
  /** What was done besides: `masquerade`, `reject with tcp reset`. */
  readonly action?: string;
}

/** One expression, ready to run. */
export type Step = (machine: Machine) => StepResult;
