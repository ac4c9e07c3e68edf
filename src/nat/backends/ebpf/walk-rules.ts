/**
 * Which rules may drop a packet of which only the destination, the link and the protocol's family are known: the answers to
 * a pod. Pure. Everything else about it is open, and a rule that asks for that may match or not. An answer is part of a
 * connection (`ct state established`) where tracking has looked at it.
 */
import { ETH_P } from "../../../linux/link-layer.ts";
import { CT_STATE, HOOK_PRIORITY, NFPROTO } from "../../../linux/netfilter.ts";
import { DEEPEST_JUMP } from "../../../linux/nftables/enumerations.ts";
import type { Expression, ExpressionKinded } from "../../../linux/nftables/expressions.ts";
import { RTN } from "../../../linux/route/constants.ts";
import { registerWord } from "../../../linux/nftables/registers.ts";
import type { BaseChain, Chain, NftSet, Rule, SetElement, Table } from "../../../linux/nftables/ruleset.ts";
import type { Verdict } from "../../../linux/nftables/values.ts";
import { bytesOfHex } from "../../../platform/bytes.ts";
import { ipBytes } from "../../../address/ip.ts";
import { matchOf, not, type Answer, type KnownOfPacket } from "./walk-matches.ts";

/** A packet as far as it is known, and what rules may look it up in besides their own tables. */
export interface Arriving extends KnownOfPacket {
  readonly link: { readonly name: string; readonly index: number };
}

/** Who would drop it: a rule, or a chain's policy. */
export interface Dropper {
  readonly table: Table;
  readonly chain: Chain;
  readonly rule?: Rule;
}

/** Everybody who may drop it on the way through a base chain. */
export function droppersIn(
  table: Table,
  chain: Chain & { readonly base: BaseChain },
  packet: Arriving,
): Dropper[] {
  const walk = new Walk(table, chain.base, packet);
  if (walk.enter(chain, 0) === "on" && chain.base.policy === "drop") walk.found.push({ table, chain });
  return walk.found;
}

type Known = number | undefined;

class Walk {
  readonly found: Dropper[] = [];

  constructor(
    private readonly table: Table,
    private readonly base: BaseChain,
    private readonly packet: Arriving,
  ) {}

  /** "ended": for certain accepted or dropped; "on": it comes to the chain's end. */
  enter(chain: Chain, depth: number): "ended" | "on" {
    if (depth > DEEPEST_JUMP) return "on";
    for (const rule of chain.rules) {
      for (const { verdict, sure } of new Run(this.table, this.base, this.packet).verdicts(rule)) {
        switch (verdict.verdict) {
          case "drop":
            this.found.push({ table: this.table, chain, rule });
            if (sure) return "ended";
            break;
          case "jump":
          case "goto": {
            const target = this.table.chains.find(({ name }) => name === verdict.chain);
            const outcome = target === undefined ? "on" : this.enter(target, depth + 1);
            if (sure && (outcome === "ended" || verdict.verdict === "goto")) return outcome;
            break;
          }
          case "return":
            if (sure) return "on";
            break;
          case "continue":
          case "break":
            break;
          default:
            if (sure) return "ended";
        }
      }
    }
    return "on";
  }
}

interface Reached {
  readonly verdict: Verdict;
  readonly sure: boolean;
}

/** One rule. */
class Run {
  readonly #registers: Known[] = [];
  #sure = true;

  constructor(
    private readonly table: Table,
    private readonly base: BaseChain,
    private readonly packet: Arriving,
  ) {}

  /** The verdicts that it may come to; none where it does not match, or has none. */
  verdicts(rule: Rule): readonly Reached[] {
    for (const expression of rule.expressions) {
      if (expression.kind === "reject") return this.#reach({ verdict: "drop" });
      if (expression.kind === "target") {
        if (expression.name === "REJECT") return this.#reach({ verdict: "drop" });
        continue;
      }
      if (expression.kind === "immediate" && "verdict" in expression.data)
        return this.#reach(expression.data);
      if (expression.kind === "lookup" && expression.dreg === 0) return this.#mapped(expression);
      const answer = this.#step(expression);
      if (answer === false) return [];
      if (answer === "maybe") this.#sure = false;
    }
    return [];
  }

