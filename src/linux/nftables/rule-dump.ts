/**
 * The rules of a dump, put into their chains. Large rulesets are little but rules, so this reads the messages itself:
 * what all rules of a chain share is looked at once, and expressions can be left for later, because a packet leaves
 * most rules at their first condition.
 */
import { attributeLength, NLA_HDRLEN, NLA_TYPE_MASK } from "../netlink/attributes.ts";
import { nfgenmsg } from "../netlink/nfnetlink.ts";
import { align4, DecodeError, Wire } from "../netlink/wire.ts";
import { expression, expressions, type Expression } from "./expressions.ts";
import { ruleAttributes } from "./messages.ts";
import type { Rule } from "./ruleset.ts";
import { hexText, number64 } from "./values.ts";

const { table, chain, handle, expressions: list, notes, compat } = ruleAttributes.table;

/** Where the rules of a chain go; undefined for a chain that nobody wants. */
export type PlaceOf = (
  nfproto: number,
  table: string | undefined,
  chain: string | undefined,
) => Rule[] | undefined;

export class RuleDump {
  /** Family, table and chain of the rule before, as bytes: rules come chain by chain. */
  #prefix = new Uint8Array();
  #place: Rule[] | undefined;
  /** The datagram that is being read, and the copy of it that its rules keep. */
  #datagram: Wire | undefined;
  #copy: Wire | undefined;

  /** @param deferred whether expressions are decoded when they are first asked for */
  constructor(
    readonly placeOf: PlaceOf,
    readonly deferred: boolean,
  ) {}

  /** Takes the payload of one NFT_MSG_NEWRULE. @throws DecodeError */
  add(wire: Wire, start: number, end: number): void {
    if (!beginsWith(wire.bytes, start, end, this.#prefix)) this.#enter(wire, start, end);
    if (this.#place === undefined) return;
    const first = start + align4(nfgenmsg.size);
    try {
      this.#place.push(
        this.deferred
          ? new DeferredRule(this.#keep(wire), first, end)
          : new DeferredRule(wire, first, end).plain(),
      );
    } catch (error) {
      throw error instanceof DecodeError ? error.within("NFT_MSG_NEWRULE") : error;
    }
  }

  /** Finds the place of the rules of another chain. The kernel writes table and chain first. */
  #enter(wire: Wire, start: number, end: number): void {
    let tableName: string | undefined;
    let chainName: string | undefined;
    let at = start + align4(nfgenmsg.size);
    while (at < end && (tableName === undefined || chainName === undefined)) {
      const length = attributeLength(wire, at, end);
      const number = wire.view.getUint16(at + 2, true) & NLA_TYPE_MASK;
      if (number === table.number) tableName = table.codec.read(wire, at + NLA_HDRLEN, at + length);
      if (number === chain.number) chainName = chain.codec.read(wire, at + NLA_HDRLEN, at + length);
      at += align4(length);
    }
    this.#prefix = wire.bytes.slice(start, at);
    this.#place = this.placeOf(wire.bytes[start]!, tableName, chainName);
  }

  /** The receive buffer is overwritten by the next datagram. */
  #keep(wire: Wire): Wire {
    if (this.#copy === undefined || this.#datagram !== wire) {
      this.#datagram = wire;
      this.#copy = new Wire(wire.bytes.slice());
    }
    return this.#copy;
  }
}

/** Every prefix has the family header: an empty one is none. */
function beginsWith(bytes: Uint8Array, start: number, end: number, prefix: Uint8Array): boolean {
  if (prefix.length === 0 || end - start < prefix.length) return false;
  // nfgenmsg.resourceId is the ruleset's generation: the same in the whole dump.
  for (let at = 0; at < prefix.length; at++) if (bytes[start + at] !== prefix[at]) return false;
  return true;
}

/** Whether ASCII text stands in a part of the bytes. */
function holds(bytes: Uint8Array, start: number, end: number, word: string): boolean {
  const first = word.charCodeAt(0);
  const last = end - word.length;
  for (let at = bytes.indexOf(first, start); at >= 0 && at <= last; at = bytes.indexOf(first, at + 1)) {
    let same = 1;
    while (same < word.length && bytes[at + same] === word.charCodeAt(same)) same++;
    if (same === word.length) return true;
  }
  return false;
}

const searched = new WeakMap<Wire, Map<string, boolean>>();

/** The same of a whole datagram: its hundred rules are searched at once. */
function wireHolds(wire: Wire, word: string): boolean {
  let words = searched.get(wire);
  if (words === undefined) searched.set(wire, (words = new Map()));
  const known = words.get(word);
  if (known !== undefined) return known;
  const found = holds(wire.bytes, 0, wire.bytes.length, word);
  words.set(word, found);
  return found;
}

/** A rule over the kernel's bytes: an expression is decoded when it is first asked for. */
class DeferredRule implements Rule {
  readonly handle: number;
  readonly comment?: string;
  readonly userdata?: string;
  readonly compat?: NonNullable<Rule["compat"]>;
  readonly #wire: Wire;
  readonly #decoded: Expression[] = [];
  /** The next expression that is not decoded yet, and where the last one ends. */
  #next = 0;
  #first = 0;
  #end = 0;