  #reach(verdict: Verdict): Reached[] {
    return [{ verdict, sure: this.#sure }];
  }

  #step(expression: Expression): Answer {
    switch (expression.kind) {
      case "payload":
        if (expression.sreg === undefined)
          this.#load(expression.dreg, expression.length, this.#payload(expression));
        return true;
      case "meta":
        if (expression.sreg === undefined) this.#load(expression.dreg, 16, this.#meta(expression.key));
        return true;
      case "ct":
        if (expression.sreg === undefined) this.#load(expression.dreg, 16, this.#ct(expression.key));
        return true;
      case "fib":
        this.#load(expression.dreg, 16, this.#fib(expression));
        return true;
      case "immediate":
        if ("value" in expression.data) this.#load(expression.dreg, 0, bytesOf(expression.data.value));
        return true;
      case "bitwise":
        this.#bitwise(expression);
        return true;
      case "byteorder": {
        const from = this.#bytes(expression.sreg, expression.length);
        const { size } = expression;
        this.#load(
          expression.dreg,
          0,
          from.map((_, at) => from[at - (at % size) + size - 1 - (at % size)]),
        );
        return true;
      }
      case "cmp":
        return this.#compare(expression);
      case "range": {
        const { sreg, op, from, to } = expression;
        const inside = isWithin(this.#bytes(sreg, from.length / 2), bytesOf(from), bytesOf(to));
        return op === "!=" ? not(inside) : inside;
      }
      case "lookup":
        return this.#lookup(expression);
      case "match":
        return matchOf(expression, this.packet, this.#state());
      case "limit":
      case "quota":
      case "connlimit":
      case "osf":
      case "inner":
        return "maybe";
      default: {
        // What loads something else than we know of the packet, or only acts.
        const dreg = "dreg" in expression ? expression.dreg : undefined;
        if (typeof dreg === "number" && dreg !== 0) this.#load(dreg, 16, []);
        return true;
      }
    }
  }

  #load(register: number | undefined, length: number, bytes: readonly Known[]): void {
    if (register === undefined || register === 0) return;
    const start = registerWord(register) * 4;
    for (let at = 0; at < Math.max(length, bytes.length); at++) this.#registers[start + at] = bytes[at];
  }

  #bytes(register: number, length: number): Known[] {
    const start = registerWord(register) * 4;
    return Array.from({ length }, (_, at) => this.#registers[start + at]);
  }