  /** @param start of the attributes */
  constructor(wire: Wire, start: number, end: number) {
    this.#wire = wire;
    let number64Read: number | undefined;
    for (let at = start; at < end;) {
      const length = attributeLength(wire, at, end);
      const number = wire.view.getUint16(at + 2, true) & NLA_TYPE_MASK;
      if (number === handle.number) number64Read = number64.read(wire, at + NLA_HDRLEN, at + length);
      else if (number === list.number) {
        this.#next = at + NLA_HDRLEN;
        this.#first = this.#next;
        this.#end = at + length;
      } else if (number === notes.number) {
        const { comment, userdata } = notes.codec.read(wire, at + NLA_HDRLEN, at + length);
        if (comment !== undefined) this.comment = comment;
        if (userdata !== undefined) this.userdata = userdata;
      } else if (number === compat.number) {
        const { protocol = 0, flags = 0 } = compat.codec.read(wire, at + NLA_HDRLEN, at + length);
        this.compat = { protocol, flags };
      }
      at += align4(length);
    }
    if (number64Read === undefined) throw new DecodeError(handle.name, "is missing");
    this.handle = number64Read;
  }

  get expressions(): readonly Expression[] {
    while (this.#next < this.#end) this.#decodeNext();
    return this.#decoded;
  }

  mayHold(word: string): boolean {
    return wireHolds(this.#wire, word) && holds(this.#wire.bytes, this.#first, this.#end, word);
  }

  expressionAt(index: number): Expression | undefined {
    while (this.#decoded.length <= index && this.#next < this.#end) this.#decodeNext();
    return this.#decoded[index];
  }

  /** The same, all decoded. @throws DecodeError */
  plain(): Rule {
    try {
      return this.#with(expressions.read(this.#wire, this.#next, this.#end));
    } catch (error) {
      throw error instanceof DecodeError ? error.within(list.name) : error;
    }
  }

  toJSON(): Rule {
    return this.#with(this.expressions);
  }

  #with(all: readonly Expression[]): Rule {
    const rule: { -readonly [K in keyof Rule]: Rule[K] } = { handle: this.handle, expressions: all };
    if (this.comment !== undefined) rule.comment = this.comment;
    if (this.userdata !== undefined) rule.userdata = this.userdata;
    if (this.compat !== undefined) rule.compat = this.compat;
    return rule;
  }

  /** Nobody is there to refuse the rule any more: what cannot be decoded is an expression that we do not know. */
  #decodeNext(): void {
    const wire = this.#wire;
    const at = this.#next;
    let length = this.#end - at;
    try {
      length = attributeLength(wire, at, this.#end);
      this.#next = at + align4(length);
      this.#decoded.push(expression.read(wire, at + NLA_HDRLEN, at + length));
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      this.#next = at + align4(length);
      this.#decoded.push({ kind: "other", name: error.message, data: hexText(wire.bytes, at, at + length) });
    }
  }
}