  #payload({ base, offset, length }: ExpressionKinded<"payload">): Known[] {
    const { family, destination } = this.packet;
    const [start, address] = [family === 4 ? 16 : 24, ipBytes(destination)];
    return Array.from({ length }, (_, at) => (base === "network" ? address[offset + at - start] : undefined));
  }

  #meta(key: string): Known[] {
    const { family, link } = this.packet;
    switch (key) {
      case "iifname":
        return Array.from({ length: 16 }, (_, at) => (at < link.name.length ? link.name.charCodeAt(at) : 0));
      case "iif":
        return hostNumber(link.index);
      case "nfproto":
        return [family === 4 ? NFPROTO.ipv4 : NFPROTO.ipv6];
      case "protocol":
        return networkNumber(family === 4 ? ETH_P.ip : ETH_P.ip6);
      default:
        return [];
    }
  }

  #ct(key: string): Known[] {
    if (key !== "state") return [];
    return hostNumber(this.#state());
  }

  #state(): number {
    return this.base.priority > HOOK_PRIORITY.conntrack ? CT_STATE.established : CT_STATE.invalid;
  }

  #fib({ result, flags = [] }: ExpressionKinded<"fib">): Known[] {
    if (result !== "type" || !flags.includes("daddr")) return [];
    return hostNumber(this.packet.isLocal ? RTN.local : RTN.unicast);
  }

  #bitwise({ sreg, dreg, length, op, mask, xor }: ExpressionKinded<"bitwise">): void {
    const from = this.#bytes(sreg, length);
    if ((op ?? "mask-xor") !== "mask-xor" || mask === undefined || xor === undefined) {
      this.#load(dreg, length, []);
      return;
    }
    const [masks, others] = [bytesOf(mask), bytesOf(xor)];
    this.#load(
      dreg,
      0,
      from.map((byte, at) => {
        if (masks[at] === 0) return others[at];
        return byte === undefined ? undefined : (byte & masks[at]!) ^ others[at]!;
      }),
    );
  }

  #compare({ sreg, op, data }: ExpressionKinded<"cmp">): Answer {
    const wanted = bytesOf(data);
    const bytes = this.#bytes(sreg, wanted.length);
    switch (op) {
      case "==":
        return equal(bytes, wanted);
      case "!=":
        return not(equal(bytes, wanted));
      default: {
        const order = compare(bytes, wanted);
        if (order === undefined) return "maybe";
        return op === "<" ? order < 0 : op === "<=" ? order <= 0 : op === ">" ? order > 0 : order >= 0;
      }
    }
  }

  #elements(
    expression: ExpressionKinded<"lookup">,
  ): { readonly element: SetElement; readonly sure: boolean }[] {
    const set = this.table.sets.find(({ name }) => name === expression.set);
    if (set === undefined) return [];
    const key = this.#bytes(expression.sreg, set.keyLength);
    const fitting = set.elements.flatMap((element) => {
      if (element.key === undefined) return [];
      const fits = isElement(key, set, element);
      return fits === false ? [] : [{ element, sure: fits === true }];
    });
    const rest = set.elements.find((element) => element.key === undefined);
    const isSure = fitting.some(({ sure }) => sure);
    return rest === undefined || isSure
      ? fitting
      : [...fitting, { element: rest, sure: fitting.length === 0 }];
  }

  #lookup(expression: ExpressionKinded<"lookup">): Answer {
    const found = this.#elements(expression);
    if (expression.dreg !== undefined) {
      const [only] = found;
      const data = found.length === 1 ? only!.element.data : undefined;
      this.#load(expression.dreg, 16, data !== undefined && "value" in data ? bytesOf(data.value) : []);
    }
    const answer = found.some(({ sure }) => sure) || (found.length > 0 && "maybe");
    return expression.flags?.includes("inv") === true ? not(answer) : answer;
  }

  #mapped(expression: ExpressionKinded<"lookup">): Reached[] {
    return this.#elements(expression).flatMap(({ element, sure }) =>
      element.data !== undefined && "verdict" in element.data
        ? [{ verdict: element.data, sure: this.#sure && sure }]
        : [],
    );
  }
}

function isElement(key: readonly Known[], set: NftSet, { key: first, keyEnd }: SetElement): Answer {
  const from = bytesOf(first!);
  if (keyEnd === undefined) return equal(key, from);
  const to = bytesOf(keyEnd);
  let at = 0;
  let answer: Answer = true;
  for (const length of set.fieldLengths ?? [set.keyLength]) {
    const part = isWithin(key.slice(at, at + length), from.slice(at, at + length), to.slice(at, at + length));
    if (part === false) return false;
    if (part === "maybe") answer = "maybe";
    at += (length + 3) & ~3;
  }
  return answer;
}

function equal(bytes: readonly Known[], wanted: readonly number[]): Answer {
  let answer: Answer = true;
  for (const [at, byte] of wanted.entries()) {
    if (bytes[at] === undefined) answer = "maybe";
    else if (bytes[at] !== byte) return false;
  }
  return answer;
}

function isWithin(bytes: readonly Known[], from: readonly number[], to: readonly number[]): Answer {
  const [above, below] = [compare(bytes, from), compare(bytes, to)];
  return above === undefined || below === undefined ? "maybe" : above >= 0 && below <= 0;
}

/** As memcmp(3); undefined where a byte that decides is not known. */
function compare(bytes: readonly Known[], other: readonly number[]): number | undefined {
  for (const [at, byte] of other.entries()) {
    const known = bytes[at];
    if (known === undefined) return undefined;
    if (known !== byte) return known - byte;
  }
  return 0;
}

function bytesOf(hex: string): number[] {
  return [...bytesOfHex(hex)];
}

function networkNumber(value: number): Known[] {
  return [value >> 8, value & 0xff];
}

function hostNumber(value: number): Known[] {
  return [...new Uint8Array(Uint32Array.of(value).buffer)];
}
